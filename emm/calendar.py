"""The calendar of renewal periods and key epochs: what moment belongs to which, in UTC seconds."""

from dataclasses import dataclass
from typing import Final

from emm.errors import CalendarError

DAY_S: Final = 86_400
TIME_MAX: Final = 0xFFFF_FFFF
"""The last second that 32 bits can say (2106-02-07 06:28:15 UTC)."""
ECM_AHEAD_S: Final = 30
"""How long before an epoch ECMs take its keys: longer than one of 10 s crypto-periods, ordered one ahead, is sent."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods and epochs counted from the Unix epoch (D2, D5).

    Times are whole seconds UTC, 0..`TIME_MAX`; intervals include their start and exclude their end.
    All headends and ECM generators that share a master key must share one calendar, for good: cards compare period
    numbers, and keys belong to epoch numbers.

    Raises `CalendarError` for settings that would leave a card without a key.
    """

    period_days: int = 5
    epoch_periods: int = 6
    overlap_periods: int = 1
    lead_s: int = DAY_S

    def __post_init__(self) -> None:
        if self.period_days < 1 or self.epoch_periods < 1:
            raise CalendarError("period_days and epoch_periods must be at least 1")
        if not 1 <= self.overlap_periods <= self.epoch_periods:
            raise CalendarError(
                f"overlap_periods must lie in 1..{self.epoch_periods} (epoch_periods): without an overlap every card "
                "would go dark at the change of epoch until it hears its next EMM"
            )
        if not 0 <= self.lead_s <= self.period_s:
            raise CalendarError(f"lead_s must lie in 0..{self.period_s} (one period)")

    @property
    def period_s(self) -> int:
        """Length of a period in seconds."""
        return self.period_days * DAY_S

    @property
    def epoch_s(self) -> int:
        """Length of an epoch in seconds."""
        return self.period_s * self.epoch_periods

    def period(self, time: float) -> int:
        """Return the number of the period that `time` lies in."""
        if not 0 <= time <= TIME_MAX:
            raise CalendarError(f"time {time} is outside of 0..{TIME_MAX} seconds since 1970")
        return int(time) // self.period_s

    def epoch(self, time: float) -> int:
        """Return the number of the epoch that `time` lies in."""
        return self.epoch_of_period(self.period(time))

    def ecm_epoch(self, time: float) -> int:
        """Return the number of the epoch whose keys an ECM made at `time` uses: in the last seconds the next one's.

        Cards that heard one EMM in the overlap hold both keys then; once the epoch has begun, the first EMM takes the
        older from them, and no ECM that is still sent may need it.
        """
        return self.epoch(time if time > TIME_MAX - ECM_AHEAD_S else time + ECM_AHEAD_S)

    def period_start(self, period: int) -> int:
        """Return the first second of a period."""
        self._check(period)
        return period * self.period_s

    def period_end(self, period: int) -> int:
        """Return the second after the last of a period (never above `TIME_MAX`)."""
        self._check(period)
        return min((period + 1) * self.period_s, TIME_MAX)

    def epoch_of_period(self, period: int) -> int:
        """Return the epoch that a period belongs to."""
        return period // self.epoch_periods

    def epoch_start(self, epoch: int) -> int:
        """Return the first second of an epoch (never above `TIME_MAX`)."""
        return min(epoch * self.epoch_s, TIME_MAX)

    def epoch_end(self, epoch: int) -> int:
        """Return the second after the last of an epoch (never above `TIME_MAX`)."""
        return self.epoch_start(epoch + 1)

    def in_overlap(self, period: int) -> bool:
        """Tell whether EMMs of this period carry the next epoch's keys too."""
        return period % self.epoch_periods >= self.epoch_periods - self.overlap_periods

    def epochs_sent(self, period: int) -> tuple[int, ...]:
        """Return the one or two consecutive epochs whose keys are sent in a period."""
        epoch = self.epoch_of_period(period)
        return (epoch, epoch + 1) if self.in_overlap(period) else (epoch,)

    def rights_end(self, period: int) -> int:
        """Return the second from which on nothing said in this period opens anything."""
        self._check(period)
        return self.epoch_end(self.epochs_sent(period)[-1])

    def _check(self, period: int) -> None:
        if not 0 <= period <= TIME_MAX // self.period_s:
            raise CalendarError(f"period {period} is outside of 0..{TIME_MAX // self.period_s}")
