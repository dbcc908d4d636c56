"""The daemon's guarded clock over a machine that the test moves: its wall clock may jump, its count of seconds not."""

import asyncio

from cad.frame.clock import SystemClock
from tests.support.clock import ManualClock

BOOT = 1_000.0


class HandClock(ManualClock):
    """`advance` and `leap` let time pass, `jump` sets the wall clock, `boot` begins the daemon's view anew."""

    def __init__(self, wall: float) -> None:
        super().__init__(BOOT)
        self._wall_ahead = wall - BOOT
        self.boot()

    def boot(self) -> None:
        """Begin as a daemon begins that has just been started."""
        self._guarded = SystemClock(self._wall, lambda: self._now)

    def now(self) -> float:
        return self._guarded.now()

    def remember(self, last_seen: float) -> None:
        self._guarded.remember(last_seen)

    def believe(self) -> None:
        self._guarded.believe()

    @property
    def suspect(self) -> str | None:  # type: ignore[override]
        return self._guarded.suspect

    @property
    def wall(self) -> float:
        """What the machine's clock says."""
        return self._wall()

    @property
    def counted(self) -> float:
        """Seconds that the machine has counted."""
        return self._now

    def leap(self, seconds: float) -> None:
        """Let time pass in which nobody gets to do anything; sleepers wake late."""
        self._now += seconds

    def jump(self, seconds: float) -> None:
        """Set the machine's wall clock on or back."""
        self._wall_ahead += seconds

    def _wall(self) -> float:
        return self._now + self._wall_ahead

    async def settle(self) -> None:
        """Let everything that can run now run; a channel needs a few turns of the loop for that."""
        for _ in range(8):
            await asyncio.sleep(0)
