"""Chips that are not to be used, what the line of readers does about them, and no secret anywhere."""

import contextlib
import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cad.cli.cards.batch_view import JsonView, LineView, Pace
from cad.errors import NumbersUsedUpError
from cad.stock import results
from cad.stock.journal import Journal
from cad.stock.labels import SHEETS, render
from cad.stock.line import ASIDE_IN_A_ROW_MAX, Happening, News, ProductionLine, TooManyAsideError
from cad.stock.maker import MadeCard, Maker, PutAsideError
from cards.application import DEFAULT_AID
from cards.errors import CardRefusedError, CardRemovedError
from cards.globalplatform.chip import Chip
from cards.globalplatform.errors import KeySetUnknownError
from cards.globalplatform.scp03.keys import INITIAL_VERSION
from cards.readers.state import ReaderEvent, ReaderEventKind
from emm.keys import LocalMasterKey
from protocol import card_number
from tests.support.globalplatform import POLICY, TRANSPORT, static_keys
from tests.support.ledgers import open_store
from tests.support.stock import MASTER, StoreNumbers, Workshop, chip_in, delivery, order, serial, vendor_file


@pytest.fixture
def shop(tmp_path: Path):
    made = Workshop(tmp_path, open_store(tmp_path / "state"), [chip_in(tmp_path, number) for number in range(4)])
    yield made
    made.store.close()
    for chip in made.chips:
        chip.close()


@pytest.fixture
def journal(shop: Workshop):
    with Journal.open(shop.journal_path, lambda: "2027-01-15T08:00:00Z") as opened:
        yield opened


def tries(chip: Chip) -> list[int]:
    return [one.tries_left for one in chip.state.key_sets]


def initialize_updates(heard: list[bytes]) -> int:
    return sum(command[:2] == b"\x80\x50" for command in heard)


def wrong_delivery(shop: Workshop):
    """A delivery file with other keys than the chips have."""
    made = delivery(0)
    for number in range(len(shop.chips)):
        made.put(serial(number).hex().upper(), static_keys(TRANSPORT, serial(number), salt=b"wrong"))
    return made


@pytest.mark.slow
def test_a_wrong_key_is_tried_once_and_not_again_without_a_persons_word(shop: Workshop, journal: Journal) -> None:
    maker = shop.maker(journal)
    maker._delivery = wrong_delivery(shop)
    maker._terms = replace(maker._terms, key_ring=maker._delivery)
    heard: list[bytes] = []

    def transmit(command: bytes) -> bytes:
        heard.append(command)
        return shop.chips[0].process(command)

    for _ in range(3):
        with pytest.raises(PutAsideError):
            maker.make(transmit, "reader")
        shop.chips[0].reset()
    assert initialize_updates(heard) == 1
    assert tries(shop.chips[0]) == [10]
    journal.close()
    with Journal.open(shop.journal_path, lambda: "") as again:
        with pytest.raises(PutAsideError, match="was put aside: our key set 30 is not the one on this card"):
            shop.maker(again).make(shop.chips[0].process, "reader")
        made = shop.maker(again, again=True).make(shop.chips[0].process, "reader")
        assert made.address == 0
        assert again.chips[made.serial].aside is None


@pytest.mark.slow
def test_foreign_chips_cost_no_number(shop: Workshop, journal: Journal, tmp_path: Path) -> None:
    maker = shop.maker(journal)
    stranger = chip_in(tmp_path, 99)
    with pytest.raises(PutAsideError, match="is not in delivery D-17"):
        maker.make(stranger.process, "reader")
    blank_place = tmp_path / "blank"
    blank_place.mkdir()
    blank = Chip.create(blank_place, serial(3), static_keys(INITIAL_VERSION, serial(3)), POLICY)
    with pytest.raises(KeySetUnknownError, match="has not key set 30 of delivery D-17, but FF"):
        maker.make(blank.process, "reader")
    assert maker.make(shop.chips[0].process, "reader").address == 0
    for chip in (stranger, blank):
        chip.close()


@pytest.mark.slow
def test_a_chip_with_our_keys_that_the_ledger_does_not_know_is_put_aside(
    shop: Workshop, journal: Journal, tmp_path: Path
) -> None:
    shop.maker(journal).make(shop.chips[0].process, "reader")
    other = open_store(tmp_path / "other")
    shop.chips[0].reset()
    with Journal.open(tmp_path / "other-journal", lambda: "") as fresh:
        maker = shop.maker(fresh, StoreNumbers(other))
        with pytest.raises(PutAsideError, match="the ledger does not know it"):
            maker.make(shop.chips[0].process, "reader")
        assert maker.make(shop.chips[1].process, "reader").address == 0
    other.close()


