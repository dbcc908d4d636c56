"""Small measures of a stream as it passes: gaps, rates, what was lately. Pure, bounded; times in seconds, rising."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

RECENT_S: Final = 300.0
"""What counts as lately: for so long an event of the past keeps an alarm up."""

GRAIN_S: Final = 10.0


class Recent:
    """Counts events of the last RECENT_S, to GRAIN_S, with the largest value among them."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[float, int, float]] = deque()
        self.total = 0

    def add(self, at: float, count: int = 1, value: float = 0.0) -> None:
        """Note so many events of this value."""
        if count <= 0:
            return
        self.total += count
        if self._buckets and at - self._buckets[-1][0] < GRAIN_S:
            began, before, most = self._buckets[-1]
            self._buckets[-1] = (began, before + count, max(most, value))
        else:
            self._buckets.append((at, count, value))
        self._drop(at)

    def count(self, now: float) -> int:
        """Events lately."""
        self._drop(now)
        return sum(count for _, count, _ in self._buckets)

    def most(self, now: float) -> float:
        """The largest value lately, 0 when there was none."""
        self._drop(now)
        return max((value for _, _, value in self._buckets), default=0.0)

    def _drop(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] < now - RECENT_S - GRAIN_S:
            self._buckets.popleft()


@dataclass(slots=True)
class Gaps:
    """Times between one thing and the next of its kind. `limit_s`: longer gaps are noted as such."""

    limit_s: float
    count: int = 0
    first_at: float | None = None
    last_at: float | None = None
    longest_s: float = 0.0
    too_long: Recent = field(default_factory=Recent)

    def add(self, at: float) -> None:
        """One more, at that time."""
        self.count += 1
        if self.last_at is None:
            self.first_at = at
        else:
            gap = at - self.last_at
            self.longest_s = max(self.longest_s, gap)
            if gap > self.limit_s:
                self.too_long.add(at, value=gap)
        self.last_at = at

    @property
    def mean_s(self) -> float | None:
        """The mean gap, None with less than two."""
        if self.first_at is None or self.last_at is None or self.count < 2:
            return None
        return (self.last_at - self.first_at) / (self.count - 1)

    def silence_s(self, now: float, since: float) -> float:
        """For how long there has been none; since the start of listening when there never was."""
        return max(0.0, now - (since if self.last_at is None else self.last_at))


class RateMeter:
    """Amounts over the last second, the most of any second, and the mean over the last ten seconds."""

    LONG_S: Final = 10.0

    def __init__(self) -> None:
        self.total = 0
        self.peak = 0
        self._second: deque[tuple[float, int]] = deque()
        self._in_second = 0
        self._long: deque[tuple[float, int]] = deque()
        self._first_at: float | None = None

    def add(self, at: float, amount: int) -> None:
        """So much has passed at that time."""
        if self._first_at is None:
            self._first_at = at
        self.total += amount
        self._in_second += amount
        if self._second and self._second[-1][0] == at:
            self._second[-1] = (at, self._second[-1][1] + amount)
        else:
            self._second.append((at, amount))
        while self._second[0][0] <= at - 1.0:
            self._in_second -= self._second.popleft()[1]
        self.peak = max(self.peak, self._in_second)
        if self._long and at - self._long[-1][0] < 0.1:
            self._long[-1] = (self._long[-1][0], self._long[-1][1] + amount)
        else:
            self._long.append((at, amount))
        self._drop(at)

    def per_second(self, now: float) -> float:
        """The mean over the last ten seconds, or since the first amount."""
        self._drop(now)
        if self._first_at is None:
            return 0.0
        span = min(self.LONG_S, now - self._first_at)
        return sum(amount for _, amount in self._long) / max(span, 0.1)

    def _drop(self, now: float) -> None:
        while self._long and self._long[0][0] <= now - self.LONG_S:
            self._long.popleft()


class Reasons:
    """Counts by words. No more than `distinct_max` of them: what a hostile stream makes up counts as "other"."""

    def __init__(self, distinct_max: int = 40) -> None:
        self.counts: dict[str, int] = {}
        self._distinct_max = distinct_max

    def add(self, reason: str, count: int = 1) -> None:
        """Count it."""
        if reason not in self.counts and len(self.counts) >= self._distinct_max:
            reason = "other"
        self.counts[reason] = self.counts.get(reason, 0) + count

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())
