"""What a card should hold: a pure function of its rights and the period (D1, D2, D5)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from emm.calendar import Calendar
from emm.errors import PlanError
from emm.traits import NO_TRAITS, Traits

PRODUCT_ID_MAX: Final = 0xFFFF
WINDOWS_MAX: Final = 64
"""Windows (after merging, per product) that fit into a card's EMM in every period, whatever they are."""


@dataclass(frozen=True, slots=True)
class Right:
    """A product from `start` (UTC seconds) until before `end`; None: until further notice."""

    product_id: int
    start: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Products that share one window and the keys of `key_count` (1 or 2) epochs from `first_epoch` on.

    `start` 0 means open since before the period. `product_ids` rise.
    """

    start: int
    end: int
    first_epoch: int
    key_count: int
    product_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CardContent:
    """All that a card's EMM says in one period; equal content is sealed from one cached payload."""

    suspended: bool
    windows: tuple[Window, ...] = ()
    traits: Traits = NO_TRAITS


@dataclass(frozen=True, slots=True)
class _Edges:
    """The moments that cut windows in one period."""

    start: int
    horizon: int
    rights_end: int
    epoch: int
    epoch_end: int


def plan_card(
    suspended: bool, rights: Iterable[Right], period: int, calendar: Calendar, traits: Traits = NO_TRAITS
) -> CardContent:
    """Return what the EMM of `period` says to a card with these rights; their order does not matter.

    At any time from the start of the period until `calendar.rights_end(period)` the content opens what the rights
    allow and nothing else; only a window that starts `calendar.lead_s` or more after the end of the period is left
    for later (no right, no key). A suspended card holds no right; its traits are said all the same.
    Raises `PlanError` for a right that no EMM could say.
    """
    if suspended:
        return CardContent(suspended=True, traits=traits)
    edges = _edges(calendar, period)
    groups: dict[tuple[int, int, int, int], list[int]] = {}
    for right in merge(rights):
        window = _clip(right, edges)
        if window is not None:
            groups.setdefault(window, []).append(right.product_id)
    windows = tuple([Window(*window, tuple(groups[window])) for window in sorted(groups)])
    return CardContent(suspended=False, windows=windows, traits=traits)


def merge(rights: Iterable[Right]) -> list[Right]:
    """Return the same rights without empty, overlapping or adjacent windows of one product, in order.

    Raises `PlanError` when a product_id is not 1..65535 or a start is negative.
    """
    merged: list[Right] = []
    for right in sorted(rights, key=_order):
        if not 1 <= right.product_id <= PRODUCT_ID_MAX or right.start < 0:
            raise PlanError(f"no EMM can say product {right.product_id} from {right.start} to {right.end}")
        if right.end is not None and right.end <= right.start:
            continue
        before = merged[-1] if merged else None
        if before is None or before.product_id != right.product_id:
            merged.append(right)
        elif before.end is None or (right.end is not None and right.end <= before.end):
            continue
        elif right.start <= before.end:
            merged[-1] = Right(right.product_id, before.start, right.end)
        else:
            merged.append(right)
    return merged


def ensure_fits(rights: Iterable[Right], now: float) -> None:
    """Raise `PlanError` when a card with these rights might outgrow its EMM in some period from `now` on."""
    count = sum(1 for right in merge(rights) if right.end is None or right.end > now)
    if count > WINDOWS_MAX:
        raise PlanError(
            f"a card can hold at most {WINDOWS_MAX} rights that have not ended; this one would hold {count}"
        )


def _order(right: Right) -> tuple[int, int]:
    return right.product_id, right.start


@lru_cache(maxsize=16)
def _edges(calendar: Calendar, period: int) -> _Edges:
    epoch = calendar.epoch_of_period(period)
    return _Edges(
        start=calendar.period_start(period),
        horizon=calendar.period_end(period) + calendar.lead_s,
        rights_end=calendar.rights_end(period),
        epoch=epoch,
        epoch_end=calendar.epoch_end(epoch),
    )


def _clip(right: Right, edges: _Edges) -> tuple[int, int, int, int] | None:
    """Return (start, end, first_epoch, key_count) as the EMM says them, or None when it says nothing."""
    start = right.start if right.start > edges.start else 0
    end = edges.rights_end if right.end is None or right.end > edges.rights_end else right.end
    if end <= edges.start or start >= edges.horizon or start >= end:
        return None
    first = edges.epoch if start < edges.epoch_end else edges.epoch + 1
    last = edges.epoch if end <= edges.epoch_end else edges.epoch + 1
    return start, end, first, last - first + 1
