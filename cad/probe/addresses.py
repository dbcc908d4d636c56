"""When each card was last spoken to: a million addresses in arrays. Pure; times in seconds, rising.

A row is one part of one address. Rows are sorted by kind, address and part, so the parts of an address are neighbours.
What is heard is gathered in a batch and worked in by vectors.
"""

from array import array
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emm.message import EmmKind

CAPACITY: Final = 4_000_000
BATCH: Final = 16_384
KINDS: Final = (EmmKind.UNIQUE, EmmKind.GROUP, EmmKind.GLOBAL)

_PART_BITS: Final = 4
_KIND_SHIFT: Final = 40 + _PART_BITS
_KIND_INDEX: Final = {kind: index for index, kind in enumerate(KINDS)}

Column = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Spacing:
    """What the addresses of one kind hear. Times in seconds; None where there is nothing to tell yet.

    An address counts as heard in a window when every part of its EMM was. `cycle_s`: the longest of the spacings that
    addresses have heard last; `max_spacing_s`: the longest of all, and whose.
    """

    addresses: int
    heard_30_min: int
    heard_60_min: int
    sections: int
    mean_spacing_s: float | None
    median_spacing_s: float | None
    cycle_s: float | None
    max_spacing_s: float | None
    max_spacing_address: int | None
    silent_longest_s: float | None
    silent_longest_address: int | None


