"""The door to PC/SC on the real pcscd, with software cards in its virtual readers."""

import contextlib
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cards import atr, pcsc
from cards.application import DEFAULT_AID
from cards.errors import (
    AtrError,
    CardInUseError,
    CardRemovedError,
    NoCardError,
    NoReaderError,
    PermissionDeniedError,
    ServiceError,
    UnknownCardError,
)
from cards.readers.pool import ReaderPool
from cards.readers.state import CardPresence, ReaderEvent, ReaderEventKind
from cards.readers.watch import ReaderWatch
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.plan import Right
from tests.support.cards import ADDRESS, NOW, WORDS, ecm, emm
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]


class Impostor:
    """A card whose behaviour a test decides."""

    def __init__(self, atr=b"\x3b\x80\x80\x01\x01", answer=lambda command: b"\x6a\x82"):
        self.atr = atr
        self.process = answer
        self.resets = 0

    def reset(self):
        self.resets += 1


def test_a_card_put_in_is_seen_with_its_answer_to_reset_and_gone_when_taken_out(pcscd, make_card, insert):
    card = make_card(ADDRESS)
    slot = insert(card)
    first, second = pcsc.list_readers()
    assert (first.name, first.presence, first.atr) == (pcscd.readers[0], CardPresence.PRESENT, card.atr)
    assert (second.name, second.presence, second.atr) == (pcscd.readers[1], CardPresence.EMPTY, b"")
    slot.remove()
    wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.EMPTY, what="the card to be gone")


