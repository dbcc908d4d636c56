"""The one place that reads a clock. Everything else is given a `Clock`, or a time."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

JUMP_MAX_S: Final = 600.0
GAP_MAX_S: Final = 60 * 86_400.0
EARLIEST: Final = 1_767_225_600.0  # 2026-01-01: before this program existed


class Clock(Protocol):
    """What everybody may ask of time."""

    def now(self) -> float:
        """Return Unix time in seconds, never less than before."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; for intervals."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Zero or less only lets others run."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait for the event, but no longer than that. Returns whether it is set."""
        ...


def boot_time() -> float:
    """Return seconds since boot, time in suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def spell(at: float) -> str:
    """Return a Unix time as people read it, in UTC and whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class SystemClock:
    """The machine's wall clock, guarded: what goes on the air with a time in it cannot be taken back from the cards.

    A wall clock that moves more than JUMP_MAX_S away from the time counted by the machine is not believed: `now()`
    counts on from the last believed time, and `suspect` says why, until the wall clock comes back by itself or
    `believe()` is called on the operator's word. `now()` never goes backwards.
    """

    def __init__(self, wall: Callable[[], float] = time.time, counted: Callable[[], float] = boot_time) -> None:
        self._wall = wall
        self._counted = counted
        self._last = 0.0
        self._offset = 0.0
        self._suspect: str | None = None
        self._plausible: tuple[float, float] | None = None  # while the clock was wrong from the start: what is right
        self._judge(EARLIEST, math.inf, EARLIEST, "this program was written later than that")

    @property
    def suspect(self) -> str | None:
        """Why the wall clock is not believed at present, or None."""
        self.now()
        return self._suspect

    def now(self) -> float:
        """Return the guarded Unix time in seconds."""
        counted = self._counted()
        wall, expected = self._wall(), self._offset + counted
        if abs(wall - expected) <= JUMP_MAX_S or (self._plausible and self._plausible[0] <= wall <= self._plausible[1]):
            self._offset = wall - counted
            self._suspect = self._plausible = None
            expected = wall
        elif self._suspect is None:
            self._suspect = (
                f"the machine's clock jumped from {spell(expected)} to {spell(wall)};"
                " the daemon goes on counting from the former"
            )
        self._last = max(self._last, expected)
        return self._last

    def monotonic(self) -> float:
        """Return seconds of the clock that the event loop uses."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(max(0.0, seconds))

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait on the event loop for the event, but no longer than that. Returns whether it is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await event.wait()
        return event.is_set()

    def remember(self, last_seen: float) -> None:
        """Compare with the last time that the ledger has seen; call once at start, before anything is sent.

        A wall clock behind it by more than JUMP_MAX_S, or ahead by more than GAP_MAX_S, is not believed: time counts
        on from `last_seen` until the wall clock comes within these limits.
        """
        self._judge(
            last_seen - JUMP_MAX_S, last_seen + GAP_MAX_S, last_seen, f"the ledger was in use at {spell(last_seen)}"
        )

    def believe(self) -> None:
        """Take the wall clock as it is, on the operator's word. Set back, time stands until the wall clock is there."""
        self._offset = self._wall() - self._counted()
        self._suspect = self._plausible = None

    def _judge(self, low: float, high: float, otherwise: float, reason: str) -> None:
        wall = self._wall()
        believed = low <= wall <= high
        self._offset = (wall if believed else otherwise) - self._counted()
        self._last = otherwise
        self._suspect = None if believed else f"the machine's clock says {spell(wall)}, but {reason}"
        self._plausible = None if believed else (low, high)