@pytest.mark.slow
def test_a_blocked_chip_a_foreign_card_and_a_pulled_card_are_told_apart(shop: Workshop, journal: Journal) -> None:
    maker = shop.maker(journal)
    chip = shop.chips[0]
    state = chip.state
    blocked = replace(state, key_sets=(replace(state.key_sets[0], tries_left=0),))
    chip._manager_file.write(blocked.encode())
    chip.close()
    shop.chips[0] = Chip.open(shop.folder / "chip-0", POLICY)
    with pytest.raises(PutAsideError, match="blocked key set 30"):
        maker.make(shop.chips[0].process, "reader")
    with pytest.raises(CardRefusedError):
        maker.make(lambda command: bytes.fromhex("6F00"), "reader")

    def gone(command: bytes) -> bytes:
        raise CardRemovedError("taken out")

    with pytest.raises(CardRemovedError):
        maker.make(gone, "reader")


@pytest.mark.slow
def test_more_chips_than_numbers_end_the_batch(shop: Workshop, journal: Journal) -> None:
    from cad.stock.maker import Keys

    keys = Keys(LocalMasterKey(MASTER), delivery(4), shop.random)
    maker = Maker(order(1), DEFAULT_AID, keys, StoreNumbers(shop.store), journal)
    maker.begin()
    maker.make(shop.chips[0].process, "reader")
    with pytest.raises(NumbersUsedUpError):
        maker.make(shop.chips[1].process, "reader")


class FakeWatch:
    """Stands for the person at the readers: tells what a test wants, then waits."""

    def __init__(self, tell, events) -> None:
        self._tell, self._events = tell, events

    def __enter__(self):
        for event in self._events:
            self._tell(event)
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Stub:
    """A maker whose outcomes are given by the reader's name."""

    def __init__(self, outcomes) -> None:
        self.outcomes = outcomes
        self.made = 0
        self.lock = threading.Lock()

    def make(self, transmit, reader):
        outcome = self.outcomes[reader]
        if isinstance(outcome, BaseException):
            raise outcome
        with self.lock:
            self.made += 1
        return outcome


def run_line(outcomes, events, count, wanted=()) -> list[News]:
    news: list[News] = []
    stub = Stub(outcomes)
    line = ProductionLine(
        stub,
        lambda reader: contextlib.nullcontext(type("Card", (), {"transmit": lambda self, command: b""})()),
        lambda tell: FakeWatch(tell, events),
        news.append,
        wanted,
    )
    ticks = iter(range(100))
    line.run(count, lambda: next(ticks, None) is not None, 0.02)
    return news


def put_in(*readers: str) -> list[ReaderEvent]:
    return [ReaderEvent(ReaderEventKind.CARD_INSERTED, reader, b"atr") for reader in readers]


def test_chip_after_chip_put_aside_stops_the_line() -> None:
    readers = [f"r{number}" for number in range(ASIDE_IN_A_ROW_MAX)]
    outcomes = {reader: PutAsideError("our key set 30 is not the one on this card") for reader in readers}
    with pytest.raises(TooManyAsideError, match="chips in a row had to be put aside; our key set 30"):
        run_line(outcomes, put_in(*readers), 10)


def test_only_the_readers_wanted_work_and_a_dead_one_stops_nobody() -> None:
    card = MadeCard("CAFE", 5)
    events = [
        *put_in("Left 00", "Right 01"),
        ReaderEvent(ReaderEventKind.READER_REMOVED, "Left 00"),
        ReaderEvent(ReaderEventKind.SERVICE_LOST, detail="pcscd does not answer"),
        ReaderEvent(ReaderEventKind.SERVICE_BACK),
    ]
    news = run_line({"Right 01": card}, events, 1, wanted=("right",))
    kinds = [(one.reader, one.happening) for one in news]
    assert ("Right 01", Happening.MADE) in kinds
    assert ("Left 00", Happening.GONE) in kinds
    assert ("Left 00", Happening.WORKING) not in kinds


