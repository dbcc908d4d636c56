"""`python -m bench._metered_daemon CONFIG CLOCK STALLS`: the daemon as it is, with a clock that can be put ahead and a
meter in its event loop, which writes each pause of the loop that is longer than all before."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from cad import keystore
from cad.app import Daemon
from cad.demo.sandbox_clock import SandboxClock
from cad.frame import logs
from config import load
from emm.keys import KeyLadder

TICK_S: Final = 0.002
SHORTEST_MS: Final = 5.0


class Meter:
    """Wakes every two milliseconds and writes how late it was: Unix seconds of the daemon, ms of wall, ms of CPU."""

    def __init__(self, clock: SandboxClock, file: Path) -> None:
        self._clock = clock
        self._file = file.open("w", buffering=1)
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._spent = time.process_time()

    def tick(self) -> None:
        """Measure, and wake again."""
        late_ms = 1000 * (self._loop.time() - self._due)
        spent = time.process_time()
        if late_ms > SHORTEST_MS:
            self._file.write(f"{self._clock.now():.3f} {late_ms:.1f} {1000 * (spent - self._spent):.1f}\n")
        self._spent = time.process_time()
        self._due = self._loop.time() + TICK_S
        self._loop.call_at(self._due, self.tick)


async def serve(config: Path, clock: SandboxClock, stalls: Path) -> None:
    """Run until a signal."""
    settings = load.load(config)
    logs.configure(settings.log.level, settings.log.format)
    settings.node.state_dir.mkdir(mode=0o700, exist_ok=True)
    daemon = Daemon(settings, config, KeyLadder(keystore.load(settings.keys)), clock)
    await daemon.start()
    Meter(clock, stalls).tick()
    await daemon.serve()


if __name__ == "__main__":
    own, timeline, out = map(Path, sys.argv[1:])
    asyncio.run(serve(own, SandboxClock(timeline), out))