def test_a_card_takes_its_emm_and_opens_the_channel_through_the_reader(pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    products = [Right(product, 0) for product in range(1, 51)]
    with pcsc.connect(pcscd.readers[0]) as connection, connection.transaction():
        session = CardSession(connection.transmit)
        assert connection.protocol == "T=1"
        sections = emm(*products)
        assert [session.process_emm(section) for section in sections][-1] is StatusWord.OK
        assert session.process_ecm(ecm(50)).words == WORDS
        info = session.read_info()  # its list of rights needs GET RESPONSE
    assert (info.address, len(info.rights), info.last_ecm_time) == (ADDRESS, 50, NOW)


def test_a_reset_deselects_the_application(pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    with pcsc.connect(pcscd.readers[0]) as connection:
        CardSession(connection.transmit)
        connection.reset()
        assert connection.transmit(bytes.fromhex("80CADF2000")) == b"\x69\x85"


def test_no_reader_of_that_name_and_no_card_are_told_apart(pcscd):
    with pytest.raises(NoReaderError, match=pcscd.readers[0]), pcsc.connect("none of these"):
        pass
    with pytest.raises(NoCardError), pcsc.connect(pcscd.readers[0]):
        pass


def test_a_card_used_alone_by_another_program_is_told(pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    with (
        pcsc.connect(pcscd.readers[0], exclusive=True),
        pytest.raises(CardInUseError, match="another program"),
        pcsc.connect(pcscd.readers[0]),
    ):
        pass
    with pcsc.connect(pcscd.readers[0]) as connection:
        assert connection.atr()


def test_a_transaction_keeps_another_program_waiting(pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    order: list[str] = []

    def other() -> None:
        with pcsc.connect(pcscd.readers[0]) as connection, connection.transaction():
            order.append("other")

    with pcsc.connect(pcscd.readers[0]) as connection:
        with connection.transaction():
            thread = threading.Thread(target=other)
            thread.start()
            time.sleep(0.3)
            connection.transmit(bytes.fromhex("00A40400"))
            order.append("first")
        thread.join(10)
    assert order == ["first", "other"]


def test_a_card_wanted_alone_is_refused_while_another_program_is_connected(pcscd, make_card, insert):
    insert(make_card(ADDRESS))
    with (
        pcsc.connect(pcscd.readers[0]),
        pytest.raises(CardInUseError, match="needs it alone") as caught,
        pcsc.connect(pcscd.readers[0], exclusive=True),
    ):
        pass
    assert "close the other program" in caught.value.advice


@contextlib.contextmanager
def connected(name: str, wait_s: float):
    with pcsc.Context() as context, context.connect(name, wait_s=wait_s) as connection:
        yield connection


@pytest.mark.parametrize("connected_before", [False, True])
def test_a_program_that_does_not_let_go_of_the_card_is_not_waited_for_without_end(
    pcscd, make_card, insert, connected_before
):
    """Who gives up is told so, does not hang, and does not keep the card once it would be his turn."""
    insert(make_card(ADDRESS))
    name = pcscd.readers[0]
    with pcsc.connect(name) as other, contextlib.ExitStack() as before:
        if connected_before:
            waiting = before.enter_context(pcsc.connect(name))
        with other.transaction():
            late = waiting.transaction(wait_s=0.2) if connected_before else connected(name, wait_s=0.2)
            with pytest.raises(CardInUseError, match="another program uses the card alone"):
                before.enter_context(late)
            assert CardSession(other.transmit).read_info().address == ADDRESS
        wait_until(lambda: pcsc.PATIENCE_NAME not in [t.name for t in threading.enumerate()], what="his turn to pass")
        for _ in range(2):
            with pcsc.connect(name) as connection, connection.transaction():
                assert CardSession(connection.transmit).read_info().address == ADDRESS


def test_a_card_pulled_in_the_middle_of_a_command_says_removed_at_once_and_ever_after(pcscd, insert):
    slots = []
    card = Impostor()
    card.process = lambda command: (slots[0].pull(), b"\x90\x00")[1]
    slots.append(insert(card))
    with pcsc.connect(pcscd.readers[0]) as connection:
        for _ in range(3):
            with pytest.raises(CardRemovedError, match="taken out during the command") as caught:
                connection.transmit(bytes.fromhex("00A40400"))
            assert "put the card in again" in caught.value.advice
            assert caught.value.code == 0x8010_0069
            time.sleep(0.3)


def test_after_a_pull_the_card_can_be_put_in_and_used_again(pcscd, make_card, insert):
    card = make_card(ADDRESS)
    slot = insert(card)
    with pcsc.connect(pcscd.readers[0]) as connection:
        CardSession(connection.transmit)
        slot.remove()
        with pytest.raises(CardRemovedError):
            connection.transmit(bytes.fromhex("80CADF2000"))
    wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.EMPTY, what="the card to be gone")
    insert(card)
    with pcsc.connect(pcscd.readers[0]) as connection:
        assert CardSession(connection.transmit).read_info().address == ADDRESS


def test_a_card_whose_answer_to_reset_makes_no_sense_is_an_unknown_card(pcscd, insert):
    insert(Impostor(atr=b"\x12\x34"))
    with pytest.raises(UnknownCardError), pcsc.connect(pcscd.readers[0]):
        pass


def test_two_readers_work_side_by_side_each_on_its_own_thread(pcscd, insert):
    meeting = threading.Barrier(2, timeout=10)

    def answer(command: bytes) -> bytes:
        meeting.wait()  # passes only when both cards are in a command at the same time
        return b"\x90\x00"

    for slot in (0, 1):
        insert(Impostor(answer=answer), slot)

    def work(connection: pcsc.Connection) -> list[bytes]:
        return [connection.transmit(bytes.fromhex("80100000")) for _ in range(50)]

    with ReaderPool(pcsc.connect) as pool:
        jobs = [pool.submit(reader, work) for reader in pcscd.readers]
        assert [job.result(20) for job in jobs] == [[b"\x90\x00"] * 50] * 2


def test_commands_do_not_wait_for_delayed_acknowledgements(pcscd, insert):
    insert(Impostor(answer=lambda command: b"\x90\x00"))
    with pcsc.connect(pcscd.readers[0]) as connection:
        begin = time.monotonic()
        for _ in range(200):
            connection.transmit(bytes.fromhex("80100000"))
        # Without TCP_QUICKACK each takes 40 ms: 8 s.
        assert time.monotonic() - begin < 4


def test_a_watcher_outlives_pcscd_and_so_does_the_card(pcscd, make_card, insert):
    events: list[ReaderEvent] = []
    card = make_card(ADDRESS)

    def kinds(reader: str = "") -> list[str]:
        return [event.kind.value for event in events if event.reader == reader]

    with ReaderWatch(pcsc.Context, events.append):
        wait_until(lambda: len(events) == 2, what="both readers to be told")
        slot = insert(card, keep=True)
        wait_until(lambda: "card-inserted" in kinds(pcscd.readers[0]), what="the card to be told")
        with pcsc.connect(pcscd.readers[0]) as connection:
            pcscd.kill()
            with pytest.raises(ServiceError, match="PC/SC service"):
                connection.transmit(bytes.fromhex("80CADF2000"))
        wait_until(lambda: "service-lost" in kinds(), what="the loss to be told")
        with pytest.raises(ServiceError, match="does not answer"):
            pcsc.list_readers()
        time.sleep(0.5)
        pcscd.start()
        wait_until(lambda: kinds(pcscd.readers[0])[-1:] == ["card-inserted"], what="the card to be back")
        with pcsc.connect(pcscd.readers[0]) as connection:
            assert CardSession(connection.transmit).read_info().address == ADDRESS
        slot.remove()
        wait_until(lambda: kinds(pcscd.readers[0])[-1:] == ["card-removed"], what="the card to be gone")
    assert kinds() == ["service-lost", "service-back"]
    assert kinds(pcscd.readers[1]) == ["reader-added", "reader-removed", "reader-added"]
    once = ["card-inserted", "card-removed"]
    assert kinds(pcscd.readers[0]) == ["reader-added", *once, "reader-removed", "reader-added", *once]
    lost = next(event for event in events if event.kind is ReaderEventKind.SERVICE_LOST)
    assert lost.advice


def test_a_quick_change_of_cards_is_told_as_removal_and_insertion(pcscd, make_card, insert):
    events: list[ReaderEvent] = []
    with ReaderWatch(pcsc.Context, events.append):
        insert(make_card(ADDRESS)).remove()
        wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.EMPTY, what="the first card to be gone")
        insert(make_card(ADDRESS + 1))
        wait_until(lambda: [e.kind.value for e in events].count("card-inserted") == 2, what="the second card")
    told = [event.kind.value for event in events if event.kind.value.startswith("card")]
    assert told == ["card-inserted", "card-removed", "card-inserted"]


def test_a_socket_that_this_user_may_not_use_is_a_matter_of_permission(pcscd, monkeypatch):
    # Root may use every socket, so the question is put to the kernel in the name of another.
    monkeypatch.setattr("cards.readers.codes.os.access", lambda path, mode: False)
    pcscd.kill()
    with pytest.raises(PermissionDeniedError, match="may not use the socket"):
        pcsc.list_readers()


def test_pcsc_tools_read_our_answer_to_reset_as_we_mean_it(tmp_path):
    (tmp_path / "bin").mkdir()  # without wget the tool cannot ask the network for a newer list
    done = subprocess.run(
        ["/usr/bin/perl", "/usr/bin/ATR_analysis", atr.build(DEFAULT_AID).hex(" ")],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
    )
    assert "(correct checksum)" in done.stdout
    assert "Extended Lc and Le fields" in done.stdout
    assert f"Application identifier: {DEFAULT_AID.hex(' ').upper()}" in done.stdout


def test_the_answers_to_reset_of_the_worlds_cards_are_read():
    listed = Path("/usr/share/pcsc/smartcard_list.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    whole = [line for line in map(str.strip, listed) if re.fullmatch("3[BF]( [0-9A-F]{2})+", line)]
    refused = []
    for line in whole:
        try:
            atr.parse(bytes.fromhex(line))
        except AtrError:
            refused.append(line)
    assert len(whole) > 3000
    # The list also holds answers that are cut, or have a wrong check character.
    assert len(refused) < len(whole) * 0.03
