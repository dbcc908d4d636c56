"""Mass changes on their way from the ledger to the carousels: in slices, so that the event loop does not pause."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from cad.frame.clock import Clock
from cad.ledger.model import CardChange

SLICE_S: Final = 0.005
LOOK_EVERY: Final = 20


class Promised(NamedTuple):
    """What a reply has promised for a change (Unix seconds); None where it promised nothing."""

    on_air_by: float | None = None
    visible_by: float | None = None


class MassChanges:
    """Takes changes that are many at once and hands them on little by little, in order.

    Nothing is lost with it: what is here is in the ledger, and is read from there at the next start. A single order for
    a card may overtake the mass change of that card; the older version is then left aside.
    """

    def __init__(self, apply: Callable[[CardChange, Promised], None], clock: Clock) -> None:
        self._apply = apply
        self._clock = clock
        self._waiting: deque[tuple[deque[CardChange], Promised]] = deque()
        self._pending: Counter[str] = Counter()
        self._something = asyncio.Event()

    def pending(self, operator: str) -> int:
        """Return how many cards of an operator are still to be handed on."""
        return self._pending[operator]

    def add(self, changes: Sequence[CardChange], promised: Promised) -> None:
        """Take the changes of one command."""
        self._waiting.append((deque(changes), promised))
        self._pending.update(map(attrgetter("operator"), changes))
        self._something.set()

    async def run(self) -> None:
        """Hand on, for ever; after each slice everybody else has a turn."""
        while True:
            await self._something.wait()
            self._slice()
            if not self._waiting:
                self._something.clear()
            await self._clock.sleep(0)

    def _slice(self) -> None:
        until = self._clock.monotonic() + SLICE_S
        while self._waiting and self._clock.monotonic() < until:
            changes, promised = self._waiting[0]
            for _ in range(min(LOOK_EVERY, len(changes))):
                change = changes.popleft()
                self._pending[change.operator] -= 1
                self._apply(change, promised)
            if not changes:
                self._waiting.popleft()
