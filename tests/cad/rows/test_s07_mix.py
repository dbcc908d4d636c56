"""S7: the customer chooses n of a list; all may be changed once in a calendar month; the first moment is shown."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.ledger.decide.cards import new_card
from cad.ledger.decide.civil import next_month
from cad.ledger.decide.command import decide
from cad.ledger.decide.common import Context
from cad.ledger.records import OfferRow
from cad.ledger.working import WorkingSet
from protocol.portal.commands import parsing
from protocol.portal.commands.subscriptions import SubscriptionPut
from protocol.portal.errors import InvalidError
from tests.support.hand_headend import GRANTS, HELSINKI, NUMBERS, HandHeadend, at, on_the_wall

A, B = NUMBERS[:2]


@pytest.mark.parametrize(
    ("moment", "following"),
    [
        ("2026-11-20 12:00", "2026-12-01 00:00"),
        ("2026-12-31 23:59", "2027-01-01 00:00"),
        ("2027-01-01 00:00", "2027-02-01 00:00"),
        ("2028-02-29 23:59", "2028-03-01 00:00"),  # a leap day
        ("2027-03-28 04:30", "2027-04-01 00:00"),  # summer time began this month
        ("2027-10-31 03:30", "2027-11-01 00:00"),  # winter time began this night, in the month before
        ("2026-10-31 23:59", "2026-11-01 00:00"),
    ],
)
def test_the_next_month_begins_at_midnight_there(moment: str, following: str) -> None:
    assert on_the_wall(next_month(at(moment), HELSINKI)) == following


@given(st.integers(0, 2**32 - 1), st.sampled_from(["UTC", "Europe/Helsinki", "Asia/Kathmandu", "Pacific/Auckland"]))
def test_a_month_is_left_by_its_last_second_and_by_no_other(moment: int, zone: str) -> None:
    place = ZoneInfo(zone)
    begins = next_month(moment, place)
    assert moment < begins == next_month(begins - 1, place) < next_month(begins, place)


LISTED = ["basic", "film", "news", "sport"]


class Rule:
    """The rule once more, as a customer would say it: in which months of Helsinki was something given up."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.changed_in: set[tuple[int, int]] = set()

    def takes(self, choice: set[str], now: int) -> bool:
        """Whether a choice is taken at that moment."""
        local = datetime.fromtimestamp(now, HELSINKI)
        if not self.held <= choice:
            if (local.year, local.month) in self.changed_in:
                return False
            self.changed_in.add((local.year, local.month))
        self.held = choice
        return True


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.integers(at("2026-01-01 00:00"), at("2029-01-01 00:00")),
    st.lists(
        st.tuples(
            st.integers(0, 3 * 86_400) | st.integers(0, 40 * 86_400),
            st.sampled_from([2, 3]),
            st.lists(st.sampled_from(LISTED), min_size=3, max_size=3, unique=True),
        ),
        min_size=2,
        max_size=25,
    ),
)
def test_over_years_nobody_gives_up_something_twice_in_a_month(
    now: int, steps: list[tuple[int, int, list[str]]]
) -> None:
    """Two mixes, of two and of three channels, chosen at random moments, against the rule in the customer's words."""
    state, grant, rule = WorkingSet(), GRANTS.operators["karjaa"], Rule()
    state.cards[1] = replace(new_card(1, Context("karjaa", grant, now)), state="active")
    for number in (2, 3):
        state.add_offer(
            OfferRow(number, "karjaa", f"mix-{number}", 0, "mix", "{}", None, json.dumps(LISTED), now, choose=number)
        )
    for rev, (later, size, chosen) in enumerate(steps):
        now += later
        choice = sorted(chosen[:size])
        command = SubscriptionPut(subscription="s", rev=rev, card=1, offer=f"mix-{size}", choice=tuple(choice))
        decision = decide(command, state, Context("karjaa", grant, now))
        assert (decision.code == "ok") == rule.takes(set(choice), now), (rev, decision)
        state.apply(decision.card_rows, None, decision.subscription_rows)
        months = [(one.year, one.month) for one in [datetime.fromtimestamp(decision.next_change_at or 0, HELSINKI)]]
        assert not rule.changed_in & set(months), "the moment shown lies in a month that is still free"


