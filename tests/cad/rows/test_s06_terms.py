"""S6, S18: fixed terms and minimum durations, counted in months on the wall clock of the operator."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.ledger.decide.civil import add_months
from tests.support.hand_headend import HELSINKI, NUMBERS, HandHeadend, at, on_the_wall

A = NUMBERS[0]


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ("2026-11-20 12:00", 1, "2026-12-20 12:00"),
        ("2026-10-15 12:00", 1, "2026-11-15 12:00"),  # winter time begins between: the time of day stays
        ("2027-03-15 00:00", 1, "2027-04-15 00:00"),  # summer time begins between
        ("2027-01-31 09:00", 1, "2027-02-28 09:00"),  # a shorter month
        ("2028-01-31 09:00", 1, "2028-02-29 09:00"),  # in a leap year
        ("2028-02-29 09:00", 12, "2029-02-28 09:00"),  # a year after a leap day
        ("2026-12-31 23:59", 2, "2027-02-28 23:59"),  # over the year's end
        ("2027-02-28 03:30", 1, "2027-03-28 04:30"),  # into the hour that is skipped: moved on by it
        ("2027-09-30 03:30", 1, "2027-10-30 03:30"),
        ("2027-08-31 03:30", 2, "2027-10-31 03:30"),  # comes twice: the first
    ],
)
def test_months_on_the_wall(start: str, months: int, end: str) -> None:
    assert on_the_wall(add_months(at(start), months, HELSINKI)) == end
    assert add_months(at(start), months, HELSINKI) == at(end)


@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.sampled_from(["UTC", "Europe/Helsinki", "Asia/Kathmandu"]))
def test_months_never_run_backwards(moment: int, months: int, zone: str) -> None:
    place = ZoneInfo(zone)
    assert add_months(moment, months + 1, place) > add_months(moment, months, place)
    days = (add_months(moment, months, place) - moment) / 86_400
    assert 28 * months - 1 <= days <= 31 * months + 1


def campaign(headend: HandHeadend, **terms: Any) -> None:
    headend.done(
        "offer put", offer="deal", kind="package", names={"fi": "Tarjous"}, products=["sport", "film"], terms=terms
    )


def test_a_fixed_term_ends_by_itself_at_its_month(headend: HandHeadend) -> None:
    campaign(headend, fixed_months=3, price="19.90 EUR/kk")
    reply = headend.done("subscription put", subscription="s", card=A, offer="deal")
    assert on_the_wall(reply["ends_at"]) == "2027-02-20 12:00"
    assert headend.order("subscription end", subscription="s")["code"] == "minimum_term"
    wrong = headend.order("subscription put", subscription="t", card=A, offer="deal", ends_at="2027-01-01T00:00:00Z")
    assert (wrong["code"], "2027-02-20T12:00:00+02:00" in wrong["detail"]) == ("fixed_term", True)
    card = headend.card(A)
    ends = at("2027-02-20 12:00")
    headend.go_to(ends - 60)
    card.hear()
    assert [card.opens("sport", moment) for moment in (ends - 1, ends)] == [True, False]
    headend.go_to(ends)
    assert headend.invoice()[-1] | {"number": 0} == headend.invoice()[-2] | {
        "number": 0,
        "fact": "service-ended",
        "at": reply["ends_at"],
        "command": None,
    }
    assert headend.invoice()[-1]["price"] == "19.90 EUR/kk"


def test_a_minimum_duration_is_kept_and_then_the_customer_may_end(headend: HandHeadend) -> None:
    campaign(headend, minimum_months=1)
    headend.done("subscription put", subscription="s", card=A, offer="deal")
    refused = headend.order("subscription end", subscription="s")
    assert (refused["code"], refused["retryable"]) == ("minimum_term", False)
    assert "2026-12-20T12:00:00+02:00" in refused["detail"]
    early = headend.order(
        "subscription put", subscription="s", card=A, offer="deal", ends_at="2026-12-20T11:59:59+02:00"
    )
    assert early["code"] == "minimum_term"
    headend.done("subscription end", subscription="s", at="2026-12-20T12:00:00+02:00")
    headend.go_to(at("2026-12-20 12:00"))
    assert not headend.card(A).hear().opens("sport")


def test_nobody_leaves_a_minimum_by_changing_moving_or_putting_off(headend: HandHeadend) -> None:
    campaign(headend, minimum_months=12)
    headend.done("subscription put", subscription="s", card=A, offer="deal")
    headend.done("subscription put", subscription="s", card=A, offer="basic")
    assert headend.order("subscription end", subscription="s")["code"] == "minimum_term"
    later = headend.order("subscription put", subscription="s", card=A, offer="basic", starts_at="2027-12-01T00:00:00Z")
    assert later["code"] == "minimum_term"
    assert headend.view(A).subscriptions[0].minimum_until == at("2027-11-20 12:00")


def test_what_was_agreed_stays_when_the_offer_changes_later(headend: HandHeadend) -> None:
    campaign(headend, fixed_months=3)
    first = headend.done("subscription put", subscription="s", card=A, offer="deal")
    campaign(headend, fixed_months=24, ended_by="customer-service")
    assert headend.done("subscription put", subscription="s", card=A, offer="deal")["ends_at"] == first["ends_at"]
    assert not headend.view(A).subscriptions[0].protected
    new = headend.done("subscription put", subscription="t", card=A, offer="deal")
    assert on_the_wall(new["ends_at"]) == "2028-11-20 12:00"


def test_terms_that_contradict_themselves_are_refused_by_the_schema() -> None:
    from protocol.portal.commands import parsing
    from protocol.portal.errors import InvalidError

    body = b'{"id":"x","offer":"a","rev":1,"kind":"channel","names":{"fi":"A"},"products":["a"],"terms":%s}'
    with pytest.raises(InvalidError) as found:
        parsing.parse("offer", "put", body % b'{"fixed_months":3,"minimum_months":4}')
    assert "minimum_months" in str(found.value.errors)
