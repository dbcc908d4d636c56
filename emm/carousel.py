"""The carousel of one multiplex: whose turn it is (M2, D9). Pure: every call brings its own `now`."""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emm.rotation.arithmetic import HOLDING_S, Population, RingFacts, spacings, usable_bps
from emm.rotation.errors import CarouselError
from emm.rotation.policy import BULK, LANE_NAMES, LANES, NEW, SIZE_CLASSES, CarouselPolicy
from emm.rotation.rings import ABSENT, NEVER, NIL
from emm.rotation.shortfall import Shortfall, Situation, find_outlook, find_shortfalls
from emm.rotation.steady import SteadyTime
from emm.rotation.turns import RESEND_HORIZON_S, Turn, Turns

__all__ = ["RESEND_HORIZON_S", "Carousel", "CarouselError", "CarouselPolicy", "Place", "RingFacts", "Shortfall", "Turn"]

IN_HAND: Final = 3
"""EMMs of the largest size that may go ahead of one just changed: on its way, held by the pacer, owed to repeats."""


class Place(NamedTuple):
    """Where a card stands. Times by the outer clock; None: never sent, or no change that is known."""

    ring: str
    size: int
    sent_at: float | None
    changed_at: float | None


class Carousel:
    """Cards by slot (a small whole number), each with the size its EMM has on the air.

    `size` is in bytes, transport overhead included (`emm.pacer.cost_bits(...) // 8`), 1..65,535. `now`, `changed_at`
    and `t` are seconds of one clock; where that steps back, ages go on from the last moment seen. Every step costs
    O(1); only a change that is older than k others waiting costs O(k).

    A decision compares the heads of a handful of rings: (1) never-sent first, leaving `1 - new_share` of the bandwidth
    to repeats that are due; (2) repeats that are due, the most behind in proportion to its limit first; (3) the largest
    (unsent for)² · demand ÷ size: the square-root rule in its on-line form (Vaidya & Hameed 1999). docs/carousel.md
    says the same in prose.

    Raises `CarouselError` for a slot that is there already, or is not there, or a size that cannot be.
    """

    def __init__(self, policy: CarouselPolicy, capacity: int = 0, resend_horizon_s: float = RESEND_HORIZON_S) -> None:
        self._policy = policy
        self._turns = Turns(policy, capacity, resend_horizon_s)
        self._rings = self._turns.rings
        self._time = SteadyTime()
        self._rate_bps = 0.0
        self._largest = 1
        self._late: set[int] = set()  # urgent changes in the bulk lane: those that cannot keep their deadline

    def __len__(self) -> int:
        return sum(self._rings.cards)

    def __contains__(self, slot: int) -> bool:
        return self._rings.ring_of(slot) != ABSENT

    def set_rate(self, rate_bps: float) -> None:
        """Tell the rate allocated, 0 while unknown; from it follows which changes can still keep their deadline."""
        self._rate_bps = max(0.0, rate_bps)

    # -- who is in the carousel

    def add(self, slot: int, size: int, now: float) -> None:
        """Take a card whose content is as it has long been: into the base ring, as if sent just now."""
        steady = self._time.at(now)
        self._enter(slot, size, steady, NEVER)
        self._turns.join(slot, steady)

    def add_many(self, slots: npt.ArrayLike, sizes: npt.ArrayLike, now: float) -> None:
        """Take many cards at once, as `add` would one after the other; a million take a fraction of a second."""
        steady = self._time.at(now)
        which = np.ascontiguousarray(slots, dtype=np.int64)
        weights = np.ascontiguousarray(sizes, dtype=np.int64)
        if which.size or weights.size:
            self._turns.join_many(which, weights, steady)
            self._largest = max(self._largest, int(weights.max()))

    def change(self, slot: int, size: int, now: float, changed_at: float, urgent: bool = True) -> None:
        """The content of a card, new or not, changed at `changed_at`: it has never been sent.

        An urgent change is promised `first_transmission_s`; it waits in the bulk lane only where the rate told does not
        permit that any more. A card that waits in the new lane already keeps its place and deadline.
        """
        steady = self._time.at(now)
        ring = self._rings.ring_of(slot)
        if ring == NEW:
            self._resize(slot, size)
            return
        in_time = urgent and self._in_time(size)
        self._resize(slot, size)
        if ring == BULK and not in_time:
            if urgent:
                self._late.add(slot)
            return
        if ring == ABSENT:
            self._rings.sent[slot] = NEVER
        else:
            self._rings.take(slot)
        self._rings.changed[slot] = min(self._time.of(changed_at), steady)
        if in_time:
            self._late.discard(slot)
            self._turns.queue(slot)
        else:
            self._rings.append(BULK, slot)
            if urgent:
                self._late.add(slot)

    def restore(self, slot: int, size: int, now: float, changed_at: float) -> None:
        """Take a card that was sent since it changed, it is not known when: it is due at once."""
        steady = self._time.at(now)
        self._enter(slot, size, steady, min(self._time.of(changed_at), steady))
        self._turns.join_due(slot, steady)

    def remove(self, slot: int) -> None:
        """Let a card go; its slot may be used again."""
        self._check_present(slot)
        self._rings.take(slot)
        self._late.discard(slot)

    def resize(self, slot: int, size: int) -> None:
        """Set the size of a card's EMM without calling its content changed."""
        self._check_present(slot)
        self._resize(slot, size)

    def resend_since(self, t: float, now: float) -> int:
        """Make all whose first transmission went out at `t` or later never-sent again, with the deadlines they had.

        For a multiplexer that lost what it had queued. Returns how many; first transmissions more than
        `resend_horizon_s` before the last one are not remembered.
        """
        self._time.at(now)
        return self._turns.requeue_since(self._time.of(t))

    # -- whose turn it is

    def pop(self, now: float) -> Turn | None:
        """Decide who goes out now, and reckon it as sent. None when all were sent within the last `min_repeat_s`."""
        turn = self._turns.pop(self._time.at(now))
        if self._late and turn is not None and turn.first:
            self._late.discard(turn.slot)
        return turn

    def next_at(self, now: float) -> float:
        """Return when `pop` will have something, `now` if it has already; infinite for an empty carousel."""
        steady = self._time.at(now)
        if self._turns.lane() >= 0:
            return now
        return self._time.back(max(steady, self._turns.longest_unsent() + self._policy.min_repeat_s))

    # -- promises

    def forecast(self, now: float, size: int, rate_bps: float, urgent: bool = True) -> float:
        """Return within how many seconds a change of `size` bytes made now is sent for the first time, at the latest.

        Holds while the rate stays and no older change is brought in later; infinite without a rate.
        """
        self._time.at(now)
        largest = max(self._largest, size)
        usable = usable_bps(rate_bps, largest)
        if usable <= 0:
            return math.inf
        lane = NEW if urgent and self._in_time(size) else BULK
        share = self._policy.bulk_share if lane == BULK else 1 - self._policy.bulk_share
        ahead = (self._rings.bytes[lane] + size) / (share * self._policy.new_share)
        held = IN_HAND * largest + self._turns.owed + self._turns.owed_bulk
        return HOLDING_S + (ahead + held) * 8 / usable

    def oldest_new(self, now: float) -> float | None:
        """Return the age in seconds of the oldest change that was never sent, None when none waits."""
        steady = self._time.at(now)
        heads = (self._rings.head[NEW], self._rings.head[BULK])
        return max((steady - self._rings.changed[head] for head in heads if head != NIL), default=None)

    def cycle_facts(self, rate_bps: float) -> list[RingFacts]:
        """Return each ring, lanes first: cards, bytes, and the spacing to expect at that rate."""
        facts: list[RingFacts] = []
        for lane, name in enumerate(LANE_NAMES):
            size = self._rings.bytes[lane]
            share = rate_bps * self._policy.new_share
            drain = 0.0 if not size else size * 8 / share if share > 0 else math.inf
            facts.append(RingFacts(name, self._rings.cards[lane], size, self._policy.first_transmission_s, drain))
        populations = self._populations()
        cycles = spacings(populations, rate_bps, self._policy.min_repeat_s)
        for ring, cycle in zip(populations, cycles, strict=True):
            facts.append(RingFacts(ring.name, ring.cards, ring.size, ring.limit_s, cycle))
        return facts

    def shortfalls(self, rate_bps: float) -> list[Shortfall]:
        """Return every reason why M2 cannot hold at that rate with the cards as they stand; empty when it can."""
        return find_shortfalls(self._situation(), rate_bps)

    def outlook(self, rate_bps: float) -> list[Shortfall]:
        """Return why M2 will not hold if changes go on as in the last minutes, while it still can."""
        return find_outlook(self._situation(), rate_bps)

    def place(self, slot: int) -> Place | None:
        """Return where a card stands, None when it is not in the carousel."""
        ring = self._rings.ring_of(slot)
        if ring == ABSENT:
            return None
        sent, changed = self._rings.sent[slot], self._rings.changed[slot]
        return Place(
            self._turns.names[ring],
            self._rings.size[slot],
            None if sent == NEVER else self._time.back(sent),
            None if changed == NEVER else self._time.back(changed),
        )

    def _situation(self) -> Situation:
        late = sum(self._rings.size[slot] for slot in self._late)
        return Situation(
            policy=self._policy,
            populations=tuple(self._populations()),
            waited_s=self._turns.waited(self._time.present),
            waiting=self._rings.total(range(LANES)),
            promised=(self._rings.cards[NEW] + len(self._late), self._rings.bytes[NEW] + late),
            largest=self._largest,
        )

    def _populations(self) -> list[Population]:
        found: list[Population] = []
        for number, age in enumerate(self._turns.classes):
            start = LANES + number * SIZE_CLASSES
            cards, size = self._rings.total(range(start, start + SIZE_CLASSES))
            found.append(Population(age.name, cards, size, age.limit_s, age.demand))
        return found

    def _in_time(self, size: int) -> bool:
        """Tell whether one more change of that size in the new lane is sent within `first_transmission_s`."""
        if self._rate_bps <= 0:
            return True
        usable = usable_bps(self._rate_bps, max(self._largest, size))
        share = self._policy.new_share * (1 - self._policy.bulk_share)
        return (self._rings.bytes[NEW] + size) * 8 <= usable * share * self._policy.first_transmission_s

    def _check_present(self, slot: int) -> None:
        if self._rings.ring_of(slot) == ABSENT:
            raise CarouselError(f"slot {slot} is not in the carousel")

    def _enter(self, slot: int, size: int, sent: float, changed: float) -> None:
        if self._rings.ring_of(slot) != ABSENT:
            raise CarouselError(f"slot {slot} is in the carousel already: remove it first, or report a change")
        self._resize(slot, size)
        self._rings.sent[slot] = sent
        self._rings.changed[slot] = changed

    def _resize(self, slot: int, size: int) -> None:
        self._rings.set_size(slot, size)
        self._largest = max(self._largest, size)