@pytest.fixture
def mixed(headend: HandHeadend) -> HandHeadend:
    """With a MIX-2 of four channels."""
    mix(headend)
    return headend


def mix(headend: HandHeadend, **changed: Any) -> dict[str, Any]:
    body = {"offer": "mix", "kind": "mix", "choose": 2, "names": {"fi": "Valitse 2"}}
    return headend.done("offer put", **(body | {"products": ["basic", "sport", "film", "news"]} | changed))


def choose(headend: HandHeadend, *choice: str, **more: Any) -> dict[str, Any]:
    return headend.order("subscription put", **({"subscription": "s", "card": A, "offer": "mix"} | more), choice=choice)


def opened(headend: HandHeadend, moment: int | None = None) -> list[str]:
    """What the card opens after it has heard its EMM, and after a restart of the daemon just the same."""
    found = headend.card(A).hear().opened(moment)
    headend.sleep_until(headend.now)
    assert headend.card(A).hear().opened(moment) == found
    return found


@pytest.mark.slow
def test_a_card_opens_exactly_what_was_chosen(mixed: HandHeadend) -> None:
    reply = choose(mixed, "sport", "film")
    assert (reply["code"], on_the_wall(reply["next_change_at"])) == ("ok", "2026-11-20 12:00")
    assert opened(mixed) == ["film", "sport"]


