"""Takes note of first transmissions: gathers them for a moment and puts them into the ledger, until they are in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from cad.air.outgoing import FirstAir
from cad.frame.clock import Clock
from cad.ledger.errors import LedgerUnavailable

log = structlog.get_logger("cad.air.air_log")

LINGER_S: Final = 0.05
RETRY_S: Final = 1.0
BATCH_MAX: Final = 2000

Record = Callable[[Sequence[FirstAir]], Awaitable[None]]
"""Stores first transmissions durably, or raises LedgerUnavailable."""


class AirLog:
    """`note` is called by the channels, `run` stores. What is lost by a crash is sent, and noted, again (I5)."""

    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._noted: list[FirstAir] = []
        self._something = asyncio.Event()

    def note(self, items: Sequence[FirstAir]) -> None:
        """Take note of what just went on the air."""
        self._noted += items
        self._something.set()

    async def run(self) -> None:
        """Store what was noted, for ever."""
        while True:
            await self._something.wait()
            await self._clock.sleep(LINGER_S)
            await self._store()

    async def flush(self) -> None:
        """Store what is left, before the ledger closes. Raises LedgerUnavailable."""
        if self._noted:
            batch, self._noted = self._noted, []
            await self._record(batch)

    async def _store(self) -> None:
        batch, self._noted = self._noted[:BATCH_MAX], self._noted[BATCH_MAX:]
        if not self._noted:
            self._something.clear()
        try:
            await self._record(batch)
        except LedgerUnavailable as error:
            log.warning("first transmissions wait for the ledger", waiting=len(batch), reason=str(error))
            self.note([])
            self._noted = [*batch, *self._noted]
            await self._clock.sleep(RETRY_S)
