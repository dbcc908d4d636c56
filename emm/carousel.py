"""The carousel of one multiplex: whose turn it is (M2, D9). Pure: every call brings its own `now`."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emm.rotation.arithmetic import HOLDING_S, Population, RingFacts, needed_bps, spacings, usable_bps
from emm.rotation.errors import CarouselError
from emm.rotation.forecast import Forecast
from emm.rotation.policy import BULK, LANE_NAMES, NEW, CarouselPolicy
from emm.rotation.rings import ABSENT, NEVER, NIL
from emm.rotation.shortfall import Shortfall, Situation, find_outlook, find_shortfalls
from emm.rotation.steady import SteadyTime
from emm.rotation.turns import BASE, RESEND_HORIZON_S, Turn, Turns

__all__ = [
    "RESEND_HORIZON_S",
    "Carousel",
    "CarouselError",
    "CarouselPolicy",
    "Forecast",
    "OperatorFacts",
    "Place",
    "RingFacts",
    "Shortfall",
    "Turn",
]

IN_HAND: Final = 3
"""EMMs of the largest size that may go ahead of one just changed: on its way, held by the pacer, owed to repeats."""


class Place(NamedTuple):
    """Where a card stands. Times by the outer clock; None: never sent, or no change that is known.

    `sent_at` is what turns are reckoned from. Of a card that was taken in as sent long ago it is not when it was sent.
    """

    ring: str
    size: int
    sent_at: float | None
    changed_at: float | None


class OperatorFacts(NamedTuple):
    """What waits of one operator, and its cards in their first hour. `sent_bytes`: of first transmissions so far."""

    weight: float
    new_cards: int
    bulk_cards: int
    waiting_bytes: int
    hour_cards: int
    sent_bytes: int


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

    def __init__(
        self,
        policy: CarouselPolicy,
        capacity: int = 0,
        resend_horizon_s: float = RESEND_HORIZON_S,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self._policy = policy
        self._turns = Turns(policy, capacity, resend_horizon_s, weights)
        self._rings = self._turns.rings
        self._time = SteadyTime()
        self._rate_bps = 0.0
        self._largest = 1
        # Urgent changes in a bulk lane, those that cannot keep their deadline: slot -> size.
        self._late: dict[int, int] = {}
        self._late_bytes = 0

    def __len__(self) -> int:
        return sum(self._rings.cards)

    def __contains__(self, slot: int) -> bool:
        return self._rings.ring_of(slot) != ABSENT

    def set_rate(self, rate_bps: float) -> None:
        """Tell the rate allocated, 0 while unknown; from it follows which changes can still keep their deadline."""
        self._rate_bps = max(0.0, rate_bps)

    def set_weights(self, weights: Sequence[float]) -> None:
        """Set the weights by which operators share the bandwidth; new ones come at the end. Raises `CarouselError`."""
        self._turns.set_weights(weights)

    # -- who is in the carousel

    def add(self, slot: int, size: int, now: float) -> None:
        """Take a card whose content is as it has long been: into the base ring, as if sent just now."""
        steady = self._time.at(now)
        self._enter(slot, size, steady, NEVER)
        self._turns.join_base(slot, steady)

    def add_many(self, slots: npt.ArrayLike, sizes: npt.ArrayLike, now: float) -> None:
        """Take many cards at once, as `add` would one after the other; a million take a fraction of a second."""
        steady = self._time.at(now)
        which = np.ascontiguousarray(slots, dtype=np.int64)
        weights = np.ascontiguousarray(sizes, dtype=np.int64)
        if which.size or weights.size:
            self._turns.join_many(which, weights, steady)
            self._largest = max(self._largest, int(weights.max()))

    def change(
        self, slot: int, size: int, now: float, changed_at: float, urgent: bool = True, operator: int = 0
    ) -> None:
        """The content of a card of `operator`, new or not, changed at `changed_at`: it has never been sent.

        An urgent change is promised `first_transmission_s`; it waits in the bulk lane only where the operator's part of
        the rate does not permit that any more. A card that waits in the new lane already keeps its place and deadline.
        """
        steady = self._time.at(now)
        waits = self._turns.lane_of(self._rings.ring_of(slot))
        if waits == NEW:
            self._resize(slot, size)
            return
        in_time = urgent and self._in_time(size, operator)
        self._resize(slot, size)
        if waits == BULK and not in_time:
            if urgent:
                self._note_late(slot)
            return
        if self._rings.ring_of(slot) == ABSENT:
            self._rings.sent[slot] = NEVER
        else:
            self._rings.take(slot)
        self._rings.changed[slot] = min(self._time.of(changed_at), steady)
        if in_time:
            self._forget_late(slot)
            self._turns.queue(slot, operator)
        else:
            self._rings.append(self._turns.lane_ring(BULK, operator), slot)
            if urgent:
                self._note_late(slot)

    def restore(self, slot: int, size: int, now: float, changed_at: float, operator: int = 0) -> None:
        """Take a card of `operator` that was sent since it changed, it is not known when: it is due at once."""
        steady = self._time.at(now)
        self._enter(slot, size, steady, min(self._time.of(changed_at), steady))
        self._turns.join_due(slot, steady, operator)

    def remove(self, slot: int) -> None:
        """Let a card go; its slot may be used again."""
        self._check_present(slot)
        self._rings.take(slot)
        self._forget_late(slot)

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
        if turn is not None and turn.first:
            self._forget_late(turn.slot)
        return turn

    def next_at(self, now: float) -> float:
        """Return when `pop` will have something, `now` if it has already; infinite for an empty carousel."""
        steady = self._time.at(now)
        if self._turns.anyone_new():
            return now
        return self._time.back(max(steady, self._turns.longest_unsent() + self._policy.min_repeat_s))

    # -- promises

    def forecast(self, now: float, size: int, rate_bps: float, operator: int = 0) -> Forecast:
        """Return what can be promised for changes of `size` bytes that an operator makes now.

        Holds while the rate stays and no older change is brought in later, whatever other operators do: each is
        reckoned with what its weight makes certain.
        """
        self._time.at(now)
        largest = max(self._largest, size)
        usable = usable_bps(rate_bps, largest)
        if usable <= 0:
            return Forecast(math.inf, 0.0, 0, math.inf, 0.0, math.inf)
        policy, part = self._policy, self._part(operator)
        lanes = [self._rings.bytes[self._turns.lane_ring(lane, operator)] for lane in (NEW, BULK)]
        rates = [usable * policy.new_share * share * part for share in (1 - policy.bulk_share, policy.bulk_share)]
        # One EMM of each other operator may go ahead, and the last of our own has been reckoned already.
        others = (len(self._turns.weights) - 1) * largest
        held = (IN_HAND * largest + self._turns.owed + self._turns.owed_bulk + others) * 8 / usable + HOLDING_S
        own = [0.0 if part >= 1 else largest * 8 / rate for rate in rates]
        first_s, bulk_s = ((lanes[lane] + size) * 8 / rates[lane] + own[lane] + held for lane in (NEW, BULK))
        room = int((rates[NEW] * policy.first_transmission_s / 8 - lanes[NEW]) // size)
        each_s, bulk_each_s = (size * 8 / rate for rate in rates)
        return Forecast(first_s, each_s, max(0, room), bulk_s, bulk_each_s, self._repeats_within(usable, operator))

    def _part(self, operator: int) -> float:
        """Return which part of the never-sent's bandwidth is certain for an operator."""
        weights = self._turns.weights
        return weights[operator] / sum(weights)

    def _repeats_within(self, usable: float, operator: int) -> float:
        """Return how far apart a changed card of the operator comes in its first hour, at the most."""
        turns, policy = self._turns, self._policy
        populations = self._populations()
        waiting = sum(turns.lane_total(lane)[1] for lane in (NEW, BULK))
        limit = policy.first_hour_repeat_s
        everything = needed_bps(populations) + waiting * 8 / limit
        own = sum(turns.age_total(age, operator)[1] for age in range(BASE))
        own += sum(self._rings.bytes[turns.lane_ring(lane, operator)] for lane in (NEW, BULK))
        need = own * 8 / limit
        drain_s = waiting * 8 / (usable * policy.new_share)

        def apart(rate: float) -> float:
            if everything <= rate:
                return limit
            mine = rate * (1 - populations[BASE].needed_bps / everything) * self._part(operator)
            return limit * max(1.0, need / mine if mine > 0 else math.inf)

        # While much is sent for the first time, repeats have the least.
        squeezed = usable * (1 - policy.new_share)
        return apart(usable) if drain_s < HOLDING_S else min(apart(squeezed), drain_s + apart(usable))

    def oldest_new(self, now: float) -> float | None:
        """Return the age in seconds of the oldest change that was never sent, None when none waits."""
        steady = self._time.at(now)
        ages = (
            steady - self._rings.changed[head]
            for operator in range(len(self._turns.weights))
            for lane in (NEW, BULK)
            if (head := self._rings.head[self._turns.lane_ring(lane, operator)]) != NIL
        )
        return max(ages, default=None)

    def cycle_facts(self, rate_bps: float) -> list[RingFacts]:
        """Return each ring, lanes first: cards, bytes, and the spacing to expect at that rate."""
        facts: list[RingFacts] = []
        for lane, name in enumerate(LANE_NAMES):
            cards, size = self._turns.lane_total(lane)
            share = rate_bps * self._policy.new_share
            drain = 0.0 if not size else size * 8 / share if share > 0 else math.inf
            facts.append(RingFacts(name, cards, size, self._policy.first_transmission_s, drain))
        populations = self._populations()
        cycles = spacings(populations, rate_bps, self._policy.min_repeat_s)
        for ring, cycle in zip(populations, cycles, strict=True):
            facts.append(RingFacts(ring.name, ring.cards, ring.size, ring.limit_s, cycle))
        return facts

    def operator_facts(self) -> list[OperatorFacts]:
        """Return what each operator has waiting and on the air, in the order of the weights."""
        found = []
        for operator, weight in enumerate(self._turns.weights):
            new, bulk = (self._turns.lane_ring(lane, operator) for lane in (NEW, BULK))
            cards, sizes = self._rings.cards, self._rings.bytes
            hour = sum(self._turns.age_total(age, operator)[0] for age in range(BASE))
            waiting = sizes[new] + sizes[bulk]
            found.append(
                OperatorFacts(weight, cards[new], cards[bulk], waiting, hour, self._turns.sent_bytes[operator])
            )
        return found

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
        new, bulk = (self._turns.lane_total(lane) for lane in (NEW, BULK))
        return Situation(
            policy=self._policy,
            populations=tuple(self._populations()),
            waited_s=self._turns.waited(self._time.present),
            waiting=(new[0] + bulk[0], new[1] + bulk[1]),
            promised=(new[0] + len(self._late), new[1] + self._late_bytes),
            largest=self._largest,
        )

    def _populations(self) -> list[Population]:
        found: list[Population] = []
        for number, age in enumerate(self._turns.classes):
            cards, size = self._turns.age_total(number)
            found.append(Population(age.name, cards, size, age.limit_s, age.demand))
        return found

    def _in_time(self, size: int, operator: int) -> bool:
        """Tell whether one more change of that size in the operator's new lane is sent in `first_transmission_s`."""
        if self._rate_bps <= 0:
            return True
        usable = usable_bps(self._rate_bps, max(self._largest, size))
        share = self._policy.new_share * (1 - self._policy.bulk_share) * self._part(operator)
        waiting = self._rings.bytes[self._turns.lane_ring(NEW, operator)]
        return (waiting + size) * 8 <= usable * share * self._policy.first_transmission_s

    def _note_late(self, slot: int) -> None:
        self._forget_late(slot)
        self._late[slot] = self._rings.size[slot]
        self._late_bytes += self._rings.size[slot]

    def _forget_late(self, slot: int) -> None:
        self._late_bytes -= self._late.pop(slot, 0)

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
        if slot in self._late:
            self._note_late(slot)
        self._largest = max(self._largest, size)
