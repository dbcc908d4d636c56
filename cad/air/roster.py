"""The cards of one network as the carousel needs them: a million of them in arrays, not in objects.

The ledger is the truth. A roster is derived from it at the start and follows every commit; nothing of it is saved.
A card's place in the arrays is its *slot*; slots are what the carousels of the network's multiplexes turn in.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cad.air.rights import NO_END, RightStore
from emm.calendar import Calendar
from emm.message import Version
from emm.plan import CardContent, Right, plan_card
from emm.traits import NO_TRAITS, Traits

_TYPICAL_FRAME = 17 + 16 + 2
_TYPICAL_WINDOW = 2 + 11
_TYPICAL_PRODUCT = 18


class Sealer(Protocol):
    """What turns a card's content into the sections of its EMM (`emm.seal.EmmSealer`)."""

    def unique(self, address: int, key_version: int, version: Version, content: CardContent) -> tuple[bytes, ...]: ...


class CardState(Protocol):
    """A card as the ledger tells it after a commit (`cad.ledger` `CardChange`)."""

    @property
    def address(self) -> int: ...
    @property
    def suspended(self) -> bool: ...
    @property
    def revision(self) -> int: ...
    @property
    def key_version(self) -> int: ...
    @property
    def rights(self) -> Sequence[Right]: ...
    @property
    def traits(self) -> Traits: ...


@dataclass(frozen=True, slots=True)
class CardBlock:
    """Cards as arrays of equal length, ascending by address; one row a card.

    The last four are `emm.traits.Traits`, 0 for none.
    """

    addresses: npt.NDArray[np.uint64]
    revisions: npt.NDArray[np.uint32]
    key_versions: npt.NDArray[np.uint8]
    suspended: npt.NDArray[np.bool_]
    receivers: npt.NDArray[np.uint64]
    parental: npt.NDArray[np.uint8]
    pin_resets: npt.NDArray[np.uint32]
    regions: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class RightBlock:
    """Rights as arrays of equal length, any order; `ends` is NO_END for an open-ended right. Times in Unix seconds."""

    addresses: npt.NDArray[np.uint64]
    product_ids: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.uint32]


class Roster:
    """Cards and rights of one network by slot; `load` once, then `apply` each change of the ledger."""

    def __init__(self) -> None:
        self._addresses: array[int] = array("Q")
        self._revisions: array[int] = array("I")
        self._key_versions: array[int] = array("B")
        self._suspended: array[int] = array("B")
        self._receivers: array[int] = array("Q")
        self._parental: array[int] = array("B")
        self._pin_resets: array[int] = array("I")
        self._regions: array[int] = array("H")
        self._rights = RightStore()
        # Addresses of the first `_sorted` slots ascend; later cards are found through `_later`.
        self._index: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._later: dict[int, int] = {}
        self._later_groups: set[int] = set()

    def __len__(self) -> int:
        return len(self._addresses)

    def load(self, cards: CardBlock, rights: RightBlock) -> None:
        """Take a whole network's cards. Raises ValueError for unsorted or repeated addresses, or rights of no card."""
        addresses = cards.addresses
        if len(addresses) > 1 and not bool(np.all(addresses[1:] > addresses[:-1])):
            raise ValueError("cards must ascend by address, each once")
        slots = np.searchsorted(addresses, rights.addresses)
        if len(slots) and (
            bool(np.any(slots >= len(addresses)))
            or not bool(np.all(addresses[np.minimum(slots, len(addresses) - 1)] == rights.addresses))
        ):
            raise ValueError("a right belongs to a card that is not in the network")
        order = np.argsort(slots, kind="stable")
        counts = np.bincount(slots, minlength=len(addresses))
        self._rights.load(counts, rights.product_ids[order], rights.starts[order], rights.ends[order])
        self._index = addresses
        self._addresses = array("Q", addresses.astype(np.uint64).tobytes())
        self._revisions = array("I", cards.revisions.astype(np.uint32).tobytes())
        self._key_versions = array("B", cards.key_versions.astype(np.uint8).tobytes())
        self._suspended = array("B", cards.suspended.astype(np.uint8).tobytes())
        self._receivers = array("Q", cards.receivers.astype(np.uint64).tobytes())
        self._parental = array("B", cards.parental.astype(np.uint8).tobytes())
        self._pin_resets = array("I", cards.pin_resets.astype(np.uint32).tobytes())
        self._regions = array("H", cards.regions.astype(np.uint16).tobytes())
        self._later.clear()
        self._later_groups.clear()

    def slot_of(self, address: int) -> int | None:
        """Slot of a card, None when it is not in the network."""
        later = self._later.get(address)
        if later is not None:
            return later
        place = int(np.searchsorted(self._index, np.uint64(address)))
        if place < len(self._index) and int(self._index[place]) == address:
            return place
        return None

    def address(self, slot: int) -> int:
        return self._addresses[slot]

    def revision(self, slot: int) -> int:
        return self._revisions[slot]

    def rights(self, slot: int) -> tuple[Right, ...]:
        """Rights of a card as the ledger has them, without regard to suspension."""
        return self._rights.get(slot)

    def apply(self, change: CardState) -> tuple[int, bool]:
        """Follow one change of the ledger; a version that is older than the one held is left aside.

        Returns the card's slot, and whether it is new to the roster.
        """
        slot = self.slot_of(change.address)
        new = slot is None
        if slot is None:
            slot = len(self._addresses)
            self._addresses.append(change.address)
            self._revisions.append(change.revision)
            self._key_versions.append(change.key_version)
            self._suspended.append(change.suspended)
            self._receivers.append(0)
            self._parental.append(0)
            self._pin_resets.append(0)
            self._regions.append(0)
            self._later[change.address] = slot
            self._later_groups.add(change.address >> 8)
        elif change.revision < self._revisions[slot]:
            return slot, False
        self._revisions[slot] = change.revision
        self._key_versions[slot] = change.key_version
        self._suspended[slot] = change.suspended
        self._rights.put(slot, change.rights)
        self._receivers[slot] = change.traits.receiver or 0
        self._parental[slot] = change.traits.parental
        self._pin_resets[slot] = change.traits.pin_reset
        self._regions[slot] = change.traits.region
        return slot, new

    def content(self, slot: int, period: int, calendar: Calendar) -> CardContent:
        """What the card should hold in that period."""
        return plan_card(bool(self._suspended[slot]), self.rights(slot), period, calendar, self._traits(slot))

    def seal(self, slot: int, period: int, calendar: Calendar, sealer: Sealer) -> tuple[bytes, ...]:
        """The sections of the card's EMM in that period."""
        version = Version(period, self._revisions[slot])
        content = self.content(slot, period, calendar)
        return sealer.unique(self._addresses[slot], self._key_versions[slot], version, content)

    def _traits(self, slot: int) -> Traits:
        said = self._receivers[slot], self._parental[slot], self._pin_resets[slot], self._regions[slot]
        return Traits(said[0] or None, *said[1:]) if any(said) else NO_TRAITS

    def key_versions(self) -> tuple[int, ...]:
        """Versions of keys that cards have, rising."""
        return tuple(sorted(set(self._key_versions.tobytes())))

    def count_groups(self, ranges: Sequence[tuple[int, int]]) -> int:
        """How many groups of 256 addresses have cards in these ranges (both ends included), counted once a range."""
        found = 0
        for first, last in ranges:
            place, end = np.searchsorted(self._index, np.array([first, last + 1], np.uint64))
            groups = self._index[place:end] >> np.uint64(8)
            found += int(np.count_nonzero(np.diff(groups))) + 1 if len(groups) else 0
            found += sum(first >> 8 <= group <= last >> 8 for group in self._later_groups)
        return found

    def typical_sizes(self) -> npt.NDArray[np.uint16]:
        """Size in bytes to reckon with for each slot's EMM before it has been sealed once."""
        counts = self._rights.counts().astype(np.int64)
        sizes = _TYPICAL_FRAME + np.where(counts > 0, _TYPICAL_WINDOW + _TYPICAL_PRODUCT * counts, 0)
        typical: npt.NDArray[np.uint16] = np.minimum(sizes, 4096).astype(np.uint16)
        return typical


