"""The probe at work: reads its source, reports every so often, until the end, the time given, or a signal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cad.frame.clock import Clock
from cad.probe.alarms import AlarmBook, Limits, judge
from cad.probe.analysis import StreamProbe
from cad.probe.report import AlarmDocument, Expected, ProbeDocument, document
from cad.probe.sources import Source

RECORDING_EVERY_S = 10.0
"""How often alarms are looked at in a recording, in its own time."""


@dataclass(frozen=True, slots=True)
class Look:
    """One report, and the alarms that began and ended since the one before."""

    found: ProbeDocument
    began: Sequence[AlarmDocument]
    over: Sequence[AlarmDocument]


@dataclass
class Watch:
    """One source, one probe, one book of alarms. Setting `stopping` ends `run` soon."""

    source: Source
    name: str
    probe: StreamProbe
    limits: Limits
    clock: Clock
    expected: Expected | None = None
    stopping: bool = False
    alarms: AlarmBook = field(default_factory=AlarmBook)

    def run(self, every_s: float, for_s: float | None, show: Callable[[Look], None]) -> Look:
        """Listen; `show` a report every `every_s` seconds. Returns the last one."""
        every_s = every_s if self.source.live else RECORDING_EVERY_S
        began = self.clock.monotonic()
        next_at = every_s
        self.probe.tick(0.0)
        for piece in self.source.pieces():
            at = self.clock.monotonic() - began if piece.at is None else piece.at
            if piece.lost:
                self.probe.lose(piece.lost, at)
            if piece.data:
                self.probe.feed(piece.data, at)
            else:
                self.probe.tick(at)
            if self.stopping or (for_s is not None and at >= for_s):
                break
            if at >= next_at:
                next_at = max(next_at + every_s, at)
                show(self.look())
        return self.look()

    def look(self) -> Look:
        """Report now."""
        found = document(
            self.probe, self.name, wall=self.clock.now() if self.source.live else None, expected=self.expected
        )
        started, over = self.alarms.follow(judge(found, self.limits), found.listened_s)
        return Look(self.alarms.put_into(found), started, over)
