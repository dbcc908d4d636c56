"""S9: what cannot be ended in the portal is ended by customer service on its own authority, told apart in the audit."""

import json
from typing import Any

import pytest

from cad.ledger.look import reading
from tests.support.hand_headend import NUMBERS, HandHeadend

A = NUMBERS[0]


def test_s09_only_customer_service_ends_such_a_service(headend: HandHeadend) -> None:
    terms = {"ended_by": "customer-service"}
    headend.done("offer put", offer="deal", kind="channel", names={"fi": "D"}, products=["sport"], terms=terms)
    headend.done("subscription put", subscription="s", card=A, offer="deal")
    card = headend.card(A)
    for body in ({}, {"at": "2027-01-01T00:00:00Z"}, {"authority": "customer"}):
        assert headend.order("subscription end", subscription="s", **body)["code"] == "needs_authority"
    cut = headend.order("subscription put", subscription="s", card=A, offer="deal", ends_at="2027-01-01T00:00:00Z")
    assert cut["code"] == "needs_authority", "an end by another way"
    headend.done("subscription put", subscription="s", card=A, offer="basic")
    assert headend.order("subscription end", subscription="s")["code"] == "needs_authority", "nor by a change before"
    headend.done("subscription put", subscription="s", card=A, offer="deal")
    assert card.hear().opens("sport")
    headend.done("subscription end", subscription="s", authority="customer-service")
    assert not card.hear().opens("sport")
    records = [
        json.loads(record) for _, record, _ in headend.store.read(lambda held: reading.audit_rows(held, 0, 1000))
    ]
    ends = [one for one in records if one["kind"] == "command" and one["verb"] == "end"]
    assert {one["code"]: one["body"].get("authority") for one in ends} == {
        "needs_authority": None,
        "ok": "customer-service",
    }


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("channel", {"products": ["sport"], "terms": {"fixed_months": 1}}),
        (
            "event",
            {"service": "cinema", "starts_at": "2026-11-20T00:00:00+02:00", "ends_at": "2026-11-20T23:00:00+02:00"},
        ),
    ],
)
def test_s09_nor_by_changing_to_an_offer_that_ends_by_itself(
    headend: HandHeadend, kind: str, more: dict[str, Any]
) -> None:
    terms = {"ended_by": "customer-service"}
    headend.done("offer put", offer="deal", kind="channel", names={"fi": "D"}, products=["sport"], terms=terms)
    headend.done("offer put", offer="other", kind=kind, names={"fi": "O"}, **more)
    headend.done("subscription put", subscription="s", card=A, offer="deal")
    assert headend.order("subscription put", subscription="s", card=A, offer="other")["code"] == "needs_authority"
    headend.done("subscription put", subscription="s", card=A, offer="other", authority="customer-service")