class SectionCache:
    """Sections sealed not long ago, so that a change that goes to many multiplexes is sealed once."""

    def __init__(self, roster: Roster, calendar: Calendar, sealer: Sealer, capacity: int = 4096) -> None:
        self._roster = roster
        self._calendar = calendar
        self._sealer = sealer
        self._capacity = capacity
        self._held: OrderedDict[int, tuple[int, int, tuple[bytes, ...]]] = OrderedDict()

    def sections(self, slot: int, now: float) -> tuple[bytes, ...]:
        """Sections of the card's EMM at `now` (Unix seconds). Raises PlanError when the rights do not fit."""
        period = self._calendar.period(now)
        revision = self._roster.revision(slot)
        held = self._held.get(slot)
        if held is not None and held[0] == period and held[1] == revision:
            self._held.move_to_end(slot)
            return held[2]
        sections = self._roster.seal(slot, period, self._calendar, self._sealer)
        self._held[slot] = (period, revision, sections)
        self._held.move_to_end(slot)
        if len(self._held) > self._capacity:
            self._held.popitem(last=False)
        return sections


def join_cards(blocks: Sequence[CardBlock]) -> CardBlock:
    """One block of several, in their order."""
    if not blocks:
        return card_block(())
    return CardBlock(*(np.concatenate([getattr(block, each.name) for block in blocks]) for each in fields(CardBlock)))


def card_block(rows: Iterable[tuple[int, int, int, bool]]) -> CardBlock:
    """Arrays from (address, revision, key_version, suspended) rows of cards without traits, ascending by address."""
    table = np.fromiter(rows, dtype=np.dtype([("a", np.uint64), ("r", np.uint32), ("k", np.uint8), ("s", np.bool_)]))
    return CardBlock(
        np.ascontiguousarray(table["a"]),
        np.ascontiguousarray(table["r"]),
        np.ascontiguousarray(table["k"]),
        np.ascontiguousarray(table["s"]),
        np.zeros(len(table), np.uint64),
        np.zeros(len(table), np.uint8),
        np.zeros(len(table), np.uint32),
        np.zeros(len(table), np.uint16),
    )


def right_block(rows: Iterable[tuple[int, int, int, int | None]]) -> RightBlock:
    """Arrays from (address, product_id, start, end) rows in any order."""
    table = np.fromiter(
        ((a, p, s, NO_END if e is None else min(e, NO_END)) for a, p, s, e in rows),
        dtype=np.dtype([("a", np.uint64), ("p", np.uint16), ("s", np.uint32), ("e", np.uint32)]),
    )
    return RightBlock(
        np.ascontiguousarray(table["a"]),
        np.ascontiguousarray(table["p"]),
        np.ascontiguousarray(table["s"]),
        np.ascontiguousarray(table["e"]),
    )
