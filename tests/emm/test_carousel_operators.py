"""M2: operators share the carousel by weight; nobody waits behind another's mass change, and promises hold under it."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm.carousel import Carousel, CarouselError, CarouselPolicy
from emm.rotation.shares import Shares
from emm.rotation.simulation import Burst, Scenario, Simulation

SIZES = st.integers(20, 600)
MANY = 20_000
WEIGHTS = st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=5)


@pytest.mark.slow
@given(WEIGHTS, st.lists(SIZES, min_size=50, max_size=100), st.data())
@settings(max_examples=8, deadline=None)
def test_over_any_busy_interval_the_shares_approach_the_weights(
    weights: list[float], sizes: list[int], data: st.DataObject
) -> None:
    """Bytes over weight of any two that are busy differ by one EMM of each, whoever had been idle before."""
    shares = Shares()
    shares.set_weights(weights)
    everybody = range(len(weights))
    for size in data.draw(st.lists(SIZES, max_size=50)):
        shares.spend(shares.pick(data.draw(st.sets(st.sampled_from(everybody), min_size=1))), size)
    busy = sorted(data.draw(st.sets(st.sampled_from(everybody), min_size=1)))
    had = dict.fromkeys(busy, 0.0)
    for size in sizes:
        operator = shares.pick(busy)
        shares.spend(operator, size)
        had[operator] += size / weights[operator]
        for one in busy:
            for other in busy:
                # One more EMM at the start: an operator may have been served just before the interval began.
                assert abs(had[one] - had[other]) <= 2 * 600 / weights[one] + 2 * 600 / weights[other]


@pytest.mark.slow
@given(WEIGHTS, st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_never_sent_changes_of_all_operators_go_out_by_weight(weights: list[float], seed: int) -> None:
    chance = random.Random(seed)
    carousel = Carousel(CarouselPolicy(), weights=weights)
    count = len(weights)
    for slot in range(150 * count):
        carousel.change(slot, chance.randint(60, 250), 0.0, 0.0, urgent=bool(seed % 2), operator=slot % count)
    while all(facts.waiting_bytes for facts in carousel.operator_facts()):
        turn = carousel.pop(0.0)
        assert turn is not None
        assert turn.first
    had = [facts.sent_bytes for facts in carousel.operator_facts()]
    fair = sum(had) / sum(weights)
    for bytes_sent, weight in zip(had, weights, strict=True):
        assert abs(bytes_sent - fair * weight) <= 250 * (1 + weight) * count


@pytest.mark.slow
@pytest.mark.parametrize("urgent", [True, False])
def test_a_single_order_goes_out_next_while_another_operator_has_twenty_thousand_waiting(urgent: bool) -> None:
    """Whether the mass change came as one command, or as as many orders."""
    carousel = Carousel(CarouselPolicy(), MANY + 2, weights=(1.0, 1.0))
    carousel.set_rate(500_000.0)
    for slot in range(MANY):
        carousel.change(slot, 132, 0.0, 0.0, urgent, operator=0)
    for slot in range(1000):
        carousel.pop(slot / 400)
    carousel.change(MANY + 1, 132, 2.5, 2.5, operator=1)
    turns = [carousel.pop(2.5) for _ in range(4)]
    assert any(turn is not None and turn.slot == MANY + 1 and turn.first for turn in turns)


def test_an_own_single_order_overtakes_an_own_mass_change() -> None:
    carousel = Carousel(CarouselPolicy(), weights=(1.0, 1.0))
    carousel.set_rate(500_000.0)
    for slot in range(10_000):
        carousel.change(slot, 132, 0.0, 0.0, urgent=False, operator=0)
    forecast = carousel.forecast(0.0, 132, 500_000.0, operator=0)
    carousel.change(20_000, 132, 0.0, 0.0, operator=0)
    turns = [carousel.pop(0.0) for _ in range(3)]
    assert any(turn is not None and turn.slot == 20_000 for turn in turns)
    assert forecast.within(0, 1) < 1.0
    assert forecast.within(0, 1, urgent=False) > 20.0


SHARED = Scenario(
    cards=3_000,
    size_min=100,
    size_max=164,
    rates=((0.0, 60_000.0),),
    duration_s=45.0,
    changes_per_s=1.0,
    weights=(1.0, 2.0, 1.0),
)


@pytest.mark.slow
@pytest.mark.parametrize("urgent", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_promises_hold_for_all_under_a_mass_change_of_one(seed: int, urgent: bool) -> None:
    scenario = Scenario(**{**_fields(SHARED), "bursts": (Burst(5.0, 900, urgent, operator=0),)})
    figures = Simulation(scenario, random.Random(seed)).run()
    assert figures.promises_broken == 0
    assert figures.operators[0].changes > 900
    for other in figures.operators[1:]:
        assert other.changes > 5
        assert other.first_missed == 0
        assert other.first_max_s < 1.0


@pytest.mark.slow
def test_repeats_of_others_keep_their_minute_while_one_has_far_too_many() -> None:
    """900 cards every 60 s are twice the rate; those of the others need little, and get it."""
    scenario = Scenario(
        **{
            **_fields(SHARED),
            "rates": ((0.0, 8_000.0),),
            "changes_per_s": 0.1,
            "duration_s": 400.0,
            "bursts": (Burst(20.0, 900, False, operator=0),),
        }
    )
    figures = Simulation(scenario, random.Random(1)).run()
    assert figures.operators[0].hour_apart_max_s > 100.0
    for other in figures.operators[1:]:
        assert other.changes > 5
        assert other.hour_apart_max_s <= 60.0


def test_an_operator_is_added_while_the_carousel_turns() -> None:
    carousel = Carousel(CarouselPolicy())
    carousel.change(1, 132, 0.0, 0.0)
    carousel.set_weights((1.0, 2.0))
    carousel.change(2, 132, 0.0, 0.0, operator=1)
    turns = [carousel.pop(0.0), carousel.pop(0.0)]
    assert {turn.slot for turn in turns if turn is not None and turn.first} == {1, 2}
    assert [facts.weight for facts in carousel.operator_facts()] == [1.0, 2.0]


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("inf"))])
def test_weights_that_cannot_be_are_refused(weights: tuple[float, ...]) -> None:
    carousel = Carousel(CarouselPolicy(), weights=(1.0, 1.0))
    with pytest.raises(CarouselError):
        carousel.set_weights(weights)


def _fields(scenario: Scenario) -> dict[str, object]:
    return {name: getattr(scenario, name) for name in scenario.__slots__}
