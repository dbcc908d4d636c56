"""No second carries more than is allocated (I11), and hardly less when there is work."""

import math
import random
from bisect import bisect_right
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm.carousel import CarouselError
from emm.pacer import ITEM_BITS, PACKET_BITS, Pacer, cost_bits

SIZES = st.integers(8, 2 * PACKET_BITS)
RATES = st.sampled_from([0.0, 3_500.0, 20_000.0, 100_000.0, 3_000_000.0])
GRAIN_S = 2e-6
"""Seconds since 1970 have no finer grain in a float than a quarter of a microsecond."""


class Wire:
    """What went out when, and what was allocated when: the judge."""

    def __init__(self) -> None:
        self.sends: list[tuple[float, int, float]] = []  # with the rate in force
        self.rates: list[tuple[float, float]] = []

    def rate(self, rate: float, at: float) -> None:
        self.rates.append((at, rate))

    def send(self, bits: int, at: float) -> None:
        self.sends.append((at, bits, self.rates[-1][1]))

    def allocated(self, start: float, end: float) -> float:
        total = 0.0
        for (since, rate), until in zip(self.rates, [at for at, _ in self.rates[1:]] + [math.inf], strict=True):
            total += rate * max(0.0, min(end, until) - max(start, since))
        return total

    def check(self) -> None:
        times = [at for at, _, _ in self.sends]
        total = [0, *accumulate(bits for _, bits, _ in self.sends)]
        for number, (end, bits, rate) in enumerate(self.sends):
            sent = total[number + 1] - total[bisect_right(times, end - 1.0 + GRAIN_S)]
            assert sent <= rate * 1.0 + 1e-6, f"{sent} bits in the second until {end} at {rate} bit/s"
            assert sent <= self.allocated(end - 1.0, end) + rate * 1e-5 + 1e-6, f"{bits} bits at {end}"


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    start=st.sampled_from([0.0, 1_700_000_000.0]),
    burst_s=st.sampled_from([0.0, 0.02, 0.5]),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("rate"), RATES),
            st.tuples(st.just("greedy"), SIZES),
            st.tuples(st.just("wait"), st.floats(0.0, 2.0)),
            st.tuples(st.just("sends"), st.integers(1, 40)),
        ),
        max_size=40,
    ),
)
def test_no_second_carries_more_than_the_rate(start: float, burst_s: float, steps: list[tuple[str, float]]) -> None:
    pacer, wire, now, size = Pacer(burst_s), Wire(), start, 1056

    def send(bits: int, at: float) -> None:
        pacer.spend(bits, at)
        wire.send(bits, at)

    pacer.set_rate(100_000.0, now)
    wire.rate(100_000.0, now)
    for kind, value in steps:
        if kind == "rate":
            pacer.set_rate(value, now)
            wire.rate(value, now)
        elif kind == "greedy":  # all that is allowed at this moment
            while pacer.allowance(now) >= value:
                send(int(value), now)
            size = int(value)
        elif kind == "wait":
            now += value
        else:  # one after the other, each as soon as it may go
            for _ in range(int(value)):
                ready = pacer.next_at(size, now)
                if not math.isfinite(ready):
                    break
                assert ready >= now
                now = ready
                send(size, now)
    wire.check()


@given(rate=st.sampled_from([5_000.0, 100_000.0, 3_000_000.0]), size=SIZES, used=st.integers(0, 300))
def test_next_at_is_the_first_moment_that_is_allowed(rate: float, size: int, used: int) -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(rate, 0.0)
    now = 2.0
    for _ in range(used):
        now = pacer.next_at(size, now)
        pacer.spend(size, now)
    ready = pacer.next_at(size, now)
    if ready > now + 0.001:
        assert pacer.allowance(ready - 0.001) < size
    assert pacer.allowance(ready) >= size
    assert pacer.next_at(size, ready) == ready


@pytest.mark.slow
@pytest.mark.parametrize("rate", [100_000, 500_000, 3_000_000])
@pytest.mark.parametrize(
    # A window lengthened by 5 ms becomes one of 1.01 s on a grid of 10 ms, of 1.02 s on one of 20 ms.
    ("late_s", "jitter_s", "least"),
    [(0.0, 0.005, 0.985), (0.010, 0.005, 0.98), (0.020, 0.005, 0.97), (0.020, 0.0, 0.99)],
)
def test_with_work_the_rate_is_used_whatever_the_timer(rate: int, late_s: float, jitter_s: float, least: float) -> None:
    randomness = random.Random(7)
    pacer, wire, now = Pacer(burst_s=0.02, jitter_s=jitter_s), Wire(), 0.0
    pacer.set_rate(rate, now)
    wire.rate(rate, now)
    while now < 5.0:
        bits = cost_bits(randomness.randint(90, 140), "packed")
        ready = pacer.next_at(bits, now)
        if ready > now:
            # Woken on a grid of 10 or 20 ms, as by a coarse timer.
            now = math.ceil(ready / late_s - 1e-9) * late_s if late_s else ready
            continue
        pacer.spend(bits, now)
        wire.send(bits, now)
    wire.check()
    assert sum(bits for _, bits, _ in wire.sends) / (rate * 5.0) >= least


