"""What is promised for changes made now (X2): computed from the carousels as they are, true whatever others order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cad.ledger.promise import Showing
from emm.carousel import Forecast

URGENT_MAX: Final = 20
"""A command that changes more cards than this is a mass change: it lets single orders pass."""
ROLLED_PER_S: Final = 500
"""Cards that follow a changed offer in a second, on a slow disk and beside many orders."""
ROUNDING_S: Final = 1.0
HOUR_S: Final = 3600.0
TOO_LONG: Final = "it takes more than an hour until everything is visible: the bandwidth does not suffice"
NOT_YET: Final = "no time can be told: the headend has just been started"
NO_REPEATS: Final = "the bandwidth does not suffice for the usual repetition"


@dataclass(frozen=True, slots=True)
class Told:
    """When a change will be on the air and by when visible (Unix seconds), or why that cannot be told."""

    on_air_by: int | None
    visible_by: int | None
    detail: str | None = None

    def of(self, cards: int) -> Told:
        """The same for everybody."""
        return self

    def of_message(self, showing: Showing) -> Told:
        """The same for every message."""
        return self


class MessagePromise(Protocol):
    """What can be promised for messages (`cad.air.notice_promises`)."""

    def of(self, showing: Showing) -> Told: ...


@dataclass(slots=True)
class Promise:
    """What can be promised to one operator for what is committed at `now`, on all multiplexes of its network.

    `pending`: cards of its mass changes that are not on the carousels yet, and come there at `ROLLED_PER_S` at least;
    `short`: whether a shortfall is known.
    `elapsed` tells the seconds since `now`: a commit may wait for another. `singles` and `masses` count the cards asked
    for so far. `messages` promises for those.
    """

    now: float
    forecasts: Sequence[Forecast]
    pending: int = 0
    short: bool = False
    elapsed: Callable[[], float] = lambda: 0.0
    singles: int = 0
    masses: int = 0
    messages: MessagePromise | None = None

    def of(self, cards: int) -> Told:
        """What to promise a command that changes so many cards, behind those asked for before it."""
        urgent = is_urgent(cards)
        # Single orders have only each other ahead.
        behind = self.singles if urgent else self.singles + self.masses + self.pending
        if urgent:
            self.singles += cards
        else:
            self.masses += cards
        slowest = max(one.within(behind, cards, urgent) for one in self.forecasts)
        if not urgent:
            slowest += (self.pending + cards) / ROLLED_PER_S
        apart = max(one.repeat_s for one in self.forecasts)
        on_air_by = math.ceil(self.now + self.elapsed() + slowest + ROUNDING_S)
        visible_by = math.ceil(on_air_by + apart)
        found = [TOO_LONG] if visible_by - self.now > HOUR_S else []
        return Told(on_air_by, visible_by, "; ".join([*found, *([NO_REPEATS] if self.short else [])]) or None)

    def of_message(self, showing: Showing) -> Told:
        """What to promise a command that has a message sent."""
        return Told(None, None, NOT_YET) if self.messages is None else self.messages.of(showing)


def is_urgent(cards: int) -> bool:
    """Tell whether a command that changes so many cards is sent like a single order."""
    return cards <= URGENT_MAX
