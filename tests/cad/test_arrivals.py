"""The measure of rates in the tests: a window is found wherever it lies."""

import pytest

from tests.support.arrivals import Arrival, mean_bps, window_rates_bps, worst_window_bps


def at(*moments: float) -> list[Arrival]:
    return [Arrival(moment, bytes(125), "tcp", 1, 1) for moment in moments]


@pytest.mark.parametrize(
    ("moments", "worst"),
    [((), 0), ((5.0,), 1000), ((0, 0.5, 0.99, 1.0), 3000), ((0.9, 1.0, 1.1, 1.89), 4000), ((0, 1, 2, 3), 1000)],
)
def test_the_worst_second_may_begin_anywhere(moments: tuple[float, ...], worst: float) -> None:
    assert worst_window_bps(at(*moments)) == worst


def test_mean_and_other_costs() -> None:
    arrivals = at(0, 1, 2, 3)
    assert mean_bps(arrivals, 1, 3) == 1000
    assert window_rates_bps(arrivals, lambda _: 1504, window_s=2.0)[0] == (0, 1504)
