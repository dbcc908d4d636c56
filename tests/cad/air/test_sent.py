"""X5: when a card's EMM was sent is what was sent, never what the carousel reckons with to find whose turn it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cad.air.sent import CardOnAir, LastSent
from cad.ledger.look import reading
from cad.ledger.look.views import CardView
from tests.support.hand_air import HandAir
from tests.support.hand_clock import HandClock
from tests.support.ledgers import assign, order
from tests.support.whole_headend import network

BEGINNING = 1_800_000_000.0
CARD, OTHER = 1, 2


def test_the_last_time_is_kept_to_a_tenth_of_a_second_for_years() -> None:
    sent = LastSent(1_000.0)
    assert sent.at(0) is None
    sent.note(5, 1_000.0)
    sent.note(70_000, 1_000.0 + 10 * 365 * 86_400)
    assert sent.at(5) == 1_000.0
    assert sent.at(70_000) == pytest.approx(1_000.0 + 10 * 365 * 86_400, abs=0.1)
    sent.note(5, 1_234.56)
    assert sent.at(5) == pytest.approx(1_234.5)
    assert [sent.at(slot) for slot in (4, 6, 69_999, 1_000_000)] == [None] * 4


class Life:
    """Two cards of one operator on two multiplexes; the daemon ends and begins."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock(BEGINNING)
        (folder / "life-0").mkdir()
        self.air = HandAir(folder, network.settings(), self.clock)
        for seq, address in enumerate((CARD, OTHER)):
            self.air.take([assign(f"assign-{seq}", card=address)])

    def view(self, address: int) -> CardView:
        found = self.air.store.read(lambda held: reading.card_view(held, address, self.air.grants, self.clock.now()))
        assert found is not None
        return found

    def places(self, address: int = CARD) -> tuple[CardOnAir, ...]:
        return self.air.network.on_air(address, "karjaa", self.view(address).changes[0].aired)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    yield made
    made.air.close()


def test_a_new_card_was_never_sent_and_then_it_was(life: Life) -> None:
    for place in life.places():
        assert (place.waits, place.connected, place.first_sent_at, place.last_sent_at) == (True, True, None, None)
        assert place.next_by is not None
        assert place.next_by > BEGINNING
    by = max(place.next_by or 0 for place in life.places())
    life.air.cycle()
    for place in life.places():
        assert place.first_sent_at is not None
        assert place.last_sent_at is not None
        assert BEGINNING <= place.first_sent_at <= by
        assert place.first_sent_at <= place.last_sent_at + 0.1
        assert place.last_sent_at <= life.clock.now() < (place.next_by or 0)
    assert life.air.network.on_air(99, "karjaa", {})[0] == CardOnAir("mux-1", True)


@pytest.mark.parametrize("pause_s", [7_200, 600], ids=["long ago", "in its first hour"])
def test_a_daemon_that_began_alone_has_sent_nothing(life: Life, pause_s: int) -> None:
    """Whether the card comes back as one of old or as one that changed within the hour."""
    life.air.cycle()
    first = [place.first_sent_at for place in life.places()]
    life.clock.leap(pause_s)
    life.air.stop()
    life.air.up = dict.fromkeys(life.air.up, False)
    life.air.start()
    for place, first_sent_at in zip(life.places(), first, strict=True):
        assert place == CardOnAir(place.multiplex, False, place.ring, first_sent_at, None, None)
        assert not place.waits
    for name in life.air.up:
        life.air.mend(name)
    begun = life.clock.now()
    assert {place.last_sent_at for place in life.places()} == {None}
    for place in life.places():
        assert begun < (place.next_by or 0) <= begun + 1_800
    life.air.cycle()
    for place, first_sent_at in zip(life.places(), first, strict=True):
        assert place.first_sent_at == first_sent_at
        assert (place.last_sent_at or 0) >= begun - 0.1


def test_one_multiplex_that_is_down_does_not_have_what_the_other_sent(life: Life) -> None:
    life.air.cut("mux-2")
    life.air.take([order("karjaa", "card", "refresh", "refresh-1", card=CARD)])
    life.air.cycle()
    up, down = life.places()
    assert (up.connected, up.waits, down.connected, down.waits) == (True, False, False, True)
    assert up.first_sent_at is not None
    assert (down.first_sent_at, down.last_sent_at, down.next_by) == (None, None, None)
