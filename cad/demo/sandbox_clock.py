"""The sandbox's clock: runs faster than the machine's, the same in every process that shares its file.

Only what the calendar says moves fast: `now()`. Intervals (`monotonic`, `sleep`) stay real, and with them rates,
repeats and time-outs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from cad.errors import CadError
from cad.frame.clock import SystemClock, boot_time

RATE_MAX: Final = 100_000.0
ADVANCE_MAX_S: Final = 366 * 86_400.0
LATEST: Final = 4_102_444_800.0  # 2100-01-01: well within what EMMs can say
LOOK_EVERY_S: Final = 0.02


class SandboxClockError(CadError):
    """What was asked of the clock is not possible."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """At `real` (seconds since boot) the sandbox has `shown` (Unix seconds), and runs `rate` times as fast."""

    real: float
    shown: float
    rate: float

    def at(self, real: float) -> float:
        """Return the sandbox's time."""
        return min(LATEST, self.shown + (real - self.real) * self.rate)

    def run(self, real: float, *, rate: float | None = None, advance_s: float = 0.0) -> Timeline:
        """Return the timeline that goes on from here at another rate, or later. Raises SandboxClockError."""
        wanted = self.rate if rate is None else rate
        if not 0 <= wanted <= RATE_MAX:
            raise SandboxClockError(f"the rate lies between 0 (stand still) and {RATE_MAX:.0f}, not {wanted:g}")
        if not 0 <= advance_s <= ADVANCE_MAX_S:
            raise SandboxClockError(f"the clock is put ahead by 0 to {ADVANCE_MAX_S:.0f} s at once, never back")
        return Timeline(real, self.at(real) + advance_s, wanted)


class SandboxClock(SystemClock):
    """Reads its timeline from a file, and follows when that changes. `now()` never goes backwards."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = boot_time()
        self._timeline = _read(file)
        super().__init__(lambda: self._timeline.shown, lambda: 0.0)

    @classmethod
    def start(cls, file: Path, rate: float, at: float | None = None) -> Self:
        """Begin a timeline at that moment (Unix seconds; None: the machine's time), for all who are given the file."""
        real, shown = boot_time(), SystemClock().now() if at is None else at
        _write(file, Timeline(real, shown, 1.0).run(real, rate=rate))
        return cls(file)

    @property
    def rate(self) -> float:
        """How many seconds pass in one."""
        return self._timeline.rate

    @property
    def suspect(self) -> str | None:
        """A sandbox's clock is believed, whatever it does."""
        return None

    def now(self) -> float:
        """Return the sandbox's Unix time in seconds."""
        real = boot_time()
        if real - self._read_at > LOOK_EVERY_S:
            self._read_at = real
            self._timeline = _read(self._file)
        self._last = max(self._last, self._timeline.at(real))
        return self._last

    def remember(self, last_seen: float) -> None:
        """Go on from what the ledger has seen, if that is later."""
        self._last = max(self._last, last_seen)

    def believe(self) -> None:
        """Nothing is in doubt here."""

    def set(self, *, rate: float | None = None, advance_s: float = 0.0) -> None:
        """Run at another rate from now on, or jump ahead, in all processes. Raises SandboxClockError."""
        timeline = _read(self._file).run(boot_time(), rate=rate, advance_s=advance_s)
        _write(self._file, timeline)
        self._timeline = timeline


def _read(file: Path) -> Timeline:
    return Timeline(**json.loads(file.read_text(encoding="ascii")))


def _write(file: Path, timeline: Timeline) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(asdict(timeline)), encoding="ascii")
    new.replace(file)
