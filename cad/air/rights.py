"""Rights by card in arrays: ten bytes a right, changed in place, tidied up little by little."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from emm.plan import Right

NO_END: Final = 0xFFFF_FFFF
STEP: Final = 16
"""Cards that are moved with each change while rows are tidied up: some twenty microseconds."""
WASTE_MIN: Final = 4096


class _Rows:
    """Rights one behind the other."""

    def __init__(self) -> None:
        self.products: array[int] = array("H")
        self.starts: array[int] = array("I")
        self.ends: array[int] = array("I")

    def __len__(self) -> int:
        return len(self.products)

    def add(self, rights: Sequence[Right]) -> None:
        for right in rights:
            self.products.append(right.product_id)
            self.starts.append(right.start)
            self.ends.append(NO_END if right.end is None else min(right.end, NO_END))

    def take(self, rows: _Rows, at: int, count: int) -> None:
        part = slice(at, at + count)
        self.products.extend(rows.products[part])
        self.starts.extend(rows.starts[part])
        self.ends.extend(rows.ends[part])


class RightStore:
    """The rights of each slot. What a change leaves behind is cleared by later changes, a few slots with each, so that
    no change ever takes long and no more than a third of the rows are waste, but for some thousands."""

    def __init__(self) -> None:
        self._rows = _Rows()
        self._tidied: _Rows | None = None  # where the slots below `_cursor` stand already
        self._cursor = 0
        self._at: array[int] = array("I")
        self._count: array[int] = array("H")
        self._live = 0

    def __len__(self) -> int:
        return len(self._at)

    @property
    def rows(self) -> int:
        """How many rows are kept, waste included."""
        return len(self._rows) + (0 if self._tidied is None else len(self._tidied))

    def load(
        self,
        counts: npt.NDArray[np.int64],
        products: npt.NDArray[np.uint16],
        starts: npt.NDArray[np.uint32],
        ends: npt.NDArray[np.uint32],
    ) -> None:
        """Take the rights of all slots, one slot behind the other, in place of what there was."""
        self._tidied, self._cursor = None, 0
        before = np.cumsum(counts) - counts
        self._at = array("I", before.astype(np.uint32).tobytes())
        self._count = array("H", counts.astype(np.uint16).tobytes())
        self._rows.products = array("H", products.astype(np.uint16).tobytes())
        self._rows.starts = array("I", starts.astype(np.uint32).tobytes())
        self._rows.ends = array("I", ends.astype(np.uint32).tobytes())
        self._live = len(products)

    def get(self, slot: int) -> tuple[Right, ...]:
        """Return the rights of a slot."""
        rows, at = self._rows_of(slot), self._at[slot]
        part = slice(at, at + self._count[slot])
        return tuple(
            Right(product, start, None if end == NO_END else end)
            for product, start, end in zip(rows.products[part], rows.starts[part], rows.ends[part], strict=True)
        )

    def counts(self) -> npt.NDArray[np.uint16]:
        """How many rights each slot has."""
        return np.array(self._count, np.uint16)

    def put(self, slot: int, rights: Sequence[Right]) -> None:
        """Set the rights of a slot; the one after the last is a new one."""
        if slot == len(self._at):
            self._at.append(0)
            self._count.append(0)
        rows = self._rows_of(slot)
        self._live += len(rights) - self._count[slot]
        self._at[slot] = len(rows)
        self._count[slot] = len(rights)
        rows.add(rights)
        self._tidy()

    def _rows_of(self, slot: int) -> _Rows:
        return self._tidied if self._tidied is not None and slot < self._cursor else self._rows

    def _tidy(self) -> None:
        if self._tidied is None:
            if len(self._rows) - self._live <= max(WASTE_MIN, self._live // 2):
                return
            self._tidied, self._cursor = _Rows(), 0
        until = min(self._cursor + STEP, len(self._at))
        for slot in range(self._cursor, until):
            at = len(self._tidied)
            self._tidied.take(self._rows, self._at[slot], self._count[slot])
            self._at[slot] = at
        self._cursor = until
        if until == len(self._at):
            self._rows, self._tidied = self._tidied, None
