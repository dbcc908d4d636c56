"""The carousel against a naive model that keeps every card as an object and looks at all of them."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emm.carousel import Carousel, CarouselPolicy

POLICY = CarouselPolicy(
    min_repeat_s=1.0, first_hour_repeat_s=8.0, cycle_s=32.0, fresh_s=16.0, first_hour_s=64.0, new_share=0.75
)
WEIGHTS = (1.0, 3.0)
"""Of two operators; the slots are dealt out to them in turn."""
SLOTS = st.integers(0, 12)
SIZES = st.sampled_from([64, 128, 192, 320, 1000])
# Eighths of a second: sums of them are exact in floats.
SPANS = st.integers(0, 80).map(lambda eighths: eighths / 8)


@dataclass
class Card:
    size: int
    changed: float | None
    sent: float | None
    lane: str | None  # new, bulk, None: it repeats
    order: int
    operator: int = 0
    ring: tuple[str, int, int] = ("", 0, 0)
    first_sent: float | None = None
    first_order: int = 0
    first_lane: str = ""


def size_class(size: int) -> int:
    return sum(size > border for border in (128, 256, 512))


class CarouselAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.carousel = Carousel(POLICY, weights=WEIGHTS)
        self.cards: dict[int, Card] = {}
        self.clock = 1000.0
        self.back = 0.0  # how much the clock has fallen back in all
        self.last_first = 0.0
        self.counter = 0
        self.firsts_bytes = self.repeats_bytes = 0

    @property
    def steady(self) -> float:
        return self.clock + self.back

    def order(self) -> int:
        self.counter += 1
        return self.counter

    def settle(self, card: Card) -> None:
        """What ring a card that repeats belongs to as it is put there."""
        age = self.steady - card.changed if card.changed is not None else float("inf")
        name = "fresh" if age < POLICY.fresh_s else "hour" if age < POLICY.first_hour_s else "base"
        card.ring = (name, size_class(card.size), -1 if name == "base" else card.operator)

    @rule(span=SPANS)
    def time_passes(self, span: float) -> None:
        self.clock += span

    @rule(span=SPANS)
    def clock_falls_back(self, span: float) -> None:
        self.carousel.oldest_new(self.clock)
        self.clock -= span
        self.back += span
        self.carousel.oldest_new(self.clock)

    @rule(slot=SLOTS, size=SIZES)
    def add(self, slot: int, size: int) -> None:
        if slot not in self.cards:
            self.carousel.add(slot, size, self.clock)
            self.cards[slot] = Card(size, None, self.steady, None, self.order(), slot % 2)
            self.settle(self.cards[slot])

    @rule(slot=SLOTS, size=SIZES, ago=SPANS, urgent=st.booleans())
    def change(self, slot: int, size: int, ago: float, urgent: bool) -> None:
        self.carousel.change(slot, size, self.clock, self.clock - ago, urgent, slot % 2)
        card = self.cards.setdefault(slot, Card(size, None, None, None, 0, slot % 2))
        card.size = size
        if card.lane == "new" or (card.lane == "bulk" and not urgent):
            return
        card.lane = "new" if urgent else "bulk"
        card.changed = self.steady - ago
        card.order = self.order()

    @rule(slot=SLOTS, size=SIZES, ago=SPANS)
    def restore(self, slot: int, size: int, ago: float) -> None:
        if slot not in self.cards:
            self.carousel.restore(slot, size, self.clock, self.clock - ago, slot % 2)
            card = Card(size, self.steady - ago, None, None, -self.order(), slot % 2)
            self.settle(card)
            limit = POLICY.cycle_s if card.ring[0] == "base" else POLICY.first_hour_repeat_s
            others = [other.sent for other in self.repeating() if other.ring == card.ring and other.sent is not None]
            card.sent = min([self.steady - limit, *others])
            self.cards[slot] = card

    @rule(slot=SLOTS)
    def remove(self, slot: int) -> None:
        if slot in self.cards:
            self.carousel.remove(slot)
            del self.cards[slot]

    @rule(slot=SLOTS, size=SIZES)
    def resize(self, slot: int, size: int) -> None:
        if slot in self.cards:
            self.carousel.resize(slot, size)
            self.cards[slot].size = size

    @rule(ago=SPANS)
    def multiplexer_purges(self, ago: float) -> None:
        since = self.steady - ago
        lost = [
            slot
            for slot, card in self.cards.items()
            if card.lane is None and card.first_sent is not None and card.first_sent >= since
        ]
        assert self.carousel.resend_since(self.clock - ago, self.clock) == len(lost)
        # New: by their changes. Bulk: ahead of all others, as they had been sent.
        for slot in sorted(lost, key=lambda slot: (self.cards[slot].changed or 0.0, slot)):
            self.cards[slot].order = self.order()
        for slot in sorted(lost, key=lambda slot: -self.cards[slot].first_order):
            card = self.cards[slot]
            if card.first_lane == "bulk":
                card.order = -self.order()
            card.lane, card.first_sent = card.first_lane, None

    def repeating(self) -> list[Card]:
        return [card for card in self.cards.values() if card.lane is None]

    @rule(times=st.integers(1, 30), span=st.sampled_from([0.0, 0.125, 0.5]))
    def pop(self, times: int, span: float) -> None:
        for _ in range(times):
            self.pop_one()
            self.clock += span

    def pop_one(self) -> None:
        waiting = [card for card in self.cards.values() if card.lane]
        ripe = [card for card in self.repeating() if self.steady - card.sent >= POLICY.min_repeat_s]  # type: ignore[operator]
        turn = self.carousel.pop(self.clock)
        if turn is None:
            assert not waiting
            assert not ripe
            return
        card = self.cards[turn.slot]
        assert turn.first == (card.lane is not None)
        if card.lane is not None:
            assert turn.ring == card.lane
            lane = [other for other in waiting if (other.lane, other.operator) == (card.lane, card.operator)]
            # New: by change, then by arrival. Bulk: by arrival.
            key = (lambda c: (c.changed, c.order)) if card.lane == "new" else (lambda c: c.order)
            assert card is min(lane, key=key)
            card.first_lane, card.lane, card.first_sent, card.first_order = card.lane, None, self.steady, self.order()
            self.firsts_bytes += card.size
        else:
            assert turn.ring == card.ring[0]
            assert card in ripe
            same = [other for other in self.repeating() if other.ring == card.ring]
            assert card.sent == min(other.sent for other in same)  # type: ignore[type-var]
            if waiting:
                self.repeats_bytes += card.size
        if not waiting:
            self.firsts_bytes = self.repeats_bytes = 0
        # While something waits, repeats have no more than their share, and one EMM.
        assert self.repeats_bytes <= self.firsts_bytes * (1 - POLICY.new_share) / POLICY.new_share + 2 * 1000
        card.sent = self.steady
        self.settle(card)

    @precondition(lambda self: self.cards)
    @rule()
    def nobody_starves(self) -> None:
        """With time enough between, everybody has a turn within a few rounds."""
        seen: set[int] = set()
        for _ in range(40 * len(self.cards)):
            turn_clock = self.clock
            before = {slot: card.sent for slot, card in self.cards.items()}
            self.pop_one()
            seen |= {slot for slot, card in self.cards.items() if card.sent != before[slot] or card.sent == turn_clock}
            self.clock += 1.0
        assert seen == set(self.cards)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.carousel) == len(self.cards)
        ages = [self.steady - card.changed for card in self.cards.values() if card.lane and card.changed is not None]
        oldest = self.carousel.oldest_new(self.clock)
        assert (oldest is None) == (not ages)
        for slot, card in self.cards.items():
            place = self.carousel.place(slot)
            assert place is not None
            assert place.ring == (card.lane or card.ring[0])
            assert place.size == card.size
        facts = self.carousel.cycle_facts(1e6)
        assert sum(ring.size for ring in facts) == sum(card.size for card in self.cards.values())


TestCarouselAgainstModel = pytest.mark.slow(CarouselAgainstModel.TestCase)
TestCarouselAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
