"""M2, C3 and I11 in simulated time: the carousel and the pacer together, judged by a book of their own."""

import random
from dataclasses import replace

import pytest

from emm.carousel import CarouselError, CarouselPolicy
from emm.rotation.arithmetic import recommended_kbps
from emm.rotation.simulation import Burst, Figures, Scenario, Simulation

SEEDS = (1, 2, 3)
KBPS_100 = ((0.0, 100_000.0),)
KBPS_20 = ((0.0, 20_000.0),)
SHORT = CarouselPolicy(
    first_transmission_s=6.0, first_hour_repeat_s=20.0, cycle_s=120.0, first_hour_s=400.0, fresh_s=60.0
)
"""M2 with shorter spans, so that a minute of simulation shows what takes an hour."""


def run(scenario: Scenario, seed: int = 1) -> Figures:
    return Simulation(scenario, random.Random(seed)).run()


def cards(number: int, **more: object) -> Scenario:
    values: dict[str, object] = {"size_min": 100, "size_max": 164, "rates": KBPS_100, "duration_s": 600.0}
    return Scenario(cards=number, **(values | more))  # type: ignore[arg-type]


def assert_m2(figures: Figures) -> None:
    assert figures.never_sent == 0 or figures.first_missed == 0
    assert figures.first_missed == 0
    assert figures.hour_missed == 0
    assert figures.base_missed == 0
    assert figures.promises_broken == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_ten_thousand_cards_at_100_kbps_with_five_changes_a_second(seed: int) -> None:
    figures = run(cards(10_000, changes_per_s=5.0, duration_s=600.0 if seed > 1 else 150.0), seed)
    assert_m2(figures)
    assert figures.changes > 600
    assert figures.first_max_s < 0.5
    # A timer of 10 ms and the pacer's 5 ms for jitter make 1.01 s of a second; the start has no second behind it.
    assert figures.sent_to_allocated >= 0.975
    assert figures.worst_second <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "changes_per_hour"), [(1_000, 100), (2_000, 20), (5_000, 500), (10_000, 100), (20_000, 20)]
)
def test_the_bandwidth_recommended_is_enough_for_more_than_an_hour(number: int, changes_per_hour: int) -> None:
    rate = recommended_kbps(number, 132, changes_per_hour, CarouselPolicy()) * 1000.0
    scenario = cards(
        number,
        size_min=132,
        size_max=132,
        rates=((0.0, rate),),
        changes_per_s=changes_per_hour / 3600,
        duration_s=4500.0,
    )
    figures = run(scenario)
    assert_m2(figures)
    assert "repeats" not in figures.shortfall_kinds
    assert figures.worst_second <= 1.0


@pytest.mark.slow
def test_an_hour_of_changes_that_end_in_a_shortfall_is_said_beforehand() -> None:
    """A change a second: within the hour 1,670 of 2,000 cards would have to come every minute, with 29 kbit/s."""
    figures = run(cards(2_000, rates=KBPS_20, changes_per_s=1.0, duration_s=3_600.0))
    assert figures.first_missed == 0
    assert figures.hour_missed > 0
    assert figures.missed_at_s is not None
    assert figures.outlook_at_s is not None
    assert figures.shortfall_at_s is not None
    assert figures.outlook_at_s < 320.0
    assert figures.outlook_at_s < figures.shortfall_at_s <= figures.missed_at_s


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_burst_within_ten_seconds_of_bandwidth_is_in_time(seed: int) -> None:
    """120 changes of at most 164 bytes: 157 kbit, in ten seconds of 20 kbit/s."""
    scenario = cards(2_000, rates=KBPS_20, changes_per_s=0.1, bursts=(Burst(60.0, 110),), duration_s=200.0)
    figures = run(scenario, seed)
    assert_m2(figures)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_single_orders_overtake_a_mass_change_of_a_tenth_of_all_cards(seed: int) -> None:
    burst = Burst(60.0, 1_000, urgent=False)
    figures = run(cards(10_000, changes_per_s=1.0, bursts=(burst,), duration_s=90.0), seed)
    assert_m2(figures)
    assert figures.never_sent <= 1
    # The mass change itself takes about as long as its bits do at the rate.
    assert 10.0 < figures.bulk_max_s < 15.0
    assert figures.first_max_s < 1.0


