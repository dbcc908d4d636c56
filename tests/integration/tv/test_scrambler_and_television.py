"""The parts of the proof by themselves: cipher, scrambler, television. Needs libdvbcsa."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from cards.application import CardApplication
from emm.ecm import Parity
from emm.plan import Right
from protocol.control_word import with_checksums
from tests.support.cards import ADDRESS, blank_card, ecm, emm
from tests.tools.tv import packets as tv
from tests.tools.tv.csa import Key, fresh_word, ready_word
from tests.tools.tv.on_air import CAT_PID, ECM_PID, EMM_PID, OnAir
from tests.tools.tv.scrambler import Scrambler
from tests.tools.tv.television import Receiver
from tests.tools.tv.viewing_card import ViewingCard

pytestmark = pytest.mark.integration

CA, SERVICE_ID, PRODUCT = 0x4AD1, 7, 3
PMT_PID, VIDEO_PID = 0x100, 0x101
PAT = tv._seal(bytes.fromhex("00 0000 0001 C1 00 00 0007 E100".replace(" ", "")))
PMT = tv._seal(bytes.fromhex("02 0000 0007 C1 00 00 E101 F000 02 E101 F000".replace(" ", "")))


def packet(number: int, payload: int = 184, start: bool = False) -> bytes:
    """A packet of video; one with an adaptation field that starts a unit is one to begin with."""
    head = bytes([0x47, (0x40 if start else 0) | VIDEO_PID >> 8, VIDEO_PID & 0xFF])
    if payload == 184:
        return head + bytes([0x10 | number % 16]) + bytes([number % 256]) * 184
    field = bytes([183 - payload]) + (b"\x40" if start else b"\0")[: 183 - payload]
    control = 0x30 if payload else 0x20
    return (head + bytes([control | number % 16]) + field).ljust(188 - payload, b"\xff") + bytes(
        [number % 256]
    ) * payload


@pytest.mark.parametrize("payload", [184, 183, 100, 15, 9, 8])
@pytest.mark.parametrize("parity", [tv.EVEN, tv.ODD])
def test_what_is_scrambled_is_descrambled(payload: int, parity: int) -> None:
    key, plain = Key(ready_word(fresh_word())), packet(5, payload)
    scrambled = key.scramble(plain, parity)
    at = 188 - payload
    assert tv.scrambling(scrambled) == parity
    assert scrambled[:3] + scrambled[4:at] == plain[:3] + plain[4:at]
    assert scrambled[at:] != plain[at:]
    assert key.descramble(scrambled) == plain
    assert Key(ready_word(fresh_word())).descramble(scrambled) != plain


@pytest.mark.parametrize("payload", [7, 1])
def test_less_than_a_block_is_marked_and_left_as_it_is(payload: int) -> None:
    plain = packet(5, payload)
    assert tv.set_scrambling(Key(bytes(8)).scramble(plain, tv.ODD), 0) == plain


def test_a_packet_without_payload_is_not_marked() -> None:
    assert Key(bytes(8)).scramble(packet(5, 0), tv.ODD) == packet(5, 0)


def test_words_come_without_checksums_and_get_them_as_the_headend_sets_them() -> None:
    words = [fresh_word() for _ in range(50)]
    assert len(set(words)) == 50
    assert all(word[3] == word[7] == 0 for word in words)
    assert [ready_word(word) for word in words] == [with_checksums(word) for word in words]


class Orders:
    """An ECMG on a string."""

    def __init__(self) -> None:
        self.made: list[tuple[int, dict[int, bytes]]] = []
        self.late: asyncio.Event | None = None
        self.untoggled = False

    async def __call__(self, number: int, words: Sequence[tuple[int, bytes]]) -> bytes:
        if self.late is not None:
            await self.late.wait()
        self.made.append((number, dict(words)))
        parity = 1 - number % 2 if self.untoggled else number % 2
        return ecm(PRODUCT, parity=Parity(0x80 | parity), words=[word for _, word in words])


async def run(scrambler: Scrambler, since: float, until: float) -> None:
    for eighth in range(int((until - since) * 8)):
        scrambler.advance(since + eighth / 8)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_each_ecm_holds_its_word_and_the_next_and_the_number_wraps() -> None:
    orders = Orders()
    scrambler = Scrambler(orders, 2.0, 0.2, 65_534)
    await scrambler.prepare()
    await run(scrambler, 0.0, 7.0)
    assert [number for number, _ in orders.made] == [65_534, 65_535, 0, 1]
    assert [sorted(words) for _, words in orders.made] == [[65_534, 65_535], [0, 65_535], [0, 1], [1, 2]]
    for (number, words), (_, following) in itertools.pairwise(orders.made):
        shared = (number + 1) % 65_536
        assert words[shared] == following[shared]
    assert [one.parity for one in scrambler.history] == [tv.EVEN, tv.ODD, tv.EVEN, tv.ODD]
    assert [round(one.began) for one in scrambler.history] == [0, 2, 4, 6]
    assert [one.ordered for one in scrambler.history] == [0, 1.5, 3.5, 5.5]
    assert scrambler.extended == 0
    scrambler.close()


async def test_an_ecm_goes_on_the_air_after_delay_start() -> None:
    scrambler = Scrambler(Orders(), 2.0, 0.2)
    await scrambler.prepare()
    await run(scrambler, 0.0, 3.0)
    first, second = (one.ecm for one in scrambler.history)
    assert scrambler.ecm(0.1) is None
    assert [scrambler.ecm(at) for at in (0.2, 1.9, 2.1, 2.3)] == [first, first, first, second]
    scrambler.close()


async def test_a_late_ecm_extends_the_crypto_period() -> None:
    orders = Orders()
    scrambler = Scrambler(orders, 2.0, 0.2)
    await scrambler.prepare()
    orders.late = asyncio.Event()
    await run(scrambler, 0.0, 3.0)
    assert len(scrambler.history) == 1
    assert scrambler.extended == 1
    orders.late.set()
    await run(scrambler, 3.0, 3.5)
    assert [round(one.began) for one in scrambler.history] == [0, 3]
    scrambler.close()


async def test_an_ecm_that_does_not_toggle_changes_nothing() -> None:
    orders = Orders()
    scrambler = Scrambler(orders, 2.0, 0.2)
    await scrambler.prepare()
    orders.untoggled = True
    await run(scrambler, 0.0, 9.0)
    assert len(scrambler.history) == 1
    assert scrambler.extended == 1
    scrambler.close()


async def test_what_the_ecmg_refuses_is_not_swallowed() -> None:
    async def refuse(number: int, words: Sequence[tuple[int, bytes]]) -> bytes:
        if number:
            raise ConnectionError("the ECMG closed")
        return ecm(PRODUCT, parity=Parity.EVEN)

    scrambler = Scrambler(refuse, 2.0, 0.2)
    await scrambler.prepare()
    with pytest.raises(ConnectionError, match="the ECMG closed"):
        await run(scrambler, 0.0, 3.0)


class Times:
    """A stream of tables and video, a scrambler with two words, and a television with a card."""

    def __init__(self, card: CardApplication) -> None:
        self.words = [fresh_word(), fresh_word()]
        self.keys = [Key(ready_word(word)) for word in self.words]
        self.receiver = Receiver(CA, SERVICE_ID, ViewingCard(card.process), clock=lambda: self.now)
        self.now = 0.0
        self._make = {pid: tv.SectionPackets(pid) for pid in (0, CAT_PID, PMT_PID, EMM_PID, ECM_PID)}
        self.sections(0, PAT)
        self.sections(CAT_PID, tv.cat_section(tv.ca_descriptor(CA, EMM_PID)))
        self.sections(PMT_PID, tv.with_ca_descriptor(PMT, tv.ca_descriptor(CA, ECM_PID)))

    def sections(self, pid: int, *sections: bytes) -> None:
        self.now += 1
        for section in sections:
            self.receiver.feed(self._make[pid](section))

    def ecm(self, parity: Parity) -> None:
        first = parity & 1
        self.sections(ECM_PID, ecm(PRODUCT, parity=parity, words=[self.words[first], self.words[1 - first]]))

    def video(self, plain: bytes, parity: int) -> None:
        self.now += 1
        self.receiver.feed([self.keys[parity - tv.EVEN].scramble(plain, parity)])


def test_a_television_shows_what_its_card_opens_and_nothing_before() -> None:
    times = Times(blank_card())
    receiver = times.receiver
    assert receiver.service is not None
    times.ecm(Parity.EVEN)
    times.video(packet(0), tv.EVEN)
    assert (len(receiver.dark), receiver.clear, dict(receiver.refusals)) == (1, [], {0x9206: 1})
    times.sections(EMM_PID, *emm(Right(PRODUCT, 0), address=ADDRESS + 1))
    times.ecm(Parity.EVEN)
    times.video(packet(1), tv.EVEN)
    assert (len(receiver.dark), receiver.clear) == (2, [])
    times.sections(EMM_PID, *emm(Right(PRODUCT, 0)))
    assert receiver.right_at == times.now
    # The same ECM once more: it was refused before, and opens now.
    times.ecm(Parity.EVEN)
    assert receiver.opened_at == times.now
    shown = [packet(2), packet(3), packet(4, 100, start=True)]
    for plain in shown[:2]:
        times.video(plain, tv.EVEN)
    assert receiver.picture_at is None
    # The other word came with the same ECM.
    times.video(shown[2], tv.ODD)
    assert receiver.picture_at == times.now
    assert receiver.clear == shown
    assert receiver.recording.endswith(b"".join(shown))
    assert dict(receiver.counts) == {
        "ECMs heard": 3,
        "EMMs heard": 2,
        "EMMs for this card": 1,
        "ECMs opened": 1,
    }


def test_a_television_goes_dark_when_the_card_refuses() -> None:
    card = blank_card()
    times = Times(card)
    times.sections(EMM_PID, *emm(Right(PRODUCT, 0)))
    times.ecm(Parity.EVEN)
    times.video(packet(0), tv.EVEN)
    times.sections(EMM_PID, *emm(revision=2))
    times.ecm(Parity.EVEN)
    times.video(packet(1), tv.EVEN)
    assert times.receiver.clear == [packet(0)]
    assert len(times.receiver.dark) == 1


async def test_the_stream_keeps_its_places_and_puts_tables_where_nothing_was() -> None:
    make = {0: tv.SectionPackets(0), PMT_PID: tv.SectionPackets(PMT_PID)}
    service: list[bytes] = []
    for number in range(300):
        if number % 30 == 0:
            service += make[0](PAT) + make[PMT_PID](PMT)
        service += [packet(number), tv.null_packet(), tv.null_packet()]
    scrambler = Scrambler(Orders(), 2.0, 0.0)
    await scrambler.prepare()
    handed = [list(emm(Right(PRODUCT, 0))), []]
    air = OnAir(b"".join(service), scrambler, CA, lambda: handed.pop(0) if handed else [])
    heard: list[bytes] = []
    air.receivers.append(heard.append)
    for step in range(100):
        air.send(until=step / 50)
    assert b"".join(heard) == b"".join(air.packets)
    assert len(air.packets) == len(service)
    for before, after in zip(service, air.packets, strict=True):
        assert tv.pid_of(before) in (tv.NULL_PID, tv.pid_of(after))
    pids = [tv.pid_of(one) for one in air.packets]
    assert pids.count(EMM_PID) == air.emms_sent == 1
    assert pids.count(CAT_PID) >= air.duration_s / 0.3
    assert pids.count(ECM_PID) >= air.duration_s / 0.2
    receiver = Receiver(CA, SERVICE_ID, ViewingCard(blank_card().process))
    receiver.feed(air.packets)
    assert receiver.clear[-1] == packet(299)
    scrambler.close()