@pytest.mark.slow
def test_all_may_be_changed_but_once_in_a_calendar_month(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    changed = choose(mixed, "basic", "news")
    assert (changed["code"], on_the_wall(changed["next_change_at"])) == ("ok", "2026-12-01 00:00")
    assert opened(mixed) == ["basic", "news"]
    mixed.go_to(at("2026-11-30 23:59"))
    refused = choose(mixed, "basic", "sport")
    assert (refused["code"], refused["retryable"], refused["on_air_by"]) == ("choice_locked", False, None)
    assert on_the_wall(refused["next_change_at"]) == "2026-12-01 00:00"
    assert "2026-12-01T00:00:00+02:00" in refused["detail"]
    assert opened(mixed) == ["basic", "news"]
    mixed.go_to(at("2026-12-01 00:00"))
    assert choose(mixed, "basic", "sport")["code"] == "ok"
    assert on_the_wall(choose(mixed, "sport", "basic")["next_change_at"]) == "2027-01-01 00:00"
    assert opened(mixed) == ["basic", "sport"]


def test_the_same_choice_is_no_change_and_every_reply_names_the_moment(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    choose(mixed, "news", "film")
    again = choose(mixed, "film", "news", ends_at="2027-05-01T00:00:00+03:00")
    assert (again["code"], on_the_wall(again["ends_at"])) == ("ok", "2027-05-01 00:00")
    replies = [
        again,
        choose(mixed, "film"),
        choose(mixed, "film", "news", rev=0),
        mixed.order("subscription end", subscription="s", at="2027-01-01T00:00:00Z"),
    ]
    assert [one["code"] for one in replies] == ["ok", "choice_count", "stale_rev", "ok"]
    assert {on_the_wall(one["next_change_at"]) for one in replies} == {"2026-12-01 00:00"}
    (held,) = mixed.view(A).subscriptions
    assert (held.choice, on_the_wall(held.next_change_at or 0)) == (("film", "news"), "2026-12-01 00:00")
    assert mixed.done("subscription end", subscription="s")["next_change_at"] is None, "it is over"


@pytest.mark.slow
def test_before_the_start_the_choice_is_free_and_the_first_is_no_change(mixed: HandHeadend) -> None:
    starts = "2026-12-24T18:00:00+02:00"
    for choice in (("basic", "sport"), ("film", "news"), ("sport", "news")):
        reply = choose(mixed, *choice, starts_at=starts)
        assert (reply["code"], on_the_wall(reply["next_change_at"])) == ("ok", "2026-11-20 12:00")
    mixed.go_to(at("2026-12-24 18:00"))
    assert opened(mixed) == ["news", "sport"]
    assert choose(mixed, "basic", "film")["code"] == "ok", "the change of December"
    assert choose(mixed, "basic", "news")["code"] == "choice_locked"


def test_one_that_is_put_off_may_be_chosen_anew_before_it_starts_and_says_so(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    starts = "2026-12-24T18:00:00+02:00"
    for choice in (("basic", "news"), ("film", "news")):
        reply = choose(mixed, *choice, starts_at=starts)
        assert (reply["code"], on_the_wall(reply["next_change_at"])) == ("ok", "2026-11-20 12:00")
    (held,) = mixed.view(A).subscriptions
    assert on_the_wall(held.next_change_at or 0) == "2026-11-20 12:00"


@pytest.mark.slow
def test_customer_service_is_not_refused_and_its_change_counts(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    for other in ("basic", "news"):
        reply = choose(mixed, "sport", other, authority="customer-service")
        assert (reply["code"], on_the_wall(reply["next_change_at"])) == ("ok", "2026-12-01 00:00")
    assert choose(mixed, "sport", "film")["code"] == "choice_locked"


@pytest.mark.slow
def test_what_the_list_loses_closes_and_may_be_replaced_at_once(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    choose(mixed, "sport", "news")
    assert mix(mixed, products=["basic", "sport", "film"])["detail"] == "1 cards are sent their new content"
    assert opened(mixed) == ["sport"]
    assert choose(mixed, "sport", "news")["code"] == "ok", "what stands may be said again"
    assert mix(mixed)["detail"] == "1 cards are sent their new content"
    assert opened(mixed) == ["news", "sport"], "put back on the list, it opens again"
    mix(mixed, products=["basic", "sport", "film"])
    assert choose(mixed, "basic", "film")["code"] == "choice_locked", "sport is still to be had"
    assert choose(mixed, "sport", "news", card=A, offer="mix", subscription="t")["code"] == "choice_not_listed"
    assert choose(mixed, "sport", "film")["code"] == "ok"
    assert mix(mixed, products=["sport", "film"])["detail"] == "0 cards are sent their new content"
    assert opened(mixed) == ["film", "sport"]


def test_what_the_headend_grants_no_more_may_be_replaced_at_once(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    choose(mixed, "sport", "news")
    karjaa = GRANTS.operators["karjaa"]
    less = replace(karjaa, products={slug: one for slug, one in karjaa.products.items() if slug != "news"})
    grants = replace(GRANTS, operators={**GRANTS.operators, "karjaa": less})
    (change,), _ = mixed.store.apply_grants(grants, mixed.now)
    assert [right.product_id for right in change.rights] == [karjaa.products["sport"]]
    assert choose(mixed, "sport", "news")["code"] == "not_granted"
    assert choose(mixed, "basic", "film")["code"] == "choice_locked", "sport is still to be had"
    assert choose(mixed, "sport", "film")["code"] == "ok"


@pytest.mark.slow
def test_another_number_to_choose_leaves_what_stands(mixed: HandHeadend) -> None:
    choose(mixed, "sport", "film")
    choose(mixed, "sport", "news")
    mix(mixed, choose=3)
    assert choose(mixed, "sport", "news")["code"] == "ok", "said again"
    assert choose(mixed, "sport", "film")["code"] == "choice_count"
    assert choose(mixed, "sport", "news", "basic")["code"] == "ok", "one more is no change"
    mix(mixed, choose=1)
    assert opened(mixed) == ["basic", "news", "sport"]
    assert choose(mixed, "sport", "news", "basic", ends_at="2027-05-01T00:00:00Z")["code"] == "ok"
    assert choose(mixed, "sport")["code"] == "choice_locked", "two would be given up"


@pytest.mark.slow
def test_more_may_be_taken_at_any_time_and_nobody_changes_by_a_roundabout_way(mixed: HandHeadend) -> None:
    mix(mixed, offer="mix-3", choose=3)
    mixed.done("offer put", offer="all", kind="package", names={"fi": "Kaikki"}, products=["basic", "sport", "film"])
    choose(mixed, "sport", "film")
    choose(mixed, "sport", "news")
    assert choose(mixed, "sport", "news", "film", offer="mix-3")["code"] == "ok"
    assert choose(mixed, "sport", "basic")["code"] == "choice_locked", "less again, and something else"
    assert mixed.done("subscription put", subscription="s", card=A, offer="all")["next_change_at"] is None
    back = choose(mixed, "basic", "film")
    assert (back["code"], on_the_wall(back["next_change_at"])) == ("choice_locked", "2026-12-01 00:00")
    mixed.go_to(at("2026-12-01 00:00"))
    assert choose(mixed, "basic", "film")["code"] == "ok"
    assert choose(mixed, "news", "film")["code"] == "ok", "the change of December"
    assert opened(mixed) == ["film", "news"]


@pytest.mark.parametrize(
    ("choice", "offer", "code"),
    [
        (None, "mix", "choice_needed"),
        (["sport"], "mix", "choice_count"),
        (["sport", "film", "news"], "mix", "choice_count"),
        (["sport", "radio"], "mix", "choice_not_listed"),
        (["sport"], "sport", "choice_not_offered"),
    ],
)
def test_what_is_no_choice_of_the_offer_is_refused(
    mixed: HandHeadend, choice: list[str] | None, offer: str, code: str
) -> None:
    reply = mixed.order("subscription put", subscription="s", card=A, offer=offer, choice=choice)
    assert (reply["code"], reply["next_change_at"]) == (code, None)
    assert mixed.view(A).subscriptions == ()


def test_a_mix_stays_a_mix_and_goes_with_its_card(mixed: HandHeadend) -> None:
    wrong = mixed.order("offer put", offer="mix", kind="package", names={"fi": "x"}, products=["sport"])
    assert wrong["code"] == "kind_fixed"
    assert (
        mixed.order("offer put", offer="sport", kind="mix", choose=1, names={"fi": "x"}, products=["sport"])["code"]
        == "kind_fixed"
    )
    choose(mixed, "sport", "film")
    mixed.done("card replace", card=A, replacement=B)
    assert mixed.card(B).hear().opened() == ["film", "sport"]
    assert choose(mixed, "news", "film", card=B)["code"] == "ok"
    assert mixed.card(B).hear().opened() == ["film", "news"]


@pytest.mark.parametrize(
    ("verb", "changed", "field"),
    [
        ("offer put", {"kind": "package", "choose": 2}, "choose"),
        ("offer put", {"choose": None}, "choose"),
        ("offer put", {"choose": 3}, "choose"),
        ("offer put", {"choose": 0}, "choose"),
        ("subscription put", {"choice": ["sport", "sport"]}, "choice"),
        ("subscription put", {"choice": []}, "choice"),
    ],
)
def test_a_schema_refuses_what_cannot_be_meant(verb: str, changed: dict[str, Any], field: str) -> None:
    body: dict[str, Any] = {"id": "x", "rev": 1, "offer": "mix"}
    if verb == "offer put":
        body |= {"kind": "mix", "choose": 2, "names": {"fi": "x"}, "products": ["sport", "film"]}
    else:
        body |= {"subscription": "s", "card": A}
    with pytest.raises(InvalidError) as found:
        parsing.parse(*verb.split(), json.dumps(body | changed).encode())
    assert [one.field for one in found.value.errors] == [field]
