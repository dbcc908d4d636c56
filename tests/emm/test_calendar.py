"""Periods and epochs: their edges meet, and whoever listens once in the overlap never loses a key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.calendar import DAY_S, ECM_AHEAD_S, TIME_MAX, Calendar
from emm.errors import CalendarError
from tests.support import emm_strategies as some

DEFAULT = Calendar()


def test_the_default_calendar() -> None:
    start = 694 * 30 * DAY_S
    assert DEFAULT.epoch(start) == 694
    assert DEFAULT.epoch(start - 1) == 693
    assert DEFAULT.period(start) == 4164
    assert DEFAULT.period(start + 5 * DAY_S) == 4165
    assert [DEFAULT.in_overlap(period) for period in range(4164, 4171)] == [False] * 5 + [True, False]
    assert DEFAULT.epochs_sent(4168) == (694,)
    assert DEFAULT.epochs_sent(4169) == (694, 695)
    assert DEFAULT.rights_end(4168) == start + 30 * DAY_S
    assert DEFAULT.rights_end(4169) == start + 60 * DAY_S


def test_ecms_are_ahead_of_the_epoch_by_some_seconds() -> None:
    start = DEFAULT.epoch_start(695)
    assert [DEFAULT.ecm_epoch(start - ECM_AHEAD_S + after) for after in (-1, 0, ECM_AHEAD_S)] == [694, 695, 695]
    assert DEFAULT.ecm_epoch(TIME_MAX) == DEFAULT.epoch(TIME_MAX)
    with pytest.raises(CalendarError):
        DEFAULT.ecm_epoch(TIME_MAX + 1)


@given(some.CALENDARS, st.integers(0, TIME_MAX))
def test_every_moment_lies_in_one_period_and_one_epoch(calendar: Calendar, time: int) -> None:
    period, epoch = calendar.period(time), calendar.epoch(time)
    assert calendar.period_start(period) <= time
    assert time < calendar.period_end(period) or time == TIME_MAX
    assert calendar.epoch_start(epoch) <= time
    assert time < calendar.epoch_end(epoch) or time == TIME_MAX
    assert calendar.period(time + 0.5 if time < TIME_MAX else time) == period
    assert 0 <= epoch <= period <= 0xFFFF
    assert calendar.epochs_sent(period)[0] == epoch
    assert calendar.epochs_sent(period)[-1] <= 0xFFFF


@given(some.CALENDARS, st.data())
def test_periods_follow_each_other_and_rights_never_shrink(calendar: Calendar, data: st.DataObject) -> None:
    period = data.draw(st.integers(0, TIME_MAX // calendar.period_s - 1))
    assert calendar.period_end(period) == calendar.period_start(period + 1)
    assert calendar.rights_end(period) <= calendar.rights_end(period + 1)
    assert calendar.rights_end(period) >= calendar.period_end(period)


@given(some.CALENDARS, st.data())
def test_an_emm_heard_in_the_overlap_reaches_to_the_end_of_the_next_epoch(
    calendar: Calendar, data: st.DataObject
) -> None:
    period = data.draw(st.integers(0, TIME_MAX // calendar.period_s - 2 * calendar.epoch_periods))
    if calendar.in_overlap(period):
        assert calendar.rights_end(period) == calendar.epoch_end(calendar.epoch_of_period(period) + 1)
    else:
        assert calendar.rights_end(period) == calendar.epoch_end(calendar.epoch_of_period(period))
    last = (calendar.epoch_of_period(period) + 1) * calendar.epoch_periods - 1
    assert calendar.in_overlap(last)


@pytest.mark.parametrize("calendar", [DEFAULT, Calendar(1, 1, 1), Calendar(1, 2, 2)])
def test_the_last_second_of_32_bits_still_has_a_period(calendar: Calendar) -> None:
    period = calendar.period(TIME_MAX)
    assert period <= 0xFFFF
    assert calendar.period_end(period) == calendar.rights_end(period) == TIME_MAX
    with pytest.raises(CalendarError):
        calendar.rights_end(period + 1)


@pytest.mark.parametrize("time", [-1, -0.5, TIME_MAX + 1, float("inf"), float("nan")])
def test_moments_without_32_bits_are_refused(time: float) -> None:
    with pytest.raises(CalendarError):
        DEFAULT.period(time)


@pytest.mark.parametrize(
    ("period_days", "epoch_periods", "overlap_periods", "lead_s"),
    [(0, 6, 1, 0), (5, 0, 1, 0), (5, 6, 0, 0), (5, 6, 7, 0), (5, 6, 1, -1), (1, 6, 1, DAY_S + 1)],
)
def test_calendars_that_would_darken_cards_are_refused(
    period_days: int, epoch_periods: int, overlap_periods: int, lead_s: int
) -> None:
    with pytest.raises(CalendarError):
        Calendar(period_days, epoch_periods, overlap_periods, lead_s)
