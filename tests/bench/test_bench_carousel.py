"""X4: what the benchmark says about the optimum is itself held against a case that can be reckoned by hand."""

import math

import pytest

from bench.carousel import wait_to_bound


@pytest.mark.slow
def test_a_flat_cycle_is_as_far_from_the_bound_as_theory_says() -> None:
    """A flat cycle waits half a cycle; the bound is ½(Σ√(p·l))² ÷ rate. Their ratio needs no simulation."""
    cards, hot = 1_000, 50
    roots = hot * math.sqrt(0.9 / hot) + (cards - hot) * math.sqrt(0.1 / (cards - hot))
    assert wait_to_bound(hot, [132] * cards, flat=True) == pytest.approx(cards / roots**2, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[132] * 1_000, [60 + 7 * n % 420 for n in range(1_000)]])
def test_no_schedule_is_better_than_the_bound_and_the_rule_is_near_it(sizes: list[int]) -> None:
    assert 1.0 - 1e-6 <= wait_to_bound(50, sizes) < 1.03
