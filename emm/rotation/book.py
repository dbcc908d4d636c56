"""What happens in a simulation, and the book that judges what came of it."""

import math
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from emm.rotation.errors import CarouselError
from emm.rotation.policy import CarouselPolicy
from emm.rotation.turns import Turn


@dataclass(frozen=True, slots=True)
class Burst:
    """So many cards changed at one moment, of one operator or of all."""

    at: float
    cards: int
    urgent: bool = True
    operator: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens. Seconds from the start; sizes in bytes on the air, spread evenly over `size_min..size_max`.

    `rates` are (from, bit/s) in ascending order; `outages` are (from, until) without a link. `tick_s` is the
    granularity of the timer that wakes the sender. Cards are dealt out to the operators of `weights` in turn.
    Raises `CarouselError` for what cannot be.
    """

    cards: int
    size_min: int
    size_max: int
    rates: tuple[tuple[float, float], ...]
    duration_s: float
    changes_per_s: float = 0.0
    bursts: tuple[Burst, ...] = ()
    outages: tuple[tuple[float, float], ...] = ()
    policy: CarouselPolicy = field(default_factory=CarouselPolicy)
    tick_s: float = 0.01
    burst_s: float = 0.02
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.cards < 1 or not 1 <= self.size_min <= self.size_max:
            raise CarouselError("wanted: cards >= 1 and 1 <= size_min <= size_max")
        if self.duration_s <= 0 or self.changes_per_s < 0 or self.tick_s <= 0:
            raise CarouselError("wanted: duration_s > 0, changes_per_s >= 0, tick_s > 0")
        if not self.rates or self.rates[0][0] != 0.0 or list(self.rates) != sorted(self.rates):
            raise CarouselError("rates start at 0 s and follow in order")
        if any(burst.operator is not None and not 0 <= burst.operator < len(self.weights) for burst in self.bursts):
            raise CarouselError("a burst is of an operator that has a weight, or of all")

    def operator_of(self, slot: int) -> int:
        """Return whose card a slot is."""
        return slot % len(self.weights)


@dataclass(frozen=True, slots=True)
class OperatorFigures:
    """What came of the changes of one operator; times in seconds, as in `Figures`."""

    weight: float
    changes: int
    first_p99_s: float
    first_max_s: float
    first_missed: int
    bulk_max_s: float
    hour_apart_max_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it; times in seconds, ratios to the rate allocated.

    `first_*`: from an urgent change to its first transmission, `bulk_*`: from another; `*_apart_*`: between
    transmissions of a card, those still open at the end included.
    """

    changes: int
    sent: int
    first_mean_s: float
    first_p99_s: float
    first_max_s: float
    bulk_max_s: float
    first_missed: int
    never_sent: int
    promises_broken: int
    hour_apart_max_s: float
    hour_missed: int
    base_apart_max_s: float
    base_missed: int
    sent_to_allocated: float
    worst_second: float
    shortfall_kinds: tuple[str, ...]
    shortfall_at_s: float | None
    outlook_at_s: float | None
    missed_at_s: float | None
    operators: tuple[OperatorFigures, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the figures by name, ready for JSON."""
        return asdict(self)


class Book:
    """The judge's own book of what was changed and sent; it does not ask the carousel."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._policy = scenario.policy
        self._last = [0.0] * scenario.cards
        self._changed = [-math.inf] * scenario.cards
        self._open: dict[int, tuple[float, float, bool]] = {}  # slot -> changed, promised, urgent
        self._changes = 0
        self._delays: list[tuple[int, float]] = []  # of urgent changes: operator, seconds
        self._bulk_delays: list[tuple[int, float]] = []
        self._changes_of = [0] * len(scenario.weights)
        self._missed_of = [0] * len(scenario.weights)
        self._apart_of = [0.0] * len(scenario.weights)
        self._first_missed = self._broken = self._hour_missed = self._base_missed = 0
        self._hour_apart = self._base_apart = 0.0
        self._missed_at: float | None = None
        self._times: list[float] = []
        self._bits: list[int] = []
        self._recent: list[tuple[float, int, tuple[float, float, bool]]] = []
        self._rates: list[tuple[float, float]] = []

    def rate(self, rate: float, at: float) -> None:
        self._rates.append((at, rate))
        # A promise holds while the rate stays.
        self._open = {slot: (changed, math.inf, urgent) for slot, (changed, _, urgent) in self._open.items()}

    def changed(self, slot: int, at: float, promised: float, urgent: bool) -> None:
        self._changes += 1
        self._changes_of[self._scenario.operator_of(slot)] += 1
        self._changed[slot] = at
        self._open.setdefault(slot, (at, promised, urgent))

    def sent(self, turn: Turn, bits: int, at: float) -> None:
        slot = turn.slot
        self._times.append(at)
        self._bits.append(bits)
        opened = self._open.pop(slot, None) if turn.first else None
        if opened is not None:
            self._first(slot, at, opened)
        elif slot not in self._open:  # else it changed while its turn was held: that is not reckoned as the first
            self._apart(slot, at)
        self._last[slot] = at

    def lost_since(self, since: float) -> None:
        """What went out from then on was never received: first transmissions among it do not count."""
        while self._recent and self._recent[-1][0] >= since:
            _, slot, (changed, _, urgent) = self._recent.pop()
            self._open.setdefault(slot, (changed, math.inf, urgent))

    def _first(self, slot: int, at: float, opened: tuple[float, float, bool]) -> None:
        changed, promised, urgent = opened
        self._recent.append((at, slot, opened))
        operator = self._scenario.operator_of(slot)
        (self._delays if urgent else self._bulk_delays).append((operator, at - changed))
        if urgent and at - changed > self._policy.first_transmission_s:
            self._first_missed += 1
            self._missed_of[operator] += 1
            self._miss(at)
        if at > promised:
            self._broken += 1

    def _apart(self, slot: int, at: float) -> None:
        last = self._last[slot]
        apart = at - last
        self._base_apart = max(self._base_apart, apart)
        if apart > self._policy.cycle_s:
            self._base_missed += 1
            self._miss(at)
        # The next one is wanted within the interval only where that still lies within the first hour.
        if last + self._policy.first_hour_repeat_s <= self._changed[slot] + self._policy.first_hour_s:
            self._hour_apart = max(self._hour_apart, apart)
            operator = self._scenario.operator_of(slot)
            self._apart_of[operator] = max(self._apart_of[operator], apart)
            if apart > self._policy.first_hour_repeat_s:
                self._hour_missed += 1
                self._miss(at)

    def _miss(self, at: float) -> None:
        if self._missed_at is None:
            self._missed_at = at

    def close(self, kinds: list[str], shortfall_at: float | None, outlook_at: float | None) -> Figures:
        """Judge what is still open, and return the figures."""
        end = self._scenario.duration_s
        for slot in range(self._scenario.cards):
            if slot not in self._open:
                self._apart(slot, end)
        overdue = [slot for slot, (changed, _, urgent) in self._open.items() if urgent and self._overdue(changed)]
        for slot in overdue:
            self._missed_of[self._scenario.operator_of(slot)] += 1
            self._miss(end)
        delays = np.array([delay for _, delay in self._delays] or [0.0])
        ratio, worst = self._against_allocated(end)
        return Figures(
            changes=self._changes,
            sent=len(self._times),
            first_mean_s=float(delays.mean()),
            first_p99_s=float(np.quantile(delays, 0.99)),
            first_max_s=float(delays.max()),
            bulk_max_s=max((delay for _, delay in self._bulk_delays), default=0.0),
            first_missed=self._first_missed + len(overdue),
            never_sent=len(self._open),
            promises_broken=self._broken + sum(1 for _, promised, _ in self._open.values() if promised < end),
            hour_apart_max_s=self._hour_apart,
            hour_missed=self._hour_missed,
            base_apart_max_s=self._base_apart,
            base_missed=self._base_missed,
            sent_to_allocated=ratio,
            worst_second=worst,
            shortfall_kinds=tuple(kinds),
            shortfall_at_s=shortfall_at,
            outlook_at_s=outlook_at,
            missed_at_s=self._missed_at,
            operators=tuple(self._operator(operator) for operator in range(len(self._scenario.weights))),
        )

    def _overdue(self, changed: float) -> bool:
        return self._scenario.duration_s - changed > self._policy.first_transmission_s

    def _operator(self, operator: int) -> OperatorFigures:
        delays = np.array([delay for own, delay in self._delays if own == operator] or [0.0])
        return OperatorFigures(
            weight=self._scenario.weights[operator],
            changes=self._changes_of[operator],
            first_p99_s=float(np.quantile(delays, 0.99)),
            first_max_s=float(delays.max()),
            first_missed=self._missed_of[operator],
            bulk_max_s=max((delay for own, delay in self._bulk_delays if own == operator), default=0.0),
            hour_apart_max_s=self._apart_of[operator],
        )

    def _against_allocated(self, end: float) -> tuple[float, float]:
        """Return sent ÷ allocated over all, and for the worst second that ends with a transmission."""
        times = np.array(self._times, dtype=np.float64)
        total = np.concatenate(([0], np.cumsum(self._bits)))
        allocated = self._allocated(np.array([float(end)]))[0]
        if not len(times) or allocated <= 0:
            return 0.0, 0.0
        # The second includes its end and excludes its start.
        before = np.searchsorted(times, times - 1.0, side="right")
        after = np.searchsorted(times, times, side="right")
        sent = total[after] - total[before]
        room = self._allocated(times) - self._allocated(np.maximum(times - 1.0, 0.0))
        # Sums of floats: nine digits are exact enough for what is counted in bits.
        return float(total[-1] / allocated), round(float(np.max(sent / np.maximum(room, 1e-9))), 9)

    def _allocated(self, moments: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the bits allocated from the start until each moment."""
        result = np.zeros_like(moments)
        for number, (since, rate) in enumerate(self._rates):
            until = self._rates[number + 1][0] if number + 1 < len(self._rates) else math.inf
            result += rate * np.clip(moments - since, 0.0, until - since)
        return result
