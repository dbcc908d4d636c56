"""A simulated day of one multiplex: the carousel and the pacer as they run in the daemon, judged from outside. Pure."""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from emm.carousel import Carousel, CarouselPolicy, Turn
from emm.pacer import Pacer
from emm.rotation.errors import CarouselError

QUEUE_S: Final = 5.0
"""What the multiplexer still has in its queue, and loses, when a link goes."""
FACTS_EVERY_S: Final = 5.0
"""How often the shortfalls are asked for."""


class Randomness(Protocol):
    """A source of numbers evenly spread over 0..1 (`random.Random` is one)."""

    def random(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Burst:
    """So many cards changed at one moment."""

    at: float
    cards: int
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens. Seconds from the start; sizes in bytes on the air, spread evenly over `size_min..size_max`.

    `rates` are (from, bit/s) in ascending order; `outages` are (from, until) without a link. `tick_s` is the
    granularity of the timer that wakes the sender. Raises `CarouselError` for what cannot be.
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

    def __post_init__(self) -> None:
        if self.cards < 1 or not 1 <= self.size_min <= self.size_max:
            raise CarouselError("wanted: cards >= 1 and 1 <= size_min <= size_max")
        if self.duration_s <= 0 or self.changes_per_s < 0 or self.tick_s <= 0:
            raise CarouselError("wanted: duration_s > 0, changes_per_s >= 0, tick_s > 0")
        if not self.rates or self.rates[0][0] != 0.0 or list(self.rates) != sorted(self.rates):
            raise CarouselError("rates start at 0 s and follow in order")


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

    def as_dict(self) -> dict[str, object]:
        """Return the figures by name, ready for JSON."""
        return asdict(self)


class Simulation:
    """One run. `run()` returns the figures; the judge keeps its own book and does not ask the carousel."""

    def __init__(self, scenario: Scenario, randomness: Randomness) -> None:
        self._scenario = scenario
        self._random = randomness
        self._carousel = Carousel(scenario.policy, scenario.cards)
        self._pacer = Pacer(scenario.burst_s)
        self._rate = 0.0
        self._linked = True
        self._lost_at = 0.0
        self._held: Turn | None = None
        self._kinds: list[str] = []
        self._shortfall_at: float | None = None
        self._outlook_at: float | None = None
        spread = scenario.size_max - scenario.size_min + 1
        self._sizes = [scenario.size_min + int(randomness.random() * spread) for _ in range(scenario.cards)]
        self._book = _Book(scenario)

    def run(self) -> Figures:
        """Let it all happen."""
        scenario = self._scenario
        self._carousel.add_many(range(scenario.cards), self._sizes, now=0.0)
        agenda: list[tuple[float, int, Callable[[float], None]]] = list(self._agenda())
        heapq.heapify(agenda)
        now = 0.0
        while now < scenario.duration_s:
            while agenda and agenda[0][0] <= now:
                at, _, happens = heapq.heappop(agenda)
                happens(at)
            wake = self._send(now)
            if agenda:
                wake = min(wake, agenda[0][0])
            ticks = max(round(now / scenario.tick_s) + 1, math.ceil(wake / scenario.tick_s - 1e-6))
            now = min(ticks * scenario.tick_s, scenario.duration_s) if math.isfinite(wake) else scenario.duration_s
        return self._book.close(self._kinds, self._shortfall_at, self._outlook_at)

    def _agenda(self) -> Iterable[tuple[float, int, Callable[[float], None]]]:
        scenario = self._scenario
        number = 0
        for at, rate in scenario.rates:
            yield at, (number := number + 1), partial(self._set_rate, rate)
        for burst in scenario.bursts:
            yield burst.at, (number := number + 1), partial(self._burst, burst)
        for start, end in scenario.outages:
            yield start, (number := number + 1), self._lose_link
            yield end, (number := number + 1), self._regain_link
        for step in range(1, int(scenario.duration_s / FACTS_EVERY_S) + 1):
            yield step * FACTS_EVERY_S, (number := number + 1), self._ask
        at = 0.0
        while scenario.changes_per_s:
            at -= math.log(1.0 - self._random.random()) / scenario.changes_per_s
            if at >= scenario.duration_s:
                break
            yield at, (number := number + 1), self._order

    def _order(self, at: float) -> None:
        self._change(int(self._random.random() * self._scenario.cards), True, at)

    def _set_rate(self, rate: float, at: float) -> None:
        self._rate = rate
        self._apply_rate(at)

    def _apply_rate(self, at: float) -> None:
        rate = self._rate if self._linked else 0.0
        self._book.rate(rate, at)
        self._pacer.set_rate(rate, at)
        self._carousel.set_rate(rate)

    def _change(self, slot: int, urgent: bool, at: float) -> None:
        size = self._sizes[slot]
        promise = at + self._carousel.forecast(at, size, self._rate if self._linked else 0.0, urgent)
        self._carousel.change(slot, size, at, at, urgent)
        self._book.changed(slot, at, promise, urgent)

    def _burst(self, burst: Burst, at: float) -> None:
        for slot in sorted(range(self._scenario.cards), key=lambda _: self._random.random())[: burst.cards]:
            self._change(slot, burst.urgent, at)
        self._ask(at)

    def _lose_link(self, at: float) -> None:
        self._linked = False
        self._held = None
        self._book.lost_since(at - QUEUE_S)
        self._lost_at = at
        self._apply_rate(at)

    def _regain_link(self, at: float) -> None:
        self._linked = True
        self._carousel.resend_since(self._lost_at - QUEUE_S, at)
        self._apply_rate(at)

    def _ask(self, at: float) -> None:
        if not self._linked:
            return
        self._carousel.oldest_new(at)
        if self._outlook_at is None and self._carousel.outlook(self._rate):
            self._outlook_at = at
        for shortfall in self._carousel.shortfalls(self._rate):
            if self._shortfall_at is None:
                self._shortfall_at = at
            if shortfall.kind not in self._kinds:
                self._kinds.append(shortfall.kind)

    def _send(self, now: float) -> float:
        """Send what may go; return when there may be more to send."""
        if not self._linked:
            return math.inf
        while True:
            if self._held is None:
                self._held = self._carousel.pop(now)
                if self._held is None:
                    return self._carousel.next_at(now)
            bits = self._sizes[self._held.slot] * 8
            ready = self._pacer.next_at(bits, now)
            if ready > now:
                return ready
            self._pacer.spend(bits, now)
            self._book.sent(self._held, bits, now)
            self._held = None


class _Book:
    """The judge's own book of what was changed and sent."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._policy = scenario.policy
        self._last = [0.0] * scenario.cards
        self._changed = [-math.inf] * scenario.cards
        self._open: dict[int, tuple[float, float, bool]] = {}  # slot -> changed, promised, urgent
        self._changes = 0
        self._delays: list[float] = []
        self._bulk_delays: list[float] = []
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
        (self._delays if urgent else self._bulk_delays).append(at - changed)
        if urgent and at - changed > self._policy.first_transmission_s:
            self._first_missed += 1
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
        overdue = [changed for changed, _, urgent in self._open.values() if urgent]
        overdue = [changed for changed in overdue if end - changed > self._policy.first_transmission_s]
        if overdue:
            self._miss(end)
        delays = np.array(self._delays or [0.0])
        ratio, worst = self._against_allocated(end)
        return Figures(
            changes=self._changes,
            sent=len(self._times),
            first_mean_s=float(delays.mean()),
            first_p99_s=float(np.quantile(delays, 0.99)),
            first_max_s=float(delays.max()),
            bulk_max_s=max(self._bulk_delays, default=0.0),
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
