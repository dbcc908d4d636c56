"""By when a notice has been sent once: what is forecast holds whatever is ordered later, and is not far off."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.rotation.notice_forecast import Arrival, NoticeForecast, lanes_for
from emm.rotation.notices import LONG, SHORT, SHORT_MAX, NoticeEmm, NoticeTurns

BITS, SHARE, RATE, TICK_S = 1_000, 0.1, 200_000.0, 0.01
SIZES = st.sampled_from([1, 3, SHORT_MAX, SHORT_MAX + 1, 60])
"""EMMs of a notice."""
EACH = NoticeForecast(rate_bps=1_000.0, waiting_bits=(5_000, 20_000), held_s=2.0)


def emms(number: int, count: int) -> list[NoticeEmm]:
    return [NoticeEmm(number, index, ((b"%d-%d" % (number, index), BITS),), 30.0) for index in range(count)]


def arrival(at: float, count: int) -> Arrival:
    return Arrival(at, count * BITS, lanes_for(count, known=True))


def forecast(turns: NoticeTurns) -> NoticeForecast:
    rate = RATE * turns.certain_share
    return NoticeForecast(rate, turns.waiting_bits, BITS / rate + 2 * TICK_S)


def test_a_notice_waits_for_its_own_lane_alone() -> None:
    assert EACH.sent_by(100.0, Arrival(100.0, 3_000, (SHORT,)), []) == 100 + 5 + 3 + 2
    assert EACH.sent_by(100.0, Arrival(100.0, 3_000, (LONG,)), []) == 100 + 20 + 3 + 2
    assert EACH.sent_by(100.0, Arrival(100.0, 3_000, (SHORT, LONG)), []) == 100 + 20 + 3 + 2


def test_one_that_begins_later_waits_for_what_is_left_then_and_for_what_began_meanwhile() -> None:
    later = Arrival(115.0, 3_000, (LONG,))
    assert EACH.sent_by(100.0, later, []) == 115 + 5 + 3 + 2
    assert EACH.sent_by(100.0, later._replace(at=200.0), []) == 200 + 3 + 2
    began = Arrival(110.0, 4_000, (LONG,))
    assert EACH.sent_by(100.0, later, [began]) == 115 + 9 + 3 + 2
    assert EACH.sent_by(100.0, later, [began._replace(lanes=(SHORT,))]) == 115 + 5 + 3 + 2
    between = Arrival(120.0, 4_000, (LONG,))
    assert EACH.sent_by(100.0, later, [between]) == 115 + 5 + 3 + 2 + 4
    assert EACH.sent_by(100.0, later, [between._replace(at=126.0)]) == 115 + 5 + 3 + 2


def test_without_a_rate_nothing_is_certain() -> None:
    assert EACH.sent_by(0.0, Arrival(0.0, 1, (SHORT,)), []) < math.inf
    assert NoticeForecast(0.0, (0, 0), 0.0).sent_by(0.0, Arrival(0.0, 1, (SHORT,)), []) == math.inf


@pytest.mark.parametrize(("count", "known", "lanes"), [(16, False, (SHORT,)), (17, True, (LONG,)), (17, False, (0, 1))])
def test_of_how_many_emms_a_notice_is_says_its_lane(count: int, known: bool, lanes: tuple[int, ...]) -> None:
    assert lanes_for(count, known=known) == lanes


@given(
    before=st.lists(SIZES, max_size=4),
    own=SIZES,
    starts_s=st.sampled_from([0.0, 0.0, 20.0]),
    coming=st.lists(st.tuples(st.floats(0.5, 60), SIZES), max_size=3),
    later=st.lists(st.tuples(st.floats(0.5, 60), SIZES), max_size=4),
    squeezes=st.booleans(),
)
def test_it_is_kept_whatever_is_ordered_later(
    before: list[int],
    own: int,
    starts_s: float,
    coming: list[tuple[float, int]],
    later: list[tuple[float, int]],
    squeezes: bool,
) -> None:
    """Numbers rise in the order in which notices were ordered: those before, those to come, our own, later ones."""
    known = [(0.0, count) for count in before] + coming
    ours = len(known) + 1
    whole = list(enumerate([*known, (starts_s, own), *later], 1))
    turns, now = NoticeTurns(SHARE), 0.0
    turns.set_rate(RATE, now)
    turns.put([emm for number, (at, count) in whole if number < ours and at <= 0 for emm in emms(number, count)], now)
    promised = forecast(turns).sent_by(now, arrival(starts_s, own), [arrival(*one) for one in coming])
    turns.squeeze(squeezes, now)
    on_air: set[int] = set()
    while not turns.is_whole(ours):
        assert now <= promised, f"promised {promised:.2f} s"
        begun = {number for number, (at, _) in whole if at <= now}
        if begun != on_air:
            on_air = begun
            turns.put([emm for number, (_, count) in whole if number in begun for emm in emms(number, count)], now)
        while turns.pop(now) is not None:
            pass
        now += TICK_S
    assert turns.is_whole(ours)
