"""What a test multiplexer has received, and at which rate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

CostBits: TypeAlias = Callable[[bytes], int]


@dataclass(frozen=True)
class Arrival:
    """One datagram: when it came (time.monotonic), over what, in which connection (1, 2 …) and message (1, 2 …)."""

    at: float
    data: bytes
    over: str
    connection: int
    message: int


def payload_bits(datagram: bytes) -> int:
    """The bits of the datagram itself, without any packets around it."""
    return 8 * len(datagram)


def window_rates_bps(
    arrivals: Sequence[Arrival], cost_bits: CostBits = payload_bits, window_s: float = 1.0
) -> list[tuple[float, float]]:
    """(start, bit/s) of the window that begins with each arrival: no other window of that length holds more."""
    rates: list[tuple[float, float]] = []
    costs = [cost_bits(arrival.data) for arrival in arrivals]
    total, end = 0, 0
    for start, first in enumerate(arrivals):
        while end < len(arrivals) and arrivals[end].at < first.at + window_s:
            total += costs[end]
            end += 1
        rates.append((first.at, total / window_s))
        total -= costs[start]
    return rates


def worst_window_bps(arrivals: Sequence[Arrival], cost_bits: CostBits = payload_bits, window_s: float = 1.0) -> float:
    """The highest rate in any window of this length."""
    return max((rate for _, rate in window_rates_bps(arrivals, cost_bits, window_s)), default=0.0)


def mean_bps(arrivals: Sequence[Arrival], since: float, until: float, cost_bits: CostBits = payload_bits) -> float:
    """The mean rate between two moments (time.monotonic)."""
    return sum(cost_bits(one.data) for one in arrivals if since <= one.at < until) / (until - since)