@pytest.mark.parametrize("seed", range(3))
def test_what_was_kept_on_its_way_to_the_wire_counts_from_there(seed: int) -> None:
    """A process that is kept waiting between the reckoning and the write, for up to 300 ms, overruns no second."""
    randomness = random.Random(seed)
    pacer, wire, now = Pacer(burst_s=0.02), Wire(), 0.0
    pacer.set_rate(300_000, now)
    wire.rate(300_000, now)
    while now < 20.0:
        pieces = [cost_bits(randomness.randint(90, 250), "packed") for _ in range(randomness.randint(1, 4))]
        now = max(now, pacer.next_at(sum(pieces), now))
        for bits in pieces:
            pacer.spend(bits, now)
        now += randomness.choice([0.03, 0.1, 0.3]) if randomness.random() < 0.005 else 0.0
        for bits in pieces:
            wire.send(bits, now)
        pacer.on_wire(now)
    wire.check()


def test_a_burst_is_short() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(1_000_000, 0.0)
    assert pacer.allowance(5.0) == 20_000 + ITEM_BITS


def test_a_cut_is_obeyed_at_once_and_the_last_second_counts_against_the_new_rate() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(100_000, 0.0)
    now = 0.0
    while now < 3.0:
        now = pacer.next_at(1_000, now)
        pacer.spend(1_000, now)
    pacer.set_rate(10_000, now)
    assert pacer.allowance(now) == 0
    ready = pacer.next_at(1_000, now)
    # A tenth of what went out in the last second may still stand in the window: nine tenths must have left it.
    assert 0.85 < ready - now < 1.0
    pacer.set_rate(0, ready)
    assert pacer.allowance(ready) == 0
    assert pacer.next_at(1, ready) == math.inf


def test_a_rise_counts_from_its_own_time_on() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(10_000, 0.0)
    pacer.set_rate(1_000_000, 5.0)
    assert pacer.allowance(5.0) <= 10_000 * 0.02 + ITEM_BITS + 1
    assert pacer.allowance(5.01) <= 10_000 + 1_000_000 * 0.01


def test_more_than_a_second_holds_never_goes() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(2_000, 0.0)
    assert pacer.next_at(2_001, 10.0) == math.inf
    assert pacer.next_at(2_000, 10.0) == 10.0


def test_more_than_a_burst_goes_after_a_pause_and_is_made_up_for() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(100_000, 0.0)
    assert pacer.allowance(2.0) == 2_000 + ITEM_BITS
    assert pacer.next_at(33_000, 2.0) == 2.0
    pacer.spend(33_000, 2.0)
    assert pacer.next_at(1_000, 2.0) == pytest.approx(2.29, abs=0.001)
    assert pacer.allowance(2.2) == 0


def test_a_clock_that_falls_back_gives_nothing_away() -> None:
    pacer = Pacer(burst_s=0.02)
    pacer.set_rate(100_000, 1_000.0)
    pacer.spend(pacer.allowance(1_001.0), 1_001.0)
    assert pacer.allowance(500.0) == 0
    assert pacer.next_at(1_000, 500.0) == pytest.approx(500.01)
    assert pacer.allowance(500.02) == pytest.approx(2_000, abs=1)


@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(CarouselError):
        Pacer(burst_s=0.02).set_rate(rate, 0.0)


@pytest.mark.parametrize(
    ("length", "packing", "packets"),
    [
        (183, "per-section", 1),  # with its pointer_field just one payload of 184
        (184, "per-section", 2),
        (256, "per-section", 2),
        (64, "per-section", 1),
        (183, "packed", 1),
        (183 * 7, "packed", 7),
    ],
)
def test_what_a_section_costs(length: int, packing: str, packets: int) -> None:
    assert cost_bits(length, packing) == packets * 188 * 8


def test_packed_sections_are_never_reckoned_too_cheap() -> None:
    """Against packing by hand: 184 bytes of payload, less one in each packet in which a section starts (2.4.4.1)."""
    randomness = random.Random(3)
    for _ in range(50):
        lengths = [randomness.randint(20, 256) for _ in range(200)]
        packets, room = 0, 0
        for length in lengths:
            left = length
            if room < 2:
                packets, room = packets + 1, 183  # a new packet, with its pointer_field
            elif room == 184:
                room = 183
            while left > room:
                left -= room
                # The rest goes into further packets; the last of them gives up a byte if another section starts in it.
                packets, room = packets + 1, 183
            room -= left
        assert sum(cost_bits(length, "packed") for length in lengths) >= (packets - 1) * 188 * 8


@pytest.mark.parametrize(("length", "packing"), [(0, "packed"), (-5, "per-section"), (100, "loose")])
def test_a_cost_that_cannot_be_reckoned_is_refused(length: int, packing: str) -> None:
    with pytest.raises(CarouselError):
        cost_bits(length, packing)
