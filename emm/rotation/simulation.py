"""A simulated day of one multiplex: the carousel and the pacer as they run in the daemon, judged from outside. Pure."""

import heapq
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from emm.carousel import Carousel, Turn
from emm.pacer import Pacer
from emm.rotation.book import Book, Burst, Figures, OperatorFigures, Scenario

QUEUE_S: Final = 5.0
"""What the multiplexer still has in its queue, and loses, when a link goes."""
FACTS_EVERY_S: Final = 5.0
"""How often the shortfalls are asked for."""


class Randomness(Protocol):
    """A source of numbers evenly spread over 0..1 (`random.Random` is one)."""

    def random(self) -> float: ...


__all__ = ["Burst", "Figures", "OperatorFigures", "Scenario", "Simulation"]


class Simulation:
    """One run. `run()` returns the figures; the judge keeps its own book and does not ask the carousel."""

    def __init__(self, scenario: Scenario, randomness: Randomness) -> None:
        self._scenario = scenario
        self._random = randomness
        self._carousel = Carousel(scenario.policy, scenario.cards, weights=scenario.weights)
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
        self._book = Book(scenario)

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
        operator = self._scenario.operator_of(slot)
        forecast = self._carousel.forecast(at, size, self._rate if self._linked else 0.0, operator)
        promise = at + forecast.within(0, 1, urgent)
        self._carousel.change(slot, size, at, at, urgent, operator)
        self._book.changed(slot, at, promise, urgent)

    def _burst(self, burst: Burst, at: float) -> None:
        step = len(self._scenario.weights) if burst.operator is not None else 1
        slots = range(burst.operator or 0, self._scenario.cards, step)
        for slot in sorted(slots, key=lambda _: self._random.random())[: burst.cards]:
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
