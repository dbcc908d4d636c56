"""Whose turn it is: the decision, and the moves of cards between rings that follow from it. Steady seconds only."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emm.rotation.policy import BULK, LANE_NAMES, LANES, NEW, SIZE_BORDERS, SIZE_CLASSES, CarouselPolicy
from emm.rotation.rings import ABSENT, NIL, Rings
from emm.rotation.shares import Shares

RESEND_HORIZON_S: Final = 120.0
"""First transmissions are usually remembered so long before the last one; multiplexers hold far less in a queue."""

GUARD: Final = 0.1
"""A card whose spacing has but this part of its limit left is due, however its ring has been served."""

OWN_RINGS: Final = LANES + 2 * SIZE_CLASSES
"""Rings of each operator: its lanes, and those of its cards in their first hour."""
NOBODY: Final = -1
BASE: Final = 2
"""The age class of all cards that have not changed of late; its rings have no owner."""


class Turn(NamedTuple):
    """A card that goes out now. `ring`: new, bulk, fresh, hour or base; `first`: this content was never sent before."""

    slot: int
    ring: str
    first: bool


class Turns:
    """Rings of cards with the rule that picks among their heads.

    The first rings are those of all cards that have not changed of late, one for each size class. Then each operator
    has its two lanes of the never-sent, and a ring for each age of change and size class. Within a lane the order is
    that of change (bulk: of arrival), within a ring the longest unsent is at the head, so that the heads are all that a
    decision has to look at. Among operators turns are shared by weight.
    """

    def __init__(
        self,
        policy: CarouselPolicy,
        capacity: int = 0,
        resend_horizon_s: float = RESEND_HORIZON_S,
        weights: Sequence[float] = (1.0,),
    ) -> None:
        self.policy = policy
        self._resend_horizon_s = resend_horizon_s
        self.classes = policy.age_classes
        self.rings = Rings(0, capacity)
        self.names: list[str] = []
        self.owed = 0.0
        """Bytes that the never-sent owe to repeats that are due."""
        self.owed_bulk = 0.0
        """Bytes that the new lanes owe to the bulk lanes."""
        self.weights: tuple[float, ...] = ()
        self._several = False
        self.sent_bytes: list[int] = []
        """Bytes of first transmissions of each operator so far."""
        self._limits: list[float] = []
        self._demands: list[float] = []
        # When each ring was last served, less what it was served too late: from there its next turn is reckoned.
        self._served: list[float] = []
        self._owner: list[int] = []
        self._age: list[int] = []  # the age class of a ring, NOBODY for a lane
        self._repeating: list[int] = []
        self._lanes: tuple[list[int], list[int]] = ([], [])  # new, bulk: the ring of each operator
        self._shares = (Shares(), Shares())
        self._repeat_shares = Shares()
        self._firsts: deque[tuple[float, int, float, int]] = deque()  # (sent, slot, changed, lane): first transmissions
        self._size_class = np.array(SIZE_BORDERS)
        self._open_rings(NOBODY, BASE)
        self.set_weights(weights)

    def set_weights(self, weights: Sequence[float]) -> None:
        """Set the weights of all operators; each new one gets rings of its own. Raises `CarouselError`."""
        for shares in (*self._shares, self._repeat_shares):
            shares.set_weights(weights)
        for operator in range(len(self.weights), len(weights)):
            self.sent_bytes.append(0)
            for lane in (NEW, BULK):
                self._lanes[lane].append(self.rings.open(1))
                self._describe(LANE_NAMES[lane], operator, NOBODY, self.policy.first_transmission_s, 0.0)
            for age in range(BASE):
                self._open_rings(operator, age)
        self.weights = tuple(weights)
        self._several = len(weights) > 1

    def _open_rings(self, operator: int, number: int) -> None:
        age = self.classes[number]
        first = self.rings.open(SIZE_CLASSES)
        self._repeating += range(first, first + SIZE_CLASSES)
        for _ in range(SIZE_CLASSES):
            self._describe(age.name, operator, number, age.limit_s, age.demand)

    def _describe(self, name: str, operator: int, age: int, limit_s: float, demand: float) -> None:
        self.names.append(name)
        self._owner.append(operator)
        self._age.append(age)
        self._limits.append(limit_s)
        self._demands.append(demand)
        self._served.append(0.0)

    # -- who stands where

    def lane_ring(self, lane: int, operator: int) -> int:
        """Return the ring that is an operator's lane."""
        return self._lanes[lane][operator]

    def lane_of(self, ring: int) -> int:
        """Return which lane a ring is, NOBODY where it is none."""
        return NOBODY if ring == ABSENT or self._age[ring] >= 0 else ring - SIZE_CLASSES - self._owner[ring] * OWN_RINGS

    def lane_total(self, lane: int) -> tuple[int, int]:
        """Return cards and bytes in a lane of all operators."""
        return self.rings.total(self._lanes[lane])

    def age_total(self, number: int, operator: int | None = None) -> tuple[int, int]:
        """Return cards and bytes of an age class, of one operator or all (those of the last class have no owner)."""
        wanted = [
            ring
            for ring in self._repeating
            if self._age[ring] == number and (operator is None or self._owner[ring] == operator)
        ]
        return self.rings.total(wanted)

    # -- moves

    def ring_for(self, slot: int, now: float, operator: int) -> int:
        """Return the ring in which a card that has been sent waits for its next turn."""
        age = now - self.rings.changed[slot]
        size = self.rings.size[slot]
        if age >= self.policy.first_hour_s or operator == NOBODY:
            ring = 0
        else:
            ring = SIZE_CLASSES + operator * OWN_RINGS + LANES + (0 if age < self.policy.fresh_s else SIZE_CLASSES)
        for border in SIZE_BORDERS:
            if size <= border:
                break
            ring += 1
        return ring

    def join_base(self, slot: int, now: float) -> None:
        """Put an absent card that has not changed of late, sent just now, at the end of its ring."""
        self.join(slot, now, NOBODY)

    def join(self, slot: int, now: float, operator: int) -> None:
        """Put an absent card, sent just now, at the end of its ring."""
        ring = self.ring_for(slot, now, operator)
        if self.rings.head[ring] == NIL:
            self._served[ring] = now
        self.rings.append(ring, slot)

    def join_due(self, slot: int, now: float, operator: int) -> None:
        """Put an absent card, of which it is not known when it was sent, at the head of its ring: due at once."""
        ring = self.ring_for(slot, now, operator)
        head = self.rings.head[ring]
        due = now - self._limits[ring]
        if head == NIL:
            self._served[ring] = now
            self.rings.sent[slot] = due
        else:
            self.rings.sent[slot] = min(due, self.rings.sent[head])
        self.rings.insert_after(ring, NIL, slot)

    def join_many(self, slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], now: float) -> None:
        """Put absent, distinct cards that never changed at the ends of their rings, as if sent just now."""
        ring = np.searchsorted(self._size_class, sizes).astype(np.uint16)
        empty = [number for number in range(SIZE_CLASSES) if self.rings.head[number] == NIL]
        self.rings.append_many(ring, slots, sizes, now)
        for number in empty:
            self._served[number] = now

    def queue(self, slot: int, operator: int) -> None:
        """Put an absent card into its operator's new lane by its time of change: behind all that are not younger."""
        lane = self._lanes[NEW][operator]
        changed = self.rings.changed
        before = self.rings.tail[lane]
        while before != NIL and changed[before] > changed[slot]:
            before = self.rings.before(before)
        self.rings.insert_after(lane, before, slot)

    def requeue_since(self, since: float) -> int:
        """Put all whose first transmission went out at `since` or later back into their lanes; return how many."""
        rings = self.rings
        lost: dict[int, int] = {}
        while self._firsts and self._firsts[-1][0] >= since:
            _, slot, changed, lane = self._firsts.pop()
            ring = rings.ring_of(slot)
            if ring != ABSENT and self._age[ring] >= 0 and rings.changed[slot] == changed:
                lost.setdefault(slot, lane)  # the latest first
        for slot, lane in lost.items():
            if self.lane_of(lane) == BULK:
                rings.take(slot)
                rings.insert_after(lane, NIL, slot)
        for lane in self._lanes[NEW]:
            self._requeue(lane, [slot for slot, own in lost.items() if own == lane])
        return len(lost)

    def _requeue(self, lane: int, lost: list[int]) -> None:
        """Put cards into a new lane by their times of change."""
        rings = self.rings
        before = NIL
        for slot in sorted(lost, key=lambda slot: (rings.changed[slot], slot)):
            rings.take(slot)
            after = rings.head[lane] if before == NIL else rings.after(before)
            while after != NIL and rings.changed[after] <= rings.changed[slot]:
                before, after = after, rings.after(after)
            rings.insert_after(lane, before, slot)
            before = slot

    # -- the decision

    def pop(self, now: float) -> Turn | None:
        """Decide who goes out now, and reckon it as sent; None when nobody may."""
        due, wanted = self._choose(now)
        first = self._next_first()
        if first >= 0:
            rings = self.rings
            if due < 0:
                return self._send_first(first, now)
            if self.owed < rings.size[rings.head[due]]:
                share = self.policy.new_share
                self.owed += rings.size[rings.head[first]] * (1 - share) / share
                return self._send_first(first, now)
        ring = due if due >= 0 else wanted
        return self._send_again(ring, now) if ring >= 0 else None

    def anyone_new(self) -> bool:
        """Tell whether a change waits that was never sent."""
        return self._next_first() >= 0

    def _next_first(self) -> int:
        """Return the lane whose head is the next never-sent, -1 when none waits."""
        heads = self.rings.head
        if not self._several:
            new_lane, bulk_lane = self._lanes[NEW][0], self._lanes[BULK][0]
            head = heads[bulk_lane]
            if head != NIL and (heads[new_lane] == NIL or self.owed_bulk >= self.rings.size[head]):
                return bulk_lane
            return new_lane if heads[new_lane] != NIL else -1
        new = [operator for operator, ring in enumerate(self._lanes[NEW]) if heads[ring] != NIL]
        bulk = [operator for operator, ring in enumerate(self._lanes[BULK]) if heads[ring] != NIL]
        if bulk:
            ring = self._lanes[BULK][self._shares[BULK].pick(bulk)]
            if not new or self.owed_bulk >= self.rings.size[heads[ring]]:
                return ring
        return self._lanes[NEW][self._shares[NEW].pick(new)] if new else -1

    def longest_unsent(self) -> float:
        """Return the earliest time of sending among the cards that repeat, infinite when there are none."""
        heads = (self.rings.head[ring] for ring in self._repeating)
        return min((self.rings.sent[head] for head in heads if head != NIL), default=math.inf)

    def waited(self, now: float) -> tuple[float, ...]:
        """Return how long the head of each age class has been unsent, 0 where there is none."""
        waits = [0.0] * len(self.classes)
        for ring in self._repeating:
            head = self.rings.head[ring]
            if head != NIL:
                age = self._age[ring]
                waits[age] = max(waits[age], now - self.rings.sent[head])
        return tuple(waits)

    def _choose(self, now: float) -> tuple[int, int]:
        """Return the ring that is most behind, and the one that is most wanted while none is; -1 for none.

        Where several operators have rings that are behind, it is the turn of one of them by weight.
        """
        rings = self.rings
        heads, sent, sizes, weights = rings.head, rings.sent, rings.size, rings.bytes
        limits, demands, served = self._limits, self._demands, self._served
        spacing, several = self.policy.min_repeat_s, self._several
        due = wanted = -1
        most_behind = most_wanted = -1.0
        behind_of: dict[int, tuple[float, int]] = {}  # of each operator: how far behind its worst ring is
        for ring in self._repeating:
            head = heads[ring]
            if head == NIL:
                continue
            waited = now - sent[head]
            if waited < spacing:
                continue
            limit = limits[ring]
            size = sizes[head]
            # A ring that is served all its bytes once in `limit`, evenly, keeps the limit of every card in it, however
            # they bunch; and it cannot be further behind than its head has waited. Both in parts of the limit.
            part = waited / limit
            behind = (now - served[ring]) / limit - size / weights[ring]
            if behind > part:
                behind = part
            if behind < part - (1 - GUARD):
                behind = part - (1 - GUARD)
            if behind >= 0:
                if several:
                    operator = self._owner[ring]
                    if operator not in behind_of or behind > behind_of[operator][0]:
                        behind_of[operator] = (behind, ring)
                if behind > most_behind:
                    due, most_behind = ring, behind
            elif due < 0:
                score = waited * waited * demands[ring] / size
                if score > most_wanted:
                    wanted, most_wanted = ring, score
        if due >= SIZE_CLASSES and len(behind_of) > 1:
            behind_of.pop(NOBODY, None)
            due = behind_of[self._repeat_shares.pick(behind_of)][1]
        return due, wanted

    def _send_first(self, lane: int, now: float) -> Turn:
        rings = self.rings
        slot = rings.head[lane]
        size = rings.size[slot]
        operator = self._owner[lane]
        kind = BULK if lane == self._lanes[BULK][operator] else NEW
        if self._several:
            self._shares[kind].spend(operator, size)
        self.sent_bytes[operator] += size
        if kind == BULK:
            self.owed_bulk = max(0.0, self.owed_bulk - size)
        elif any(rings.head[ring] != NIL for ring in self._lanes[BULK]):
            share = self.policy.bulk_share
            self.owed_bulk += size * share / (1 - share)
        rings.take(slot)
        rings.sent[slot] = now
        self.join(slot, now, operator)
        firsts = self._firsts
        firsts.append((now, slot, rings.changed[slot], lane))
        while firsts[0][0] < now - self._resend_horizon_s:
            firsts.popleft()
        return Turn(slot, LANE_NAMES[kind], True)

    def _send_again(self, ring: int, now: float) -> Turn:
        rings = self.rings
        slot = rings.head[ring]
        size = rings.size[slot]
        operator = self._owner[ring]
        if self._several and operator >= 0:
            self._repeat_shares.spend(operator, size)
        self.owed = max(0.0, self.owed - size)
        # Late: reckon from when it should have been, so that the rate is kept; but never from before the head's wait.
        planned = self._served[ring] + size / rings.bytes[ring] * self._limits[ring]
        self._served[ring] = min(now, max(planned, rings.sent[slot]))
        rings.sent[slot] = now
        if self.ring_for(slot, now, operator) == ring:
            rings.rotate(ring)
        else:
            rings.take(slot)
            self.join(slot, now, operator)
        return Turn(slot, self.names[ring], False)
