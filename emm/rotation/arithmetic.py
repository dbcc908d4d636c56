"""What a bandwidth can keep: the carousel as a fluid, in closed form. Bits a second, bytes, seconds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from emm.rotation.policy import CarouselPolicy

USABLE_SHARE: Final = 0.97
"""What promises reckon with: the pacer uses at least this share of the rate, whatever the timer's granularity."""

HOLDING_S: Final = 0.25
"""What promises allow for between the carousel's decision and the multiplexer: burst interval, timer, one batch."""


@dataclass(frozen=True, slots=True)
class Population:
    """The cards of one ring: all sizes together in bytes; longest spacing allowed and demand of one card."""

    name: str
    cards: int
    size: int
    limit_s: float
    demand: float

    @property
    def needed_bps(self) -> float:
        """Rate at which every card comes just within its limit."""
        return self.size * 8 / self.limit_s


@dataclass(frozen=True, slots=True)
class RingFacts:
    """One ring as a person sees it; `cycle_s` is the spacing to expect (lanes: time until it has drained)."""

    name: str
    cards: int
    size: int
    limit_s: float
    cycle_s: float


def needed_bps(populations: Iterable[Population]) -> float:
    """Return the rate below which some spacing must break its limit."""
    return sum(population.needed_bps for population in populations)


def spacings(populations: Sequence[Population], rate_bps: float, min_repeat_s: float = 0.0) -> list[float]:
    """Return the spacing of each population under the square-root rule, bounded by its limit while the rate permits.

    Where the rate is below the need, all limits are missed by the same factor. Infinite without a rate.
    """
    needed = needed_bps(populations)
    if rate_bps <= 0:
        return [math.inf if population.cards else 0.0 for population in populations]
    if needed >= rate_bps:
        return [population.limit_s * needed / rate_bps if population.cards else 0.0 for population in populations]
    wish = [
        math.sqrt(population.size / population.cards / population.demand) if population.cards else 0.0
        for population in populations
    ]
    result = [0.0] * len(populations)
    free = {i for i, population in enumerate(populations) if population.cards}
    left = rate_bps
    while free:
        scale = sum(populations[i].size * 8 / wish[i] for i in free) / left
        bound = {i for i in free if wish[i] * scale > populations[i].limit_s}
        if not bound:
            for i in free:
                result[i] = max(wish[i] * scale, min_repeat_s)
            break
        for i in bound:
            result[i] = populations[i].limit_s
            left -= populations[i].needed_bps
        free -= bound
    return result


def bound_mean_wait_s(populations: Sequence[Population], rate_bps: float) -> float:
    """Return the least mean wait that any schedule can reach: ½(Σ√(p·l))² ÷ rate (Ammar & Wong 1985; Vaidya & Hameed
    1999), p being the demand of one card as a fraction of all and l its size."""
    total = sum(population.cards * population.demand for population in populations)
    roots = sum(math.sqrt(p.demand / total * p.size * 8 * p.cards) for p in populations)
    return roots * roots / 2 / rate_bps


def usable_bps(rate_bps: float, largest: int) -> float:
    """Return what may be reckoned with: the pacer's share, less one EMM a second that does not fit the second."""
    return max(0.0, rate_bps * USABLE_SHARE - largest * 8)


def recommended_kbps(cards: int, size: int, changes_per_hour: float, policy: CarouselPolicy) -> int:
    """Return the bandwidth in whole kbit/s with which M2 holds for `cards` of `size` bytes (on the air) each, of which
    `changes_per_hour` change, evenly spread. Rounded up to tens, with a twentieth to spare for bursts."""
    # Changes fall on cards at random, some on the same card again.
    changed = cards * -math.expm1(-changes_per_hour / cards) if cards else 0.0
    first_hour = changed * size * 8 / policy.first_hour_repeat_s
    base = (cards - changed) * size * 8 / policy.cycle_s
    never_sent = changes_per_hour / 3600 * size * 8
    rate = ((first_hour + base + never_sent) * 1.05 + size * 8) / USABLE_SHARE
    return max(1, math.ceil(rate / 10_000)) * 10
