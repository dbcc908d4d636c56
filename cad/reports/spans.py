"""From the rows of a card's history to the spans of time in which it could open something. Pure.

Times are Unix seconds; a span that has no end lasts until `math.inf`.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

Span = tuple[float, float]
What = tuple[str, str]
"""`card`, `service`, `product` or `offer`, and its id; a card's own is ""."""

CARD: Final[What] = ("card", "")


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers mean: product_id → slug and services, number of an offer → slug and service of an event."""

    products: Mapping[int, tuple[str, tuple[str, ...]]]
    offers: Mapping[int, tuple[str, str | None]]


@dataclass(slots=True)
class CardSpans:
    """What one card could open when. `commands`: moment → the command that made the change."""

    address: int
    spans: dict[What, list[Span]]
    commands: dict[float, str] = field(default_factory=dict)

    def open_at(self, moment: float) -> Iterator[What]:
        """Yield what the card could open just before a moment."""
        for what, spans in self.spans.items():
            if any(start < moment <= end for start, end in spans):
                yield what

    def turns(self, begin: float, end: float) -> list[tuple[float, What, bool]]:
        """Return what began (True) or ceased to be open from `begin` until before `end`, in order."""
        found = [
            (at, what, on)
            for what, spans in self.spans.items()
            for span in spans
            for at, on in zip(span, (True, False), strict=True)
            if begin <= at < end
        ]
        return sorted(found)


def cards(rows: Iterable[Any], names: Names) -> Iterator[CardSpans]:
    """Yield the spans of each card of rows that come by card and in order."""
    for address, group in groupby(rows, attrgetter("address")):
        yield card(address, list(group), names)


def card(address: int, rows: Sequence[Any], names: Names) -> CardSpans:
    """Return the spans of one card."""
    found: defaultdict[What, list[Span]] = defaultdict(list)
    for number, row in enumerate(rows):
        until = rows[number + 1].at if number + 1 < len(rows) else math.inf
        for whats, start, end in _opened(row, names):
            span = max(row.at, start), min(until, math.inf if end is None else end)
            if span[0] < span[1]:
                for what in whats:
                    found[what].append(span)
    spans = {what: _joined(listed) for what, listed in found.items()}
    return CardSpans(address, spans, {row.at: row.command_id for row in rows})


def _opened(row: Any, names: Names) -> Iterator[tuple[list[What], float, float | None]]:
    offers, products = json.loads(row.opens)
    for number, start, end in products:
        whats = [CARD]
        if number in names.products:
            slug, services = names.products[number]
            whats += [("product", slug), *(("service", service) for service in services)]
        yield whats, start, end
    for number, start, end in offers:
        slug, service = names.offers.get(number, (str(number), None))
        yield [("offer", slug), *([("service", service)] if service else [])], start, end


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans without overlaps, rising; those that touch are one."""
    made: list[Span] = []
    for start, end in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], end)
        else:
            made.append((start, end))
    return made