def test_a_chip_waits_while_those_under_way_are_all_that_are_wanted() -> None:
    outcomes = {"a": CardRemovedError("taken out"), "b": MadeCard("CAFE", 5)}
    news = run_line(outcomes, put_in("a", "b"), 1)
    assert [(one.reader, one.happening) for one in news] == [
        ("a", Happening.WORKING),
        ("a", Happening.AGAIN),
        ("b", Happening.WORKING),
        ("b", Happening.MADE),
    ]


def test_a_chip_put_in_before_the_job_of_the_one_before_has_ended_is_made_too() -> None:
    """The first chip is pulled in the midst of its work; the next is in its place before the job of the first fails."""
    hand_is_done, card = threading.Event(), MadeCard("CAFE", 5)

    class Slow(Stub):
        def make(self, transmit, reader):
            if not hand_is_done.is_set():
                assert hand_is_done.wait(20)
                raise CardRemovedError("taken out")
            return super().make(transmit, reader)

    class QuickHand(FakeWatch):
        def __enter__(self):
            super().__enter__()
            threading.Timer(0.05, hand_is_done.set).start()

    news: list[News] = []
    gone = ReaderEvent(ReaderEventKind.CARD_REMOVED, "a")
    line = ProductionLine(
        Slow({"a": card}),
        lambda reader: contextlib.nullcontext(type("Card", (), {"transmit": lambda self, command: b""})()),
        lambda tell: QuickHand(tell, [*put_in("a"), gone, *put_in("a"), gone, *put_in("a")]),
        news.append,
    )
    assert line.run(1, tick_s=0.02) == 1
    assert [one.happening for one in news] == [
        Happening.WORKING,
        Happening.EMPTY,
        Happening.EMPTY,
        Happening.AGAIN,
        Happening.WORKING,
        Happening.MADE,
    ]


def test_pace_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(100, 10, 1000.0)
    assert pace.left_s(1000.0) is None
    card = MadeCard(serial(1).hex().upper(), 5)
    view = LineView(pace, lambda: 1060.0)
    for _ in range(10):
        view.tell(News("r0", Happening.MADE, card=card))
    assert pace.per_hour(1060.0) == 600
    assert pace.left_s(1060.0) == 480
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"r0: card {card_number.spell(5)} is made: take it out  (20 of 100  600 cards/h  0:08:00 left)"
    )
    JsonView(pace).tell(News("r0", Happening.ASIDE, "why"))
    assert '"event": "aside", "text": "why"' in capsys.readouterr().out


@pytest.mark.slow
def test_known_keys_stand_nowhere(
    shop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Every key that goes into or out of these cards is looked for in everything that was sent, written or shown."""
    from cards.globalplatform.key_ring import DerivedKeyRing
    from cards.memory.contents import CardKeys
    from emm.keys import KeyLadder

    for number in range(4):
        shop.run_on(number)
    shop.check()
    with Journal.open(shop.journal_path, lambda: "") as journal:
        results.write(tmp_path / "box.csv", journal.chips.values())
        made = shop.maker(journal)
        said = [repr(made), repr(made._terms), repr(delivery(4)), repr(journal.chips)]
    (tmp_path / "box.pdf").write_bytes(
        render([row.number for row in results.read(tmp_path / "box.csv")], SHEETS["card"], "x")
    )
    (tmp_path / "vendor.json").write_bytes(vendor_file(4))
    ladder, ring = KeyLadder(LocalMasterKey(MASTER)), DerivedKeyRing(LocalMasterKey(MASTER), 0x31, delivery(4))
    secrets = [MASTER]
    for number, chip in enumerate(shop.chips):
        address = chip.state.personal.identity.address
        keys = CardKeys.derive(ladder, address)
        secrets += [bytes(keys.card_key), bytes(keys.group_key), bytes(keys.global_key)]
        secrets += [key.reveal() for key in static_keys(TRANSPORT, serial(number)).keys]
        secrets += [key.reveal() for key in ring.static_keys(0x31, serial(number)).keys]
    out = capsys.readouterr()
    chips_own = {path for number in range(4) for path in (tmp_path / f"chip-{number}").rglob("*")}
    places = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path not in chips_own]
    places += [*shop.heard, *(text.encode() for text in (*said, out.out, out.err, caplog.text))]
    everything = b"\x00".join(places)
    assert serial(0).hex().upper().encode() in everything
    lower = everything.lower()
    for secret in secrets:
        for half in (secret[:16], secret[16:]):
            if half:
                assert half not in everything
                assert half.hex().encode() not in lower
    assert hashlib.sha256(MASTER).digest() not in everything
