"""Cards in rings: doubly linked lists in arrays, 28 bytes a card, every step O(1)."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from emm.rotation.errors import CarouselError

NIL: Final = 0xFFFF_FFFF
"""No slot."""
ABSENT: Final = 0xFFFF
"""Ring number of a slot that is in no ring."""
SIZE_MAX: Final = 0xFFFF
PORTION: Final = 1 << 16
NEVER: Final = float("-inf")


class Rings:
    """Slots (small ints) in `count` rings, each ordered by its owner; sizes in bytes, times in seconds.

    The arrays are open to the carousel, which reads them in its inner loop; only this class writes links and sums.
    """

    def __init__(self, count: int, capacity: int = 0) -> None:
        self.head: list[int] = []
        self.tail: list[int] = []
        self.cards: list[int] = []
        self.bytes: list[int] = []
        self.open(count)
        self.ring: array[int] = array("H")
        self.size: array[int] = array("H")
        self.sent: array[float] = array("d")
        self.changed: array[float] = array("d")
        self._next: array[int] = array("I")
        self._prev: array[int] = array("I")
        self._reserve(capacity)

    def open(self, count: int) -> int:
        """Add so many rings, empty; return the number of the first of them."""
        first = len(self.head)
        if first + count > ABSENT:
            raise CarouselError(f"{first + count} rings: there are at most {ABSENT}")
        self.head += [NIL] * count
        self.tail += [NIL] * count
        self.cards += [0] * count
        self.bytes += [0] * count
        return first

    def _reserve(self, capacity: int) -> None:
        extra = capacity - len(self.ring)
        if extra <= 0:
            return
        self.ring.frombytes(b"\xff" * (self.ring.itemsize * extra))
        for column in (self.size, self.sent, self.changed, self._next, self._prev):
            column.frombytes(bytes(column.itemsize * extra))

    def ring_of(self, slot: int) -> int:
        """Return the slot's ring, ABSENT when it is in none. Raises `CarouselError` for what is no slot."""
        if not 0 <= slot < NIL:
            raise CarouselError(f"{slot} is no slot: slots are whole numbers from 0 to {NIL - 1}")
        return self.ring[slot] if slot < len(self.ring) else ABSENT

    def append(self, ring: int, slot: int) -> None:
        """Put an absent slot at the end of a ring."""
        self.insert_after(ring, self.tail[ring], slot)

    def insert_after(self, ring: int, before: int, slot: int) -> None:
        """Put an absent slot behind the slot `before` of the same ring, at its head when that is NIL."""
        after = self.head[ring] if before == NIL else self._next[before]
        self._prev[slot] = before
        self._next[slot] = after
        if before == NIL:
            self.head[ring] = slot
        else:
            self._next[before] = slot
        if after == NIL:
            self.tail[ring] = slot
        else:
            self._prev[after] = slot
        self.ring[slot] = ring
        self.cards[ring] += 1
        self.bytes[ring] += self.size[slot]

    def take(self, slot: int) -> int:
        """Take a slot out of its ring and return which that was."""
        ring = self.ring[slot]
        before, after = self._prev[slot], self._next[slot]
        if before == NIL:
            self.head[ring] = after
        else:
            self._next[before] = after
        if after == NIL:
            self.tail[ring] = before
        else:
            self._prev[after] = before
        self.ring[slot] = ABSENT
        self.cards[ring] -= 1
        self.bytes[ring] -= self.size[slot]
        return ring

    def rotate(self, ring: int) -> None:
        """Move the head of a ring to its end."""
        slot, tail = self.head[ring], self.tail[ring]
        if slot == tail:
            return
        following = self._next[slot]
        self.head[ring] = following
        self._prev[following] = NIL
        self._next[tail] = slot
        self._prev[slot] = tail
        self._next[slot] = NIL
        self.tail[ring] = slot

    def set_size(self, slot: int, size: int) -> None:
        """Set the size of a slot, in a ring or not; grows the arrays for a slot not seen before."""
        if not 0 < size <= SIZE_MAX:
            raise CarouselError(f"a card of {size} bytes: sizes lie in 1..{SIZE_MAX}")
        if slot >= len(self.ring):
            self._reserve(max(slot + 1, len(self.ring) * 5 // 4))
        ring = self.ring[slot]
        if ring != ABSENT:
            self.bytes[ring] += size - self.size[slot]
        self.size[slot] = size

    def before(self, slot: int) -> int:
        """Return the slot ahead in the same ring, NIL at the head."""
        return self._prev[slot]

    def after(self, slot: int) -> int:
        """Return the slot behind in the same ring, NIL at the tail."""
        return self._next[slot]

    def walk(self, ring: int) -> Iterator[int]:
        """Yield a ring's slots from the head on; the ring must not change meanwhile."""
        slot = self.head[ring]
        while slot != NIL:
            yield slot
            slot = self._next[slot]

    def append_many(
        self, rings: npt.NDArray[np.uint16], slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], sent: float
    ) -> None:
        """Put absent, distinct slots at the ends of their rings in the order given: never changed, sent at `sent`.

        Raises `CarouselError` and does nothing when a slot or a size cannot be.
        """
        if slots.shape != sizes.shape or slots.ndim != 1:
            raise CarouselError("slots and sizes must be two rows of equal length")
        if len(slots) == 0:
            return
        self._check_many(slots, sizes)
        self._reserve(int(slots.max()) + 1)
        # In portions, so that what numpy makes on the way stays small beside a million cards.
        for start in range(0, len(slots), PORTION):
            part = slice(start, start + PORTION)
            self._append_portion(rings[part], slots[part], sizes[part], sent)

    def _append_portion(
        self, rings: npt.NDArray[np.uint16], slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], sent: float
    ) -> None:
        np.frombuffer(self.size, np.uint16)[slots] = sizes
        np.frombuffer(self.sent, np.float64)[slots] = sent
        np.frombuffer(self.changed, np.float64)[slots] = NEVER
        np.frombuffer(self.ring, np.uint16)[slots] = rings
        following = np.frombuffer(self._next, np.uint32)
        previous = np.frombuffer(self._prev, np.uint32)
        for ring in np.unique(rings).tolist():
            here = rings == ring
            chain = slots[here]
            tail = self.tail[ring]
            following[chain[:-1]] = chain[1:]
            previous[chain[1:]] = chain[:-1]
            following[chain[-1]] = NIL
            previous[chain[0]] = tail
            if tail == NIL:
                self.head[ring] = int(chain[0])
            else:
                following[tail] = chain[0]
            self.tail[ring] = int(chain[-1])
            self.cards[ring] += len(chain)
            self.bytes[ring] += int(sizes[here].sum())

    def _check_many(self, slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> None:
        if int(slots.min()) < 0 or int(slots.max()) >= NIL:
            raise CarouselError(f"slots are whole numbers from 0 to {NIL - 1}")
        if int(sizes.min()) < 1 or int(sizes.max()) > SIZE_MAX:
            raise CarouselError(f"sizes lie in 1..{SIZE_MAX} bytes")
        taken = np.zeros(max(len(self.ring), int(slots.max()) + 1), np.bool_)
        taken[: len(self.ring)] = np.frombuffer(self.ring, np.uint16) != ABSENT
        before = int(np.count_nonzero(taken))
        taken[slots] = True
        if int(np.count_nonzero(taken)) - before != len(slots):
            raise CarouselError("a slot is in the carousel already, or given twice")

    def total(self, rings: Sequence[int]) -> tuple[int, int]:
        """Return cards and bytes of several rings together."""
        return sum(self.cards[ring] for ring in rings), sum(self.bytes[ring] for ring in rings)
