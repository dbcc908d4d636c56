"""S1, S19: a service is refused where a card or a service that it presupposes is missing, with a reason to be shown."""

import pytest

from protocol.portal.codes import Code, text
from tests.support.hand_headend import NUMBERS, HandHeadend

A, B, C = NUMBERS[:3]


def test_s19_no_card_no_service(headend: HandHeadend) -> None:
    assert headend.order("subscription put", subscription="s", card=B, offer="sport")["code"] == "unknown_card"
    headend.done("card release", card=A)
    reply = headend.order("subscription put", subscription="s", card=A, offer="sport")
    assert (reply["code"], reply["detail"]) == ("card_not_assigned", text(Code.CARD_NOT_ASSIGNED))
    assert reply["retryable"], "the same order goes through once the card is assigned"


@pytest.mark.parametrize("state", ["lost", "stolen", "defective"])
def test_s19_a_reported_card_takes_no_orders(headend: HandHeadend, state: str) -> None:
    headend.done("card report", card=A, condition=state)
    reply = headend.order("subscription put", subscription="s", card=A, offer="sport")
    assert reply["code"] == "card_state"
    assert reply["detail"] == f"the card is {state}; replace it, then order for the new card"


def test_s19_no_television_contract_no_pay_channel(headend: HandHeadend) -> None:
    terms = {"requires": ["basic"]}
    headend.done("offer put", offer="pay", kind="channel", names={"fi": "M"}, products=["film"], terms=terms)
    refused = headend.order("subscription put", subscription="s", card=A, offer="pay")
    assert (refused["code"], refused["detail"]) == ("precondition_missing", "the card needs one of these first: basic")
    headend.done("subscription put", subscription="tv", card=A, offer="basic", starts_at="2026-12-01T00:00:00+02:00")
    assert headend.order("subscription put", subscription="s", card=A, offer="pay")["code"] == "precondition_missing"
    headend.done("subscription put", subscription="s", card=A, offer="pay", starts_at="2026-12-01T00:00:00+02:00")
    headend.done("subscription put", subscription="tv", card=A, offer="basic")
    headend.done("subscription put", subscription="s", card=A, offer="pay")
    assert headend.card(A).hear().opens("film")


def test_s01_several_cards_of_one_customer_and_the_reply_names_the_one(headend: HandHeadend) -> None:
    headend.done("card assign", card=B, subscriber="anna")
    reply = headend.done("subscription put", subscription="s", card=B, offer="sport")
    assert reply["card"] == B
    assert [headend.card(number).hear().opens("sport") for number in (A, B)] == [False, True]


def test_every_code_has_a_text_that_a_customer_can_read() -> None:
    for code in Code:
        assert text(code).endswith("."), code
        assert len(text(code)) > 20
