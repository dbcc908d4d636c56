"""S3: an offer that leaves the catalogue is sold no more; who has it keeps it, and may change it while it runs."""

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at, on_the_wall

A, B = NUMBERS[:2]


@pytest.fixture
def leaving(headend: HandHeadend) -> HandHeadend:
    """With a mix and a channel that a customer has, both withdrawn."""
    listed = ["basic", "film", "sport"]
    headend.done("offer put", offer="mix", kind="mix", choose=1, names={"fi": "Valitse"}, products=listed)
    headend.done("subscription put", subscription="m", card=A, offer="mix", choice=["sport"])
    headend.done("subscription put", subscription="s", card=A, offer="film", ends_at="2026-12-01T00:00:00+02:00")
    for offer in ("mix", "film"):
        reply = headend.done("offer withdraw", offer=offer)
        assert (reply["detail"], reply["on_air_by"]) == ("it is not sold any more; subscriptions to it go on", None)
    return headend


def test_who_has_it_keeps_it_and_nothing_is_sent(leaving: HandHeadend) -> None:
    revision = leaving.view(A).revision
    leaving.done("offer withdraw", offer="film")
    assert leaving.view(A).revision == revision
    assert leaving.card(A).hear().opened() == ["film", "sport"]
    assert [name for name, _ in leaving.facts(A)] == ["card-issued", "service-started", "service-started"]


def test_what_runs_can_be_changed(leaving: HandHeadend) -> None:
    assert leaving.done("subscription put", subscription="m", card=A, offer="mix", choice=["basic"])["next_change_at"]
    later = leaving.done(
        "subscription put", subscription="s", card=A, offer="film", ends_at="2027-01-01T00:00:00+02:00"
    )
    assert on_the_wall(later["ends_at"]) == "2027-01-01 00:00"
    leaving.done("card assign", card=B, subscriber="anna")
    leaving.done("subscription put", subscription="s", card=B, offer="film", ends_at="2027-01-01T00:00:00+02:00")
    assert leaving.card(A).hear().opened() == ["basic"]
    assert leaving.card(B).hear().opened() == ["film"]


def test_nobody_new_gets_it_nor_who_had_it_before(leaving: HandHeadend) -> None:
    for order in (
        {"subscription": "new", "offer": "film"},
        {"subscription": "new", "offer": "mix", "choice": ["film"]},
        {"subscription": "m", "offer": "film"},
    ):
        reply = leaving.order("subscription put", card=A, **order)
        assert (reply["code"], reply["status"], reply["retryable"]) == ("offer_withdrawn", "rejected", False)
    leaving.go_to(at("2026-12-01 00:00"))
    assert leaving.order("subscription put", subscription="s", card=A, offer="film")["code"] == "offer_withdrawn"
    assert leaving.card(A).hear().opened() == ["sport"]


def test_put_again_it_is_sold_again(leaving: HandHeadend) -> None:
    leaving.done("offer put", offer="film", kind="channel", names={"fi": "Elokuvat"}, products=["film"])
    leaving.done("card assign", card=B, subscriber="bert")
    leaving.done("subscription put", subscription="new", card=B, offer="film")
    assert leaving.card(B).hear().opened() == ["film"]


def test_only_ones_own_offer_can_be_withdrawn(leaving: HandHeadend) -> None:
    assert leaving.order("offer withdraw", offer="opera")["code"] == "unknown_offer"
    assert leaving.order("offer withdraw", operator="kaspnet", offer="sport")["code"] == "unknown_offer"
    assert leaving.order("offer withdraw", offer="sport", rev=0)["code"] == "stale_rev"
    leaving.done("subscription put", subscription="new", card=A, offer="sport")
