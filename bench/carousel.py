"""The carousel by itself: its speed and size, how near it comes to the optimum, and what it makes of a bandwidth."""

import random
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np

from emm.carousel import Carousel, CarouselPolicy
from emm.rotation.arithmetic import Population, bound_mean_wait_s
from emm.rotation.simulation import Burst, Scenario, Simulation

MILLION: Final = 1_000_000
POPS: Final = 200_000
SIZE: Final = 132
RATE_BPS: Final = 100_000.0
HOT: Final = (10, 100, 500)
FOREVER_S: Final = 1e9

AIMS: Final = {
    "carousel_pops_per_s": (80_000.0, "min"),
    "carousel_pops_per_s_6_operators": (20_000.0, "min"),
    "carousel_build_s_1m_cards": (3.0, "max"),
    "carousel_mib_1m_cards": (40.0, "max"),
    "wait_to_bound_10_hot": (1.03, "max"),
    "wait_to_bound_100_hot": (1.03, "max"),
    "wait_to_bound_500_hot": (1.03, "max"),
    "wait_to_bound_mixed_sizes": (1.03, "max"),
    "simulated_sent_to_allocated": (0.98, "min"),
    "simulated_worst_second": (1.0, "max"),
    "simulated_first_s_max": (10.0, "max"),
    "simulated_hour_apart_s_max": (60.0, "max"),
    "simulated_base_apart_s_max": (1800.0, "max"),
}


def run(seed: int = 1) -> dict[str, float]:
    """Measure for about a minute; speeds are per second of one core's time, so that neighbours do not count."""
    speeds = {"carousel_pops_per_s": _speed(1), "carousel_pops_per_s_6_operators": _speed(6)}
    return {**_million(), **speeds, **_optimum(seed), **_promise(seed)}


def _million() -> dict[str, float]:
    slots, sizes = np.arange(MILLION), np.full(MILLION, SIZE)
    # The first call brings in parts of numpy that stay.
    Carousel(CarouselPolicy()).add_many(slots[:1000], sizes[:1000], 0.0)
    before = _resident_mib()
    start = process_time()
    carousel = Carousel(CarouselPolicy(), capacity=MILLION)
    carousel.add_many(slots, sizes, 0.0)
    built = process_time() - start
    used = _resident_mib() - before
    assert len(carousel) == MILLION
    return {"carousel_build_s_1m_cards": built, "carousel_mib_1m_cards": used}


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _speed(operators: int) -> float:
    """Of a million cards some thousands in every ring: pops with a change at each tenth."""
    carousel = Carousel(CarouselPolicy(), capacity=MILLION, weights=(1.0,) * operators)
    carousel.add_many(np.arange(MILLION), 60 + np.arange(MILLION) % 400, 0.0)
    for slot in range(10_000):
        carousel.change(slot, SIZE, 1.0, 1.0, operator=slot % operators)
    now, step = 1.0, 1e-3
    start = process_time()
    for number in range(POPS):
        now += step
        if number % 10 == 0:
            carousel.change(20_000 + number, SIZE, now, now, operator=number // 10 % operators)
        carousel.pop(now)
    busy = process_time() - start
    return POPS / busy


def _optimum(seed: int) -> dict[str, float]:
    """Mean wait for a card's next transmission, weighted by demand, to the least that is possible."""
    equal = [SIZE] * 10_000
    chance = random.Random(seed)
    mixed = [chance.randint(60, 480) for _ in range(10_000)]
    assert len(set(mixed)) > 400
    figures = {f"wait_to_bound_{hot}_hot": wait_to_bound(hot, equal) for hot in HOT}
    return figures | {"wait_to_bound_mixed_sizes": wait_to_bound(500, mixed)}


def wait_to_bound(hot: int, sizes: list[int], flat: bool = False) -> float:
    """Return the mean wait to its bound: nine tenths of the demand on the first `hot` cards, and no deadlines.

    `flat`: the carousel is not told of the demand, and sends all alike.
    """
    cold = len(sizes) - hot
    hot_demand, cold_demand = 0.9 / hot, 0.1 / cold
    policy = CarouselPolicy(
        min_repeat_s=0.0,
        fresh_s=0.0,
        first_hour_s=FOREVER_S,
        first_hour_repeat_s=FOREVER_S,
        cycle_s=FOREVER_S,
        hour_demand=1.0 if flat else hot_demand / cold_demand,
    )
    carousel = Carousel(policy)
    for slot in range(hot):
        carousel.restore(slot, sizes[slot], 0.0, 0.0)
    carousel.add_many(range(hot, len(sizes)), sizes[hot:], 0.0)
    cycle_s = sum(sizes) * 8 / RATE_BPS
    warm, end = 10 * cycle_s, 40 * cycle_s
    last = [0.0] * len(sizes)
    waited = [0.0, 0.0]  # hot and cold: the wait for the next transmission, summed over the moments from warm to end
    open_spacings = len(sizes)
    now = 0.0
    # On until every spacing that the end falls into is closed: cut off there, they would seem shorter than they are.
    while open_spacings:
        turn = carousel.pop(now)
        assert turn is not None
        start, stop = max(last[turn.slot], warm), min(now, end)
        if start < stop:
            waited[turn.slot >= hot] += ((now - start) ** 2 - (now - stop) ** 2) / 2
        if last[turn.slot] < end <= now:
            open_spacings -= 1
        last[turn.slot] = now
        now += sizes[turn.slot] * 8 / RATE_BPS
    wait = (hot_demand * waited[0] + cold_demand * waited[1]) / (end - warm)
    least = [Population("", 1, size, 1.0, hot_demand if n < hot else cold_demand) for n, size in enumerate(sizes)]
    return wait / bound_mean_wait_s(least, RATE_BPS)


def _promise(seed: int) -> dict[str, float]:
    """An hour of 10,000 cards at 100 kbit/s: a change a second, and a tenth of all cards at once as bulk."""
    scenario = Scenario(
        cards=10_000,
        size_min=100,
        size_max=164,
        rates=((0.0, RATE_BPS),),
        duration_s=3600.0,
        changes_per_s=1.0,
        bursts=(Burst(1200.0, 1000, urgent=False),),
        tick_s=0.005,
    )
    figures = Simulation(scenario, random.Random(seed)).run()
    return {
        "simulated_sent_to_allocated": figures.sent_to_allocated,
        "simulated_worst_second": figures.worst_second,
        "simulated_first_s_max": figures.first_max_s,
        "simulated_hour_apart_s_max": figures.hour_apart_max_s,
        "simulated_base_apart_s_max": figures.base_apart_max_s,
    }
