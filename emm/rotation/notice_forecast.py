"""By when a notice that is ordered now has been sent once: an upper bound, true whatever is ordered later. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from emm.rotation.notices import LANES, LONG, SHORT, SHORT_MAX


class Arrival(NamedTuple):
    """A notice that joins the queue at a moment: what it takes on the air, and the lanes that it may come to be in."""

    at: float
    bits: int
    lanes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoticeForecast:
    """What is certain on one multiplex. `rate_bps`: of each lane, 0: nothing; `waiting_bits`: what each sends first.

    `held_s`: what has begun, whatever it is, may go ahead for so long.
    """

    rate_bps: float
    waiting_bits: tuple[int, ...]
    held_s: float

    def sent_by(self, now: float, notice: Arrival, earlier: Iterable[Arrival]) -> float:
        """Return when all of a notice has gone out once at the latest, in the seconds of `now`.

        `earlier`: notices of lower numbers that are not in the queue yet. Later ones do not go ahead.
        """
        arrivals = sorted(earlier)
        return max(self._in_lane(lane, now, notice, [one for one in arrivals if lane in one.lanes]) for lane in LANES)

    def _in_lane(self, lane: int, now: float, notice: Arrival, earlier: list[Arrival]) -> float:
        if lane not in notice.lanes:
            return now
        if self.rate_bps <= 0:
            return float("inf")
        start = max(now, notice.at)
        at, left_s = now, self.waiting_bits[lane] / self.rate_bps
        for one in earlier:
            if one.at > start:
                break
            left_s = max(0.0, left_s - max(0.0, one.at - at)) + one.bits / self.rate_bps
            at = max(at, one.at)
        end = start + max(0.0, left_s - (start - at)) + notice.bits / self.rate_bps + self.held_s
        for one in earlier:
            if start < one.at < end:
                end += one.bits / self.rate_bps
        return end


def lanes_for(emms: int, *, known: bool) -> tuple[int, ...]:
    """Return the lanes that a notice of so many EMMs, or of so many at the most, may come to be in."""
    if emms <= SHORT_MAX:
        return (SHORT,)
    return (LONG,) if known else LANES
