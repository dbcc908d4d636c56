"""A clock that moves only when a test says so."""

import asyncio
import heapq
from itertools import count


class ManualClock:
    """Implements `cad.frame.clock.Clock`: `advance()` moves time and wakes the sleepers that are due, in order."""

    suspect: str | None = None

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._start = now
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        await woken

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        set_by_then = asyncio.ensure_future(event.wait())
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        try:
            await asyncio.wait({set_by_then, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            set_by_then.cancel()
            woken.cancel()
        return event.is_set()

    def set(self, now: float) -> None:
        """Set the time without waking anybody; for code that does not sleep."""
        self._now = now

    async def advance(self, seconds: float) -> None:
        """Move on, letting every sleeper that is due run at its own moment, also those who lie down again."""
        until = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            at, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._now = until
        await self.settle()

    async def settle(self) -> None:
        """Let everything that can run now run."""
        for _ in range(20):
            await asyncio.sleep(0)
