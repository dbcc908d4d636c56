"""S12: a promise to pay reopens at once, and access closes by itself when the money does not come."""

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at

A, B = NUMBERS[:2]
UNTIL = at("2026-11-22 18:00")
SPELT = "2026-11-22T18:00:00+02:00"


def blocked(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    headend.done("card suspend", card=A, reason="unpaid")


def test_s12_the_card_itself_closes_at_the_moment_though_nobody_tells_it(headend: HandHeadend) -> None:
    blocked(headend)
    card = headend.card(A).hear()
    assert not card.opens("sport")
    headend.done("card reopen", card=A, until=SPELT)
    card.hear()
    assert [card.opens("sport", moment) for moment in (headend.now, UNTIL - 1, UNTIL)] == [True, True, False]


def test_s12_the_ledger_closes_by_the_clock_and_tells_the_card_and_the_invoice(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until=SPELT)
    before = headend.view(A)
    assert (before.state, before.open_until) == ("active", UNTIL)
    headend.go_to(UNTIL - 1)
    assert headend.view(A).revision == before.revision
    headend.go_to(UNTIL)
    after = headend.view(A)
    assert (after.state, after.open_until, after.revision) == ("suspended", None, before.revision + 1)
    card = headend.card(A).hear()
    assert not card.opens("sport", UNTIL - 60), "suspended, whatever the time"
    assert headend.facts()[-2:] == [("service-reopened", "2026-11-20 12:00"), ("service-suspended", "2026-11-22 18:00")]
    headend.done("card reopen", card=A)
    assert card.hear().opens("sport")


@pytest.mark.slow
def test_s12_a_daemon_that_was_down_at_the_moment_knows_it_afterwards(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until=SPELT)
    headend.sleep_until(UNTIL + 7200)
    card = headend.card(A).hear()
    assert not card.opens("sport"), "what is on the air is a function of ledger and time"
    headend.go_to(headend.now)
    assert headend.view(A).state == "suspended"
    assert headend.facts()[-1] == ("service-suspended", "2026-11-22 18:00")
    headend.go_to(headend.now + 60)
    assert [name for name, _ in headend.facts()].count("service-suspended") == 2, "once for each time"


def test_s12_an_order_that_comes_before_the_clock_was_looked_at_finds_the_card_closed(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until=SPELT)
    headend.now = UNTIL + 1
    reply = headend.done("subscription put", subscription="t", card=A, offer="film")
    assert "suspended" in reply["detail"]
    assert reply["visible_by"] is None
    assert not headend.card(A).hear().opens("film")


def test_s12_paid_in_time_the_card_stays_open(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until=SPELT)
    headend.done("card reopen", card=A)
    headend.go_to(UNTIL + 60)
    assert headend.view(A).state == "active"
    assert headend.card(A).hear().opens("sport")


def test_s12_the_moment_is_moved_and_goes_with_the_card_when_it_is_replaced(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until="2026-11-21T18:00:00+02:00")
    headend.done("card reopen", card=A, until=SPELT)
    headend.done("card report", card=A, condition="lost")
    headend.done("card replace", card=A, replacement=B)
    card = headend.card(B).hear()
    assert [card.opens("sport", moment) for moment in (UNTIL - 1, UNTIL)] == [True, False]
    headend.go_to(UNTIL)
    assert headend.view(B).state == "suspended"


def test_s12_a_lost_card_that_is_not_paid_for_in_time_leaves_its_replacement_blocked(headend: HandHeadend) -> None:
    blocked(headend)
    headend.done("card reopen", card=A, until=SPELT)
    headend.done("card report", card=A, condition="lost")
    headend.go_to(UNTIL)
    assert headend.view(A).state == "lost"
    headend.done("card replace", card=A, replacement=B)
    assert headend.view(B).state == "suspended"
    assert not headend.card(B).hear().opens("sport")


def test_s12_what_cannot_be_is_refused(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    assert headend.order("card reopen", card=A, until=SPELT)["code"] == "not_suspended"
    headend.done("card suspend", card=A)
    assert headend.order("card reopen", card=A, until="2026-11-20T12:00:00+02:00")["code"] == "invalid"
    assert headend.view(A).state == "suspended"