class AddressBook:
    """Hears addresses, tells spacings. Bounded by `capacity` rows; what does not fit counts in `not_kept`.

    `fallen` counts EMMs with a lower version than the one before to the same address; `fallen_address` is one.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.not_kept = 0
        self.forgotten = 0
        self.fallen = 0
        self.fallen_address: int | None = None
        self._capacity = capacity
        self._keys: Column = np.zeros(0, np.uint64)
        self._first: Column = np.zeros(0, np.float64)
        self._last: Column = np.zeros(0, np.float64)
        self._count: Column = np.zeros(0, np.uint32)
        self._last_gap: Column = np.zeros(0, np.float32)
        self._max_gap: Column = np.zeros(0, np.float32)
        self._last_part: Column = np.zeros(0, np.uint8)
        self._version: Column = np.zeros(0, np.uint64)
        self._new_batch()

    def hear(self, kind: EmmKind, address: int, part: int, last_part: int, version: int, at: float) -> None:
        """Note one section. `version`: rises with (period, revision)."""
        self._batch_keys.append(_KIND_INDEX[kind] << _KIND_SHIFT | address << _PART_BITS | part)
        self._batch_times.append(at)
        self._batch_parts.append(last_part)
        self._batch_versions.append(version)
        if len(self._batch_keys) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Work in what was gathered; done by every question, too."""
        if not self._batch_keys:
            return
        keys = np.array(self._batch_keys, np.uint64)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        times = np.array(self._batch_times, np.float64)[order]
        parts = np.array(self._batch_parts, np.uint8)[order]
        versions = np.array(self._batch_versions, np.uint64)[order]
        self._new_batch()
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        ends = np.concatenate((starts[1:], [len(keys)])) - 1
        gaps = np.diff(times, prepend=times[0])
        gaps[starts] = 0.0
        falls = np.zeros(len(keys), np.bool_)
        falls[1:] = versions[1:] < versions[:-1]
        falls[starts] = False
        distinct = keys[starts]
        at = np.searchsorted(self._keys, distinct)
        known = np.zeros(len(distinct), np.bool_)
        inside = at < len(self._keys)
        known[inside] = self._keys[at[inside]] == distinct[inside]
        rows = at[known]
        falls[starts[known]] = versions[starts[known]] < self._version[rows]
        self._note_falls(keys[falls])
        counts = (ends - starts + 1).astype(np.uint32)
        longest = np.maximum.reduceat(gaps, starts).astype(np.float32)
        since = (times[starts[known]] - self._last[rows]).astype(np.float32)
        self._max_gap[rows] = np.maximum(self._max_gap[rows], np.maximum(since, longest[known]))
        self._last_gap[rows] = np.where(counts[known] > 1, gaps[ends[known]], since)
        self._last[rows] = times[ends[known]]
        self._count[rows] += counts[known]
        self._last_part[rows] = parts[ends[known]]
        self._version[rows] = versions[ends[known]]
        new = np.flatnonzero(~known)
        room = max(0, self._capacity - len(self._keys))
        self.not_kept += int(counts[new[room:]].sum())
        new = new[:room]
        if len(new):
            where = at[new]
            self._keys = np.insert(self._keys, where, distinct[new])
            self._first = np.insert(self._first, where, times[starts[new]])
            self._last = np.insert(self._last, where, times[ends[new]])
            self._count = np.insert(self._count, where, counts[new])
            self._last_gap = np.insert(self._last_gap, where, gaps[ends[new]])
            self._max_gap = np.insert(self._max_gap, where, longest[new])
            self._last_part = np.insert(self._last_part, where, parts[ends[new]])
            self._version = np.insert(self._version, where, versions[ends[new]])

    def forget(self, before: float) -> None:
        """Forget the rows that were last heard before that time: cards that are no longer spoken to."""
        self.settle()
        keep = self._last >= before
        if keep.all():
            return
        addresses = self._keys[~keep] >> np.uint64(_PART_BITS)
        self.forgotten += len(np.unique(addresses))
        for name in ("_keys", "_first", "_last", "_count", "_last_gap", "_max_gap", "_last_part", "_version"):
            setattr(self, name, getattr(self, name)[keep])

    def spacing(self, kind: EmmKind, now: float) -> Spacing:
        """What the addresses of this kind hear."""
        self.settle()
        rows = self._rows_of(kind)
        keys, last = self._keys[rows], self._last[rows]
        if not len(keys):
            return Spacing(0, 0, 0, 0, None, None, None, None, None, None, None)
        valid, complete, addresses = self._complete(rows)
        count = self._count[rows]
        repeated = valid & (count > 1)
        means = (last[repeated] - self._first[rows][repeated]) / (count[repeated] - 1)
        longest = np.where(valid, self._max_gap[rows], 0)
        worst = int(np.argmax(longest))
        silent = int(np.argmin(complete))
        heard = np.isfinite(complete)
        some = len(means) > 0
        return Spacing(
            addresses=len(addresses),
            heard_30_min=int((heard & (complete >= now - 1800)).sum()),
            heard_60_min=int((heard & (complete >= now - 3600)).sum()),
            sections=int(count.sum()),
            mean_spacing_s=float(means.mean()) if some else None,
            median_spacing_s=float(np.median(means)) if some else None,
            cycle_s=float(self._last_gap[rows][repeated].max()) if some else None,
            max_spacing_s=float(longest[worst]) if some else None,
            max_spacing_address=_address(keys[worst]) if some else None,
            silent_longest_s=float(now - complete[silent]) if heard[silent] else None,
            silent_longest_address=int(addresses[silent]),
        )

    def heard_since(self, cards: Column, since: float) -> Column:
        """Which of these card addresses (sorted, uint64) have heard all parts of their EMM since then, as booleans."""
        self.settle()
        rows = self._rows_of(EmmKind.UNIQUE)
        if rows.stop == rows.start:
            return np.zeros(len(cards), np.bool_)
        _, complete, addresses = self._complete(rows)
        at = np.minimum(np.searchsorted(addresses, cards), len(addresses) - 1)
        heard: Column = (addresses[at] == cards) & (complete[at] >= since)
        return heard

    def _rows_of(self, kind: EmmKind) -> slice:
        index = _KIND_INDEX[kind]
        ends = np.array([index << _KIND_SHIFT, (index + 1) << _KIND_SHIFT], np.uint64)
        first, last = np.searchsorted(self._keys, ends)
        return slice(int(first), int(last))

    def _complete(self, rows: slice) -> tuple[Column, Column, Column]:
        """Which rows are parts that still exist; per address, when the last of its parts was heard (-inf: never all);
        the addresses."""
        keys, last, last_part = self._keys[rows], self._last[rows], self._last_part[rows]
        owners = keys >> np.uint64(_PART_BITS)
        starts = np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1])))
        sizes = np.diff(np.concatenate((starts, [len(keys)])))
        group = np.repeat(np.arange(len(starts)), sizes)
        # How many parts there are, the row heard last knows.
        latest = np.flatnonzero(last == np.maximum.reduceat(last, starts)[group])
        parts = np.zeros(len(starts), np.uint8)
        parts[group[latest]] = last_part[latest]
        valid = (keys & np.uint64((1 << _PART_BITS) - 1)) <= parts[group]
        complete = np.minimum.reduceat(np.where(valid, last, np.inf), starts)
        complete[np.add.reduceat(valid.astype(np.int64), starts) != parts.astype(np.int64) + 1] = -np.inf
        return valid, complete, owners[starts] & np.uint64((1 << 40) - 1)

    def _note_falls(self, keys: Column) -> None:
        self.fallen += len(keys)
        if len(keys):
            self.fallen_address = _address(keys[-1])

    def _new_batch(self) -> None:
        self._batch_keys = array("Q")
        self._batch_times = array("d")
        self._batch_parts = array("B")
        self._batch_versions = array("Q")


def _address(key: Any) -> int:
    return int(key) >> _PART_BITS & (1 << 40) - 1
