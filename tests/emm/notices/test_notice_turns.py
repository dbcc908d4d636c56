"""Whose turn it is among notices: all of them, within their share, few before many, and nothing twice at once."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.rotation.errors import CarouselError
from emm.rotation.notices import SHORT_MAX, SQUEEZED, NoticeEmm, NoticeTurn, NoticeTurns

SECTION = 2_000
"""Bits."""
RATE = 100_000.0


def emm(number: int, index: int = 0, sections: int = 1, repeat_s: float = 60.0) -> NoticeEmm:
    said = tuple((b"%d-%d-%d" % (number, index, place), SECTION) for place in range(sections))
    return NoticeEmm(number, index, said, repeat_s)


def turns(*emms: NoticeEmm, share: float = 0.1, rate: float = RATE) -> NoticeTurns:
    made = NoticeTurns(share)
    made.set_rate(rate, 0)
    made.put(emms, 0)
    return made


def run(made: NoticeTurns, start: float, seconds: float) -> list[tuple[float, NoticeTurn]]:
    """What goes out when it is asked for every hundredth of a second."""
    sent = []
    for tick in range(int(seconds * 100)):
        now = start + tick / 100
        while (turn := made.pop(now)) is not None:
            sent.append((now, turn))
    return sent


def test_without_notices_nothing_is_taken_from_the_carousel() -> None:
    made = turns()
    assert (len(made), made.share, made.bits, made.cycle_s, made.next_at(5)) == (0, 0.0, 0, 0.0, math.inf)
    assert run(made, 0, 5) == []


def test_a_notice_goes_out_at_once_and_then_at_its_spacing() -> None:
    made = turns(emm(1, sections=3))
    sent = run(made, 0, 130)
    assert [turn.section for _, turn in sent] == [b"1-0-0", b"1-0-1", b"1-0-2"] * 3
    assert [turn.last for _, turn in sent] == [False, False, True] * 3
    assert [now for now, _ in sent[::3]] == pytest.approx([0, 60, 120], abs=0.1)


def test_notices_take_their_share_and_no_more_when_there_are_too_many() -> None:
    made = turns(*(emm(1, index) for index in range(1_000)))
    sent = run(made, 0, 60)
    assert sum(turn.bits for _, turn in sent) == pytest.approx(60 * RATE * 0.1, rel=0.05)
    assert len({turn.section for _, turn in sent}) == len(sent), "each once before any comes again"
    assert made.cycle_s == pytest.approx(1_000 * SECTION / (RATE * 0.1))


def test_one_to_few_does_not_wait_behind_one_to_many() -> None:
    made = turns(*(emm(1, index) for index in range(1_000)))
    run(made, 0, 10)
    made.put([*(emm(1, index) for index in range(1_000)), emm(2)], 10)
    first = run(made, 10, 1)[0][1]
    assert first.number == 2


def test_two_to_many_go_one_after_the_other_and_one_to_few_between() -> None:
    made = turns(*(emm(number, index) for number in (1, 3) for index in range(100)))
    run(made, 0, 2)
    few = [emm(2, index) for index in range(SHORT_MAX)]
    made.put([*(emm(number, index) for number in (1, 3) for index in range(100)), *few], 2)
    sent = [turn.number for _, turn in run(made, 2, 45)]
    assert sent.index(3) > max(place for place, number in enumerate(sent) if number == 1)
    assert sent[: 2 * SHORT_MAX].count(2) == SHORT_MAX, "each lane has half"


def test_who_joins_a_notice_waits_behind_those_that_have_not_been_sent_at_all() -> None:
    made = turns(*(emm(1, index) for index in range(50)))
    run(made, 0, 60)
    joined = [replace(emm(1, index), late=index == 50) for index in range(51)]
    made.put([*joined, *(emm(2, index) for index in range(20))], 60)
    sent = [turn.section for _, turn in run(made, 60, 6)]
    assert sent[:21] == [b"2-%d-0" % index for index in range(20)] + [b"1-50-0"]


def test_an_emm_that_comes_in_between_has_the_others_sent_no_second_time() -> None:
    made = turns(*(emm(1, index, repeat_s=600) for index in range(5)))
    run(made, 0, 5)
    others = [NoticeEmm(1, index + 1, emm(1, index).sections, 600) for index in range(5)]
    made.put([NoticeEmm(1, 0, ((b"new", SECTION),), 600), *others], 5)
    assert [turn.section for _, turn in run(made, 5, 60)] == [b"new"]


def test_a_notice_is_whole_when_each_of_its_emms_has_gone_out() -> None:
    made = turns(emm(1, 0, 2), emm(1, 1), emm(2))
    assert [(turn.number, turn.last, turn.whole) for _, turn in run(made, 0, 5)] == [
        (1, False, False),
        (1, True, False),
        (1, True, True),
        (2, True, True),
    ]
    assert (made.is_whole(1), made.is_whole(3)) == (True, False)
    made.put([emm(1, 0, 2), emm(1, 1), emm(1, 2)], 5)
    assert (made.is_whole(1), made.is_whole(2)) == (False, False)
    assert [turn.whole for _, turn in run(made, 5, 5)] == [True]
    made.again(10)
    assert not made.is_whole(1)
    assert [turn.whole for _, turn in run(made, 10, 5)] == [False, False, False, True]


def test_what_stays_keeps_its_turn_and_what_is_withdrawn_is_not_sent() -> None:
    made = turns(emm(1), emm(2))
    assert len(run(made, 0, 10)) == 2
    made.put([emm(2), emm(3)], 10)
    assert [turn.number for _, turn in run(made, 10, 40)] == [3]
    assert [turn.number for _, turn in run(made, 50, 25)] == [2, 3]


def test_an_emm_that_is_being_sent_goes_on_through_a_change_and_is_broken_off_when_withdrawn() -> None:
    made = turns(emm(1, sections=3), rate=10_000)
    assert [turn.section for _, turn in run(made, 0, 1)] == [b"1-0-0"]
    made.put([emm(1, sections=3), emm(2)], 1)
    assert [turn.section for _, turn in run(made, 1, 10)] == [b"1-0-1", b"1-0-2", b"2-0-0"]
    made.put([emm(3, sections=3), emm(4)], 11)
    assert [turn.section for _, turn in run(made, 11, 1)] == [b"3-0-0"]
    made.put([emm(4)], 12)
    assert [turn.section for _, turn in run(made, 12, 10)] == [b"4-0-0"]
    made.put([emm(3, sections=3)], 23)
    assert [turn.section for _, turn in run(made, 23, 10)] == [b"3-0-0", b"3-0-1", b"3-0-2"]


def test_all_goes_out_again_when_it_may_be_lost() -> None:
    made = turns(emm(1), emm(2))
    run(made, 0, 10)
    made.again(10)
    assert [turn.number for _, turn in run(made, 10, 5)] == [1, 2]


def test_without_a_rate_nothing_goes_out_and_nothing_is_saved_up() -> None:
    made = turns(emm(1), emm(2, sections=16))
    run(made, 0, 1)
    made.set_rate(0, 1)
    made.again(1)
    assert (run(made, 1, 100), made.next_at(100), made.cycle_s) == ([], math.inf, math.inf)
    made.set_rate(RATE, 101)
    sent = run(made, 101, 1)
    assert sum(turn.bits for _, turn in sent) <= 2 * RATE * 0.1 + SECTION


def test_squeezed_they_have_a_tenth_of_their_share() -> None:
    made = turns(*(emm(1, index) for index in range(1_000)))
    made.squeeze(True, 0)
    assert made.share == pytest.approx(0.1 * SQUEEZED)
    sent = run(made, 0, 60)
    assert sum(turn.bits for _, turn in sent) == pytest.approx(60 * RATE * 0.01, abs=2 * SECTION)
    made.squeeze(False, 60)
    assert made.share == 0.1


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_that_cannot_be_is_refused(share: float) -> None:
    with pytest.raises(CarouselError):
        NoticeTurns(share)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)), max_size=8, unique_by=lambda e: e[:2]),
    st.lists(st.sampled_from(["wait", "pop", "put", "again", "halt", "go", "squeeze"]), max_size=40),
)
def test_whatever_happens_the_share_is_kept_and_next_at_is_no_lie(
    emms: list[tuple[int, int, int]], steps: list[str]
) -> None:
    made, now, sent = turns(), 0.0, 0
    for step in steps:
        now += 0.25
        if step == "put":
            made.put([emm(*one, repeat_s=1) for one in emms], now)
        elif step == "again":
            made.again(now)
        elif step in ("halt", "go"):
            made.set_rate(0 if step == "halt" else RATE, now)
        elif step == "squeeze":
            made.squeeze(not made.share, now)
        elif step == "pop":
            due = made.next_at(now)
            turn = made.pop(now)
            assert (turn is not None) == (due <= now)
            sent += 0 if turn is None else turn.bits
    assert sent <= (now + 1) * RATE * 0.1 + SECTION
