"""Whose turn it is: the decision, and the moves of cards between rings that follow from it. Steady seconds only."""

import math
from collections import deque
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emm.rotation.policy import BULK, LANE_NAMES, LANES, NEW, SIZE_BORDERS, SIZE_CLASSES, CarouselPolicy
from emm.rotation.rings import ABSENT, NIL, Rings

RESEND_HORIZON_S: Final = 120.0
"""First transmissions are usually remembered so long before the last one; multiplexers hold far less in a queue."""

GUARD: Final = 0.1
"""A card whose spacing has but this part of its limit left is due, however its ring has been served."""


class Turn(NamedTuple):
    """A card that goes out now. `ring`: new, bulk, fresh, hour or base; `first`: this content was never sent before."""

    slot: int
    ring: str
    first: bool


class Turns:
    """Rings of cards with the rule that picks among their heads.

    Rings 0 and 1 are the lanes of the never-sent; then one ring for each age of change and size class. Within a lane
    the order is that of change (bulk: of arrival), within a ring the longest unsent is at the head, so that the heads
    are all that a decision has to look at.
    """

    def __init__(self, policy: CarouselPolicy, capacity: int = 0, resend_horizon_s: float = RESEND_HORIZON_S) -> None:
        self.policy = policy
        self._resend_horizon_s = resend_horizon_s
        self.classes = policy.age_classes
        count = LANES + len(self.classes) * SIZE_CLASSES
        self.rings = Rings(count, capacity)
        spread = [age for age in self.classes for _ in range(SIZE_CLASSES)]
        self.names = LANE_NAMES + tuple(age.name for age in spread)
        self.limits = [policy.first_transmission_s] * LANES + [age.limit_s for age in spread]
        self.owed = 0.0
        """Bytes that the never-sent owe to repeats that are due."""
        self.owed_bulk = 0.0
        """Bytes that the new lane owes to the bulk lane."""
        self._demands = [0.0] * LANES + [age.demand for age in spread]
        self._repeating = range(LANES, count)
        # When each ring was last served, less what it was served too late: from there its next turn is reckoned.
        self._served = [0.0] * count
        self._firsts: deque[tuple[float, int, float]] = deque()  # (sent, slot, changed) of first transmissions
        self._size_class = np.array(SIZE_BORDERS)

    # -- moves

    def ring_for(self, slot: int, now: float) -> int:
        """Return the ring in which a card that has been sent waits for its next turn."""
        age = now - self.rings.changed[slot]
        number = 0 if age < self.policy.fresh_s else 1 if age < self.policy.first_hour_s else 2
        size = self.rings.size[slot]
        ring = LANES + number * SIZE_CLASSES
        for border in SIZE_BORDERS:
            if size <= border:
                break
            ring += 1
        return ring

    def join(self, slot: int, now: float) -> None:
        """Put an absent card, sent just now, at the end of its ring."""
        ring = self.ring_for(slot, now)
        if self.rings.head[ring] == NIL:
            self._served[ring] = now
        self.rings.append(ring, slot)

    def join_due(self, slot: int, now: float) -> None:
        """Put an absent card, of which it is not known when it was sent, at the head of its ring: due at once."""
        ring = self.ring_for(slot, now)
        head = self.rings.head[ring]
        due = now - self.limits[ring]
        if head == NIL:
            self._served[ring] = now
            self.rings.sent[slot] = due
        else:
            self.rings.sent[slot] = min(due, self.rings.sent[head])
        self.rings.insert_after(ring, NIL, slot)

    def join_many(self, slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], now: float) -> None:
        """Put absent, distinct cards that never changed at the ends of their rings, as if sent just now."""
        base = LANES + (len(self.classes) - 1) * SIZE_CLASSES
        ring = np.searchsorted(self._size_class, sizes).astype(np.uint8) + np.uint8(base)
        empty = [number for number in range(base, base + SIZE_CLASSES) if self.rings.head[number] == NIL]
        self.rings.append_many(ring, slots, sizes, now)
        for number in empty:
            self._served[number] = now

    def queue(self, slot: int) -> None:
        """Put an absent card into the new lane by its time of change: behind all that are not younger."""
        changed = self.rings.changed
        before = self.rings.tail[NEW]
        while before != NIL and changed[before] > changed[slot]:
            before = self.rings.before(before)
        self.rings.insert_after(NEW, before, slot)

    def requeue_since(self, since: float) -> int:
        """Put all whose first transmission went out at `since` or later back into the new lane; return how many."""
        rings = self.rings
        lost: set[int] = set()
        while self._firsts and self._firsts[-1][0] >= since:
            _, slot, changed = self._firsts.pop()
            if LANES <= rings.ring_of(slot) < ABSENT and rings.changed[slot] == changed:
                lost.add(slot)
        before = NIL
        for slot in sorted(lost, key=lambda slot: (rings.changed[slot], slot)):
            rings.take(slot)
            after = rings.head[NEW] if before == NIL else rings.after(before)
            while after != NIL and rings.changed[after] <= rings.changed[slot]:
                before, after = after, rings.after(after)
            rings.insert_after(NEW, before, slot)
            before = slot
        return len(lost)

    # -- the decision

    def pop(self, now: float) -> Turn | None:
        """Decide who goes out now, and reckon it as sent; None when nobody may."""
        due, wanted = self._choose(now)
        lane = self.lane()
        if lane >= 0:
            rings = self.rings
            if due < 0:
                return self._send_first(lane, now)
            if self.owed < rings.size[rings.head[due]]:
                share = self.policy.new_share
                self.owed += rings.size[rings.head[lane]] * (1 - share) / share
                return self._send_first(lane, now)
        ring = due if due >= 0 else wanted
        return self._send_again(ring, now) if ring >= 0 else None

    def lane(self) -> int:
        """Return the lane whose head is the next never-sent, -1 when none waits."""
        new, bulk = self.rings.head[NEW], self.rings.head[BULK]
        if bulk == NIL:
            return -1 if new == NIL else NEW
        return BULK if new == NIL or self.owed_bulk >= self.rings.size[bulk] else NEW

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
                age = (ring - LANES) // SIZE_CLASSES
                waits[age] = max(waits[age], now - self.rings.sent[head])
        return tuple(waits)

    def _choose(self, now: float) -> tuple[int, int]:
        """Return the ring that is most behind, and the one that is most wanted while none is; -1 for none."""
        rings = self.rings
        sent, sizes, weights = rings.sent, rings.size, rings.bytes
        limits, demands, served = self.limits, self._demands, self._served
        spacing = self.policy.min_repeat_s
        due = wanted = -1
        most_behind = most_wanted = -1.0
        for ring, head in enumerate(rings.head):
            if head == NIL or ring < LANES:
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
                if behind > most_behind:
                    due, most_behind = ring, behind
            elif due < 0:
                score = waited * waited * demands[ring] / size
                if score > most_wanted:
                    wanted, most_wanted = ring, score
        return due, wanted

    def _send_first(self, lane: int, now: float) -> Turn:
        rings = self.rings
        slot = rings.head[lane]
        size = rings.size[slot]
        if lane == BULK:
            self.owed_bulk = max(0.0, self.owed_bulk - size)
        elif rings.head[BULK] != NIL:
            share = self.policy.bulk_share
            self.owed_bulk += size * share / (1 - share)
        rings.take(slot)
        rings.sent[slot] = now
        self.join(slot, now)
        firsts = self._firsts
        firsts.append((now, slot, rings.changed[slot]))
        while firsts[0][0] < now - self._resend_horizon_s:
            firsts.popleft()
        return Turn(slot, LANE_NAMES[lane], True)

    def _send_again(self, ring: int, now: float) -> Turn:
        rings = self.rings
        slot = rings.head[ring]
        size = rings.size[slot]
        self.owed = max(0.0, self.owed - size)
        # Late: reckon from when it should have been, so that the rate is kept; but never from before the head's wait.
        planned = self._served[ring] + size / rings.bytes[ring] * self.limits[ring]
        self._served[ring] = min(now, max(planned, rings.sent[slot]))
        rings.sent[slot] = now
        if self.ring_for(slot, now) == ring:
            rings.rotate(ring)
        else:
            rings.take(slot)
            self.join(slot, now)
        return Turn(slot, self.names[ring], False)
