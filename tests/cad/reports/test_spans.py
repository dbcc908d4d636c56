"""From a card's history to spans of time, against a plain look at every moment."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.reports.spans import CARD, Names, card, cards

NAMES = Names(
    {1: ("sport", ("sport-1",)), 2: ("all", ("sport-1", "film-1"))}, {9: ("big", None), 8: ("match", "film-1")}
)


def row(at: float, *products: list[Any], offers: tuple[list[Any], ...] = (), address: int = 7) -> Any:
    opens = json.dumps([list(offers), list(products)])
    return SimpleNamespace(address=address, at=at, command_id=f"c-{at}", opens=opens)


def test_a_window_counts_from_the_change_that_made_it_until_the_one_that_took_it_away() -> None:
    found = card(7, [row(10, [1, 5, None]), row(20), row(30, [1, 5, 40])], NAMES)
    assert found.spans["product", "sport"] == [(10, 20), (30, 40)]
    assert found.spans["service", "sport-1"] == found.spans[CARD] == [(10, 20), (30, 40)]


def test_a_change_that_leaves_something_as_it_was_is_no_turn_of_it() -> None:
    found = card(7, [row(10, [1, 10, None]), row(20, [1, 10, None], [2, 20, None]), row(30, [2, 20, None])], NAMES)
    assert found.spans["service", "sport-1"] == [(10, math.inf)]
    assert found.turns(0, 100) == [
        (10, CARD, True),
        (10, ("product", "sport"), True),
        (10, ("service", "sport-1"), True),
        (20, ("product", "all"), True),
        (20, ("service", "film-1"), True),
        (30, ("product", "sport"), False),
    ]


def test_an_event_opens_its_service_and_no_product_of_the_settings() -> None:
    found = card(7, [row(10, [900, 50, 60], offers=([8, 50, 60],))], NAMES)
    assert found.spans == {CARD: [(50, 60)], ("offer", "match"): [(50, 60)], ("service", "film-1"): [(50, 60)]}


def test_what_stood_at_the_end_of_a_day_is_what_was_open_just_before_it() -> None:
    found = card(7, [row(10, [1, 20, 30])], NAMES)
    assert [bool(list(found.open_at(moment))) for moment in (20, 21, 30, 31)] == [False, True, True, False]


def test_cards_are_told_apart() -> None:
    rows = [row(1, [1, 0, None]), row(2), row(1, [1, 0, None], address=8)]
    assert [(one.address, one.spans[CARD]) for one in cards(rows, NAMES)] == [(7, [(1, 2)]), (8, [(1, math.inf)])]


windows = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 20), st.none() | st.integers(0, 20)), max_size=3)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 20), windows), max_size=5))
@settings(max_examples=60, deadline=None)
def test_at_every_moment_it_is_what_the_row_of_that_moment_says(history: list[tuple[int, list[Any]]]) -> None:
    history.sort(key=lambda one: one[0])
    found = card(7, [row(at, *[list(one) for one in listed]) for at, listed in history], NAMES)
    for half in range(1, 50):
        moment = half / 2 + 0.25
        valid = [listed for at, listed in history if at <= moment]
        plain = {
            number
            for number, start, end in (valid[-1] if valid else [])
            if start <= moment < (end or (0 if end == 0 else math.inf))
        }
        for number in (1, 2):
            slug = NAMES.products[number][0]
            there = any(start <= moment < end for start, end in found.spans.get(("product", slug), []))
            assert there == (number in plain)
