"""S14, S15: a defect or loss is reported and a new card given: rights move, the old card dies; cards come back."""

from emm.traits import Traits
from tests.support.hand_headend import NUMBERS, HandHeadend, at

A, B, C = NUMBERS[:3]


def test_s15_reported_it_is_dark_replaced_the_rights_are_on_the_new_card(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    headend.done("subscription put", subscription="t", card=A, offer="film", ends_at="2027-06-01T00:00:00+03:00")
    old, new = headend.card(A).hear(), headend.card(B)
    headend.done("card report", card=A, condition="stolen")
    assert not old.hear().opens("sport"), "by EMM"
    reply = headend.done("card replace", card=A, replacement=B, reason="stolen")
    assert reply["card"] == B, "the card that the services go to"
    assert [new.hear().opens(product) for product in ("sport", "film")] == [True, True]
    assert not old.hear().opens("sport")
    assert (headend.view(A).state, headend.view(A).rights) == ("replaced", ())
    assert headend.view(B).subscriber == "anna"
    assert {one.subscription for one in headend.view(B).subscriptions} == {"s", "t"}


def test_s15_an_old_card_whose_emms_are_blocked_dies_by_expiry(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    old = headend.card(A).hear()
    headend.done("card replace", card=A, replacement=B)
    rights_end = headend.calendar.rights_end(headend.calendar.period(headend.now))
    assert old.opens("sport"), "it hears nothing"
    assert not old.opens("sport", rights_end)
    headend.go_to(rights_end)
    assert headend.card(B).hear().opens("sport")


def test_s15_it_is_one_commit_and_survives_a_crash_whole(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    before = headend.store.head.seq
    headend.done("card replace", card=A, replacement=B)
    assert headend.store.head.seq == before + 1, "one record"
    headend.crash()
    assert headend.card(B).hear().opens("sport")
    assert not headend.card(A).hear().opens("sport")


def test_s15_what_the_old_card_was_set_up_with_moves_unless_the_new_one_has_its_own(headend: HandHeadend) -> None:
    receiver = headend.card(A).receiver
    headend.done("card pair", card=A, receiver=receiver)
    headend.done("card region", card=A, region="coast")
    headend.done("card parental", card=A, level=12)
    headend.done("card assign", card=B, subscriber="anna", region="inland")
    headend.done("card replace", card=A, replacement=B)
    assert headend.view(A).traits == Traits()
    assert headend.view(B).traits == Traits(int(receiver, 16), 12, 0, 8)
    headend.done("card assign", card=C, subscriber="anna")
    headend.done("card parental", card=C, level=4)
    headend.done("card replace", card=B, replacement=C)
    assert headend.view(C).traits == Traits(int(receiver, 16), 4, 0, 8)


def test_s15_who_has_not_paid_is_not_reopened_by_a_new_card(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    headend.done("card suspend", card=A, reason="unpaid")
    headend.done("card report", card=A, condition="lost")
    reply = headend.done("card replace", card=A, replacement=B)
    assert reply["visible_by"] is None
    assert (headend.view(B).state, headend.view(B).reason) == ("suspended", "unpaid")
    headend.done("card reopen", card=B)
    assert headend.card(B).hear().opens("sport")


def test_s15_replacements_that_cannot_be_are_refused_and_change_nothing(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    headend.done("card assign", card=B, subscriber="bert")
    headend.done("card blacklist", card=C)
    codes = {
        "card_in_use": headend.order("card replace", card=A, replacement=B),
        "card_blacklisted": headend.order("card replace", card=A, replacement=C),
        "unknown_card": headend.order("card replace", card=A, replacement=1500),
    }
    assert {code: reply["code"] for code, reply in codes.items()} == {code: code for code in codes}
    assert headend.card(A).hear().opens("sport")
    headend.done("card replace", card=A, replacement=NUMBERS[4])
    assert headend.order("card replace", card=A, replacement=NUMBERS[5])["code"] == "card_state"
    refused = headend.order("subscription put", subscription="t", card=A, offer="film")
    assert (refused["code"], NUMBERS[4] in refused["detail"]) == ("card_state", True)


def test_s14_a_lent_card_comes_back_when_its_services_have_ended_and_is_lent_again(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    assert headend.order("card return", card=A)["code"] == "card_has_subscriptions"
    headend.go_to(at("2026-12-01 12:00"))
    headend.done("subscription end", subscription="s")
    headend.done("card return", card=A)
    assert headend.order("card assign", card=A, subscriber="bert")["code"] == "card_state"
    headend.done("card release", card=A)
    headend.done("card assign", card=A, subscriber="bert")
    assert [name for name, _ in headend.facts()] == [
        "card-issued",
        "service-started",
        "service-ended",
        "card-returned",
        "card-issued",
    ]
    assert [one["subscriber"] for one in headend.invoice()] == ["anna"] * 4 + ["bert"]


def test_s14_a_replaced_card_is_returned_too(headend: HandHeadend) -> None:
    headend.done("card replace", card=A, replacement=B, reason="new model")
    headend.done("card return", card=A)
    headend.done("card release", card=A)
    assert headend.view(A).state == "stock"
