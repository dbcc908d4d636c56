"""The plan: a card's EMM opens what its rights say, no key without a right (X3), always the same answer (I6)."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.calendar import DAY_S, TIME_MAX, Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity, open_by_rights, parse_ecm
from emm.errors import NotEntitledError, PlanError
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import Version
from emm.payload import RightsBlock
from emm.plan import WINDOWS_MAX, CardContent, Right, Window, ensure_fits, merge, plan_card
from emm.seal import EmmSealer, open_unique, section_sizes
from tests.support import emm_strategies as some
from tests.support.emm_parts import join_parts

DEFAULT = Calendar()
PERIOD = 4166
START = DEFAULT.period_start(PERIOD)
EPOCH_END = DEFAULT.epoch_end(694)
OVERLAP = 4169
LADDER = KeyLadder(LocalMasterKey(bytes(32)))
ADDRESS = 42


def entitled(rights: list[Right], product_id: int, time: int) -> bool:
    """What the rights say, in the plainest words."""
    return any(
        right.product_id == product_id and right.start <= time and (right.end is None or time < right.end)
        for right in rights
    )


def opens(content: CardContent, calendar: Calendar, product_id: int, time: int) -> bool:
    """What a card that heard the content does with an ECM of that time (windows and epochs alone)."""
    epoch = calendar.epoch(time)
    return any(
        product_id in window.product_ids
        and window.start <= time < window.end
        and window.first_epoch <= epoch < window.first_epoch + window.key_count
        for window in content.windows
    )


def hear(content: CardContent, period: int) -> list[RightsBlock]:
    """What the card holds after the EMM has really been sealed and opened."""
    sections = EmmSealer(LADDER).unique(ADDRESS, 1, Version(period, 1), content)
    return list(join_parts(open_unique(section, LADDER.card_key(ADDRESS, 1)) for section in sections).rights)


def receives(held: list[RightsBlock], product_id: int, time: int) -> bool:
    """Whether a real ECM of that time opens."""
    header = EcmHeader(Parity.EVEN, time, 1, DEFAULT.epoch(time))
    ecm = EcmSealer(LADDER).seal(header, [product_id], [bytes(8)], bytes(16))
    try:
        return open_by_rights(parse_ecm(ecm), held) == (bytes(8),)
    except NotEntitledError:
        return False


@given(some.CASES)
def test_what_opens_is_what_the_rights_say(case: some.Case) -> None:
    calendar, period, rights, times = case.calendar, case.period, case.rights, case.times
    content = plan_card(False, rights, period, calendar)
    later = calendar.period_end(period) + calendar.lead_s
    known = [right for right in merge(rights) if right.start < later]
    for product_id, time in itertools.product((1, 2, 3), times):
        if calendar.period_start(period) <= time < calendar.rights_end(period):
            assert opens(content, calendar, product_id, time) == entitled(known, product_id, time)
            if time < later:
                assert entitled(known, product_id, time) == entitled(rights, product_id, time)
        elif time >= calendar.rights_end(period):
            assert not opens(content, calendar, product_id, time)


@given(some.CASES)
def test_an_ended_right_opens_nothing_from_its_end_on(case: some.Case) -> None:
    calendar, period, rights, times = case.calendar, case.period, case.rights, case.times
    content = plan_card(False, rights, period, calendar)
    for product_id, time in itertools.product((1, 2, 3), times):
        if time >= calendar.period_start(period) and not entitled(rights, product_id, time):
            assert not opens(content, calendar, product_id, time)


@given(some.CASES)
def test_no_key_without_a_right_in_its_epoch(case: some.Case) -> None:
    calendar, period, rights = case.calendar, case.period, case.rights
    start = calendar.period_start(period)
    for window in plan_card(False, rights, period, calendar).windows:
        epochs = range(window.first_epoch, window.first_epoch + window.key_count)
        assert set(epochs) <= set(calendar.epochs_sent(period))
        for product_id, epoch in itertools.product(window.product_ids, epochs):
            first, last = max(start, calendar.epoch_start(epoch)), calendar.epoch_end(epoch)
            assert any(
                right.product_id == product_id
                and max(right.start, first) < min(TIME_MAX if right.end is None else right.end, last)
                for right in rights
            )


@given(some.CASES, st.randoms(use_true_random=False))
def test_the_order_of_rights_and_how_they_are_cut_does_not_matter(case: some.Case, rng: Any) -> None:
    calendar, period, rights, times = case.calendar, case.period, case.rights, case.times
    content = plan_card(False, rights, period, calendar)
    again = list(rights)
    rng.shuffle(again)
    assert plan_card(False, again, period, calendar) == content
    assert plan_card(False, merge(rights), period, calendar) == content
    cut = [
        piece
        for right in rights
        for piece in (
            [Right(right.product_id, right.start, times[0]), Right(right.product_id, times[0], right.end)]
            if right.start < times[0] < (TIME_MAX if right.end is None else right.end)
            else [right]
        )
    ]
    assert plan_card(False, cut, period, calendar) == content


@given(some.CASES)
def test_content_is_canonical(case: some.Case) -> None:
    calendar, period, rights = case.calendar, case.period, case.rights
    windows = plan_card(False, rights, period, calendar).windows
    keys = [(window.start, window.end, window.first_epoch, window.key_count) for window in windows]
    assert keys == sorted(set(keys))
    assert all(list(window.product_ids) == sorted(set(window.product_ids)) for window in windows)
    assert all(window.end <= calendar.rights_end(period) for window in windows)
    assert all(window.start == 0 or window.start > calendar.period_start(period) for window in windows)


@given(some.CASES)
def test_a_suspended_card_holds_nothing(case: some.Case) -> None:
    calendar, period, rights = case.calendar, case.period, case.rights
    assert plan_card(True, rights, period, calendar) == CardContent(suspended=True, windows=())


def test_the_content_of_one_period() -> None:
    rights = [
        Right(5, START - 1),
        Right(2, START),
        Right(9, START + 10, START + 20),
        Right(3, START - 10, START),
        Right(4, DEFAULT.period_end(PERIOD) + DAY_S - 1),
        Right(6, DEFAULT.period_end(PERIOD) + DAY_S),
    ]
    assert plan_card(False, rights, PERIOD, DEFAULT) == CardContent(
        suspended=False,
        windows=(
            Window(0, EPOCH_END, 694, 1, (2, 5)),
            Window(START + 10, START + 20, 694, 1, (9,)),
            Window(DEFAULT.period_end(PERIOD) + DAY_S - 1, EPOCH_END, 694, 1, (4,)),
        ),
    )


def test_a_right_over_the_change_of_epoch_opens_before_across_and_after_it_from_one_emm_of_the_overlap() -> None:
    held = hear(plan_card(False, [Right(1, START)], OVERLAP, DEFAULT), OVERLAP)
    for time in (DEFAULT.period_start(OVERLAP), EPOCH_END - 1, EPOCH_END, EPOCH_END + 1, EPOCH_END + 30 * DAY_S - 1):
        assert receives(held, 1, time)
        assert not receives(held, 2, time)
    assert not receives(held, 1, EPOCH_END + 30 * DAY_S)


def test_a_card_that_heard_nothing_in_the_overlap_goes_dark_at_the_change_of_epoch() -> None:
    held = hear(plan_card(False, [Right(1, START)], OVERLAP - 1, DEFAULT), OVERLAP - 1)
    assert receives(held, 1, EPOCH_END - 1)
    assert not receives(held, 1, EPOCH_END)


def test_a_right_that_ends_in_the_overlap_brings_no_key_of_the_next_epoch() -> None:
    content = plan_card(False, [Right(1, START, EPOCH_END)], OVERLAP, DEFAULT)
    assert content.windows == (Window(0, EPOCH_END, 694, 1, (1,)),)
    held = hear(content, OVERLAP)
    assert receives(held, 1, EPOCH_END - 1)
    assert not receives(held, 1, EPOCH_END)


def test_a_right_of_the_next_epoch_brings_its_key_only() -> None:
    content = plan_card(False, [Right(1, EPOCH_END)], OVERLAP, DEFAULT)
    assert content.windows == (Window(EPOCH_END, EPOCH_END + 30 * DAY_S, 695, 1, (1,)),)
    held = hear(content, OVERLAP)
    assert not receives(held, 1, EPOCH_END - 1)
    assert receives(held, 1, EPOCH_END)


def test_a_right_sent_ahead_opens_at_its_second() -> None:
    starts = DEFAULT.period_end(PERIOD) + DAY_S - 1
    held = hear(plan_card(False, [Right(1, starts)], PERIOD, DEFAULT), PERIOD)
    assert not receives(held, 1, starts - 1)
    assert receives(held, 1, starts)


def test_windows_of_one_product_are_merged_where_they_meet() -> None:
    rights = [Right(1, 10, 20), Right(1, 20, 30), Right(1, 15, 18), Right(1, 31, 40), Right(2, 5), Right(2, 7, 9)]
    assert merge(rights) == [Right(1, 10, 30), Right(1, 31, 40), Right(2, 5)]
    assert merge([Right(1, 10, 10), Right(1, 10, 5)]) == []


@pytest.mark.parametrize("right", [Right(0, 1), Right(65536, 1), Right(-1, 1), Right(1, -1)])
def test_rights_that_no_emm_can_say_are_refused(right: Right) -> None:
    with pytest.raises(PlanError):
        plan_card(False, [right], PERIOD, DEFAULT)


def test_a_card_within_the_limit_fits_in_the_worst_of_periods() -> None:
    """All windows different, in the overlap, with two keys each: the largest content there can be."""
    rights = [Right(1 + index, START, EPOCH_END + 1 + index) for index in range(WINDOWS_MAX)]
    ensure_fits(rights, START)
    content = plan_card(False, rights, OVERLAP, DEFAULT)
    assert {window.key_count for window in content.windows} == {2}
    assert len(content.windows) == WINDOWS_MAX
    assert len(section_sizes(content)) == 16


def test_a_card_beyond_the_limit_is_refused_until_rights_have_ended() -> None:
    rights = [Right(1 + index, START, START + 100) for index in range(WINDOWS_MAX)]
    ensure_fits([*rights, rights[0]], START)
    with pytest.raises(PlanError, match="at most 64 rights"):
        ensure_fits([*rights, Right(1000, START)], START)
    ensure_fits([*rights, Right(1000, START)], START + 100)


@given(st.integers(0, 16**WINDOWS_MAX - 1))
def test_whatever_the_windows_the_limit_fits(digits: int) -> None:
    """Each hexadecimal digit makes one right: two bits for its start, two for its end."""
    rights = [
        Right(1 + index, DEFAULT.period_end(OVERLAP) - (digit & 3), EPOCH_END + 1 + (digit >> 2))
        for index, digit in enumerate((digits >> 4 * index) & 15 for index in range(WINDOWS_MAX))
    ]
    ensure_fits(rights, START)
    assert len(section_sizes(plan_card(False, rights, OVERLAP, DEFAULT))) <= 16
