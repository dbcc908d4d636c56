"""Keeps the ECMG told of events: as they stand in the ledger at the start, and again after each commit about one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from cad.frame.clock import Clock
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import EventWindow

LOOK_EVERY_S: Final = 300.0
"""Events that are over are forgotten so often."""


class EventFeed:
    """Tells the events of the ledger. `refresh` once before the first ECM, then `run` as a task.

    No ECM waits for it: what is told is a list in memory, with the moments at which each event begins and ends.
    """

    def __init__(self, ledger: Ledger, clock: Clock, tell: Callable[[Sequence[EventWindow]], None]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._tell = tell
        self._changed = asyncio.Event()
        ledger.on_events = self.wake

    def wake(self) -> None:
        """Say that the events may be others now."""
        self._changed.set()

    async def refresh(self) -> None:
        """Tell the events as they are now. Raises LedgerUnavailable."""
        self._changed.clear()
        self._tell(await self._ledger.events())

    async def run(self) -> None:
        """Tell them again whenever they have changed, for ever."""
        while True:
            await self._clock.wait(self._changed, LOOK_EVERY_S)
            try:
                await self.refresh()
            except LedgerUnavailable:
                await self._ledger.wait_usable()
                self._changed.set()