@pytest.mark.slow
def test_urgent_or_not_a_mass_change_leaves_orders_in_time_from_the_next_second_on() -> None:
    """A mass change that came as orders: what cannot keep ten seconds yields, later orders are all in time."""
    later = tuple(Burst(11.0 + i, 1) for i in range(60))
    scenario = cards(4_000, rates=((0.0, 40_000.0),), bursts=(Burst(10.0, 1_200), *later), duration_s=80.0)
    figures = run(scenario)
    assert figures.promises_broken == 0
    assert figures.never_sent == 0
    assert "first" in figures.shortfall_kinds
    assert figures.shortfall_at_s == 10.0
    # Late are those of the 1,200 that do not fit ten seconds; of the 60 after them none.
    alone = run(replace(scenario, bursts=scenario.bursts[:1]))
    assert 800 < alone.first_missed < 1_000
    assert figures.first_missed <= alone.first_missed + 20


@pytest.mark.slow
def test_a_rate_cut_to_a_tenth_is_obeyed_at_once_and_keeps_m2_while_it_can() -> None:
    figures = run(cards(1_000, rates=((0.0, 50_000.0), (100.0, 5_000.0)), changes_per_s=0.01, duration_s=2_000.0))
    assert_m2(figures)
    assert figures.worst_second <= 1.0
    assert figures.shortfall_kinds == ()


@pytest.mark.slow
def test_a_rate_cut_below_the_need_is_said_before_it_is_felt() -> None:
    scenario = cards(500, rates=((0.0, 50_000.0), (200.0, 2_900.0)), bursts=(Burst(50.0, 120),), duration_s=900.0)
    figures = run(scenario)
    assert figures.worst_second <= 1.0
    assert "repeats" in figures.shortfall_kinds
    assert figures.shortfall_at_s is not None
    assert figures.missed_at_s is not None
    assert 200.0 <= figures.shortfall_at_s <= 205.0
    assert figures.missed_at_s > figures.shortfall_at_s + 30.0


@pytest.mark.slow
def test_a_link_gone_for_ten_minutes_costs_those_ten_minutes_only() -> None:
    scenario = cards(1_000, rates=KBPS_20, changes_per_s=0.1, outages=((200.0, 800.0),), duration_s=1_100.0)
    figures = run(scenario)
    assert figures.promises_broken == 0
    assert figures.never_sent == 0
    assert figures.worst_second <= 1.0
    # About 60 changes waited; the oldest went out within seconds of the link's return.
    assert 35 < figures.first_missed < 85
    assert figures.first_max_s < 615.0
    assert figures.base_missed == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_shortfall_is_announced_exactly_where_the_simulation_then_misses(seed: int) -> None:
    """Populations and rates at random: nothing is missed that was not announced, and nothing is announced where there
    is a quarter to spare."""
    randomness = random.Random(seed)
    number = randomness.randint(400, 900)
    changed = randomness.randint(0, number // 3)
    bits = 132 * 8
    need = changed * bits / 20 + (number - changed) * bits / 120
    factor = randomness.choice([0.7, 0.85, 1.3, 2.0])
    rate = need * factor / 0.97 + 132 * 8
    # Changes trickle in, so that only repeats can be short.
    portion = max(1, int(0.1 * rate / bits))
    bursts = tuple(Burst(5.0 + i, min(portion, changed - i * portion)) for i in range(-(-changed // portion)))
    scenario = Scenario(
        cards=number, size_min=132, size_max=132, rates=((0.0, rate),), duration_s=390.0, bursts=bursts, policy=SHORT
    )
    figures = run(scenario, seed)
    assert figures.promises_broken == 0
    assert figures.worst_second <= 1.0
    if factor < 1:
        assert figures.missed_at_s is not None
        assert figures.shortfall_at_s is not None
        assert figures.shortfall_at_s <= figures.missed_at_s
    else:
        assert figures.missed_at_s is None
        assert figures.shortfall_at_s is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_figures(seed: int) -> None:
    scenario = cards(500, changes_per_s=2.0, duration_s=60.0)
    assert run(scenario, seed) == run(scenario, seed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cards": 0},
        {"size_min": 200, "size_max": 100},
        {"duration_s": 0.0},
        {"changes_per_s": -1.0},
        {"rates": ()},
        {"rates": ((5.0, 1.0),)},
    ],
)
def test_a_scenario_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    values: dict[str, object] = {"cards": 10, "size_min": 100, "size_max": 100, "rates": KBPS_100, "duration_s": 1.0}
    with pytest.raises(CarouselError):
        Scenario(**(values | wrong))  # type: ignore[arg-type]
