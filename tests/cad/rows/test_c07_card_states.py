"""C7: stock, assigned, active, suspended, lost, stolen, defective, replaced, returned, blacklisted; legal moves."""

import random

import pytest

from cad.ledger.decide.lifecycle import MOVES, Move, go, legal
from cad.ledger.model import BLACKLISTED, STATES, STOCK
from protocol.card_number import spell
from tests.support.hand_headend import NUMBERS, HandHeadend

A, B, C = NUMBERS[:3]

WAYS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "stock": [("card release", {})],
    "assigned": [],
    "active": [("subscription put", {"subscription": "s", "offer": "sport"})],
    "suspended": [("card suspend", {})],
    "lost": [("card report", {"condition": "lost"})],
    "stolen": [("card report", {"condition": "stolen"})],
    "defective": [("card report", {"condition": "defective"})],
    "replaced": [("card replace", {"replacement": B})],
    "returned": [("card return", {})],
    "blacklisted": [("card blacklist", {})],
}
TRIES: dict[str, tuple[Move, dict[str, str]]] = {
    "card assign": (Move.ASSIGN, {"subscriber": "bert"}),
    "card release": (Move.RELEASE, {}),
    "card suspend": (Move.SUSPEND, {}),
    "card reopen": (Move.REOPEN, {}),
    "card report": (Move.LOST, {"condition": "lost"}),
    "card replace": (Move.REPLACE, {"replacement": C}),
    "card return": (Move.RETURN, {}),
    "card blacklist": (Move.BLACKLIST, {}),
}
SAME = {("card release", "stock"), ("card return", "returned"), ("card blacklist", "blacklisted")}


def bring(headend: HandHeadend, state: str, place: int) -> tuple[str, str]:
    """Bring a fresh card into a state; return its number and that of another in stock."""
    number, stand_in, other = (spell(address) for address in range(place, place + 3))
    headend.done("card assign", card=number, subscriber="anna")
    for command, body in WAYS[state]:
        names = {"subscription": f"s-{number}"} if "subscription" in body else {}
        if "replacement" in body:
            names = {"replacement": stand_in}
        headend.done(command, card=number, **(body | names))
    assert headend.view(number).state == state
    if state == "active":
        headend.done("subscription end", subscription=f"s-{number}")
    return number, other


def test_every_state_of_the_row_can_be_reached_and_has_its_moves() -> None:
    assert set(WAYS) == STATES
    reached = {STOCK}
    for _ in STATES:
        reached |= {to for ends in MOVES.values() for state, tos in ends.items() if state in reached for to in tos}
    assert reached == STATES
    assert not any(legal(move, BLACKLISTED) for move in Move), "final"
    with pytest.raises(ValueError, match="cannot"):
        go(Move.REOPEN, BLACKLISTED)


@pytest.mark.slow
@pytest.mark.parametrize("state", WAYS)
def test_legal_moves_are_made_and_others_refused(headend: HandHeadend, state: str) -> None:
    for place, (command, (move, body)) in enumerate(TRIES.items()):
        number, other = bring(headend, state, 10 + 3 * place)
        before = headend.view(number)
        if "replacement" in body:
            body = {"replacement": other}
        reply = headend.order(command, card=number, **body)
        after = headend.view(number)
        if legal(move, state) or (command, state) in SAME:
            assert reply["code"] == "ok", (command, reply)
            assert after.state == state or after.state in MOVES[move][state]
        else:
            assert reply["code"] == refusal(state, move), (command, reply)
            assert (after.state, after.rev, after.revision) == (before.state, before.rev, before.revision)


def refusal(state: str, move: Move) -> str:
    if move is Move.ASSIGN and state not in ("returned", "blacklisted"):
        return "card_in_use"
    return {"stock": "card_not_assigned", "blacklisted": "card_blacklisted"}.get(state, "card_state")


@pytest.mark.slow
def test_random_lives_keep_to_the_table(headend: HandHeadend) -> None:
    chance = random.Random(7)
    for _ in range(300):
        command = chance.choice(list(TRIES))
        move, body = TRIES[command]
        number = chance.choice([A, B, C])
        if number == body.get("replacement"):
            continue
        known = headend.order("card refresh", card=number)["code"] == "ok"
        before = headend.view(number).state if known else STOCK
        if headend.order(command, card=number, **body)["code"] == "ok":
            after = headend.view(number).state
            assert after == before or after in MOVES[move][before]


@pytest.mark.slow
def test_blacklisted_is_for_ever_and_the_card_goes_dark(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    assert card.opens("sport")
    headend.done("card blacklist", card=A, reason="cloned")
    assert not card.hear().opens("sport")
    for command, (_, body) in TRIES.items():
        if command != "card blacklist":
            assert headend.order(command, card=A, **body)["code"] == "card_blacklisted"
    assert headend.order("subscription put", subscription="t", card=A, offer="film")["code"] == "card_blacklisted"
    assert headend.order("card replace", card=A, replacement=B)["code"] == "card_blacklisted"
    headend.done("card assign", card=B, subscriber="anna")
    headend.done("subscription put", subscription="s", card=B, offer="sport")
    assert headend.card(B).hear().opens("sport"), "what was paid can be moved all the same"


def test_a_card_in_stock_that_never_was_assigned_can_be_blacklisted(headend: HandHeadend) -> None:
    headend.done("card blacklist", card=C)
    assert headend.order("card assign", card=C, subscriber="anna")["code"] == "card_blacklisted"
    assert headend.order("card blacklist", card=1500)["code"] == "unknown_card", "another operator's"


def test_a_lost_card_that_is_found_again_opens_again_and_a_stolen_one_does_not(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A)
    headend.done("card report", card=A, condition="lost")
    assert not card.hear().opens("sport")
    headend.done("card reopen", card=A)
    assert card.hear().opens("sport")
    headend.done("card report", card=A, condition="stolen")
    headend.done("card reopen", card=A)
    assert headend.view(A).state == "stolen"
    assert not card.hear().opens("sport")


def test_a_released_card_may_be_anybodys_and_keeps_nothing(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    assert headend.order("card release", card=A)["code"] == "card_has_subscriptions"
    headend.done("subscription end", subscription="s")
    headend.done("card release", card=A)
    assert headend.order("subscription put", subscription="t", card=A, offer="film")["code"] == "card_not_assigned"
    headend.done("card assign", card=A, subscriber="bert")
    view = headend.view(A)
    assert (view.subscriber, view.state, view.rights) == ("bert", "assigned", ())
    assert not headend.card(A).hear().opens("sport")


@pytest.mark.slow
def test_no_operator_moves_anothers_card(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    before = headend.view(A)
    for command, (_, body) in TRIES.items():
        if "replacement" in body:
            body = {"replacement": spell(1500)}
        assert headend.order(command, operator="kaspnet", card=A, **body)["code"] == "unknown_card"
    headend.order("card assign", operator="kaspnet", card=1500, subscriber="carl", rev=1)
    taken = headend.order("card replace", operator="kaspnet", card=1500, replacement=A)
    assert taken["code"] == "unknown_card"
    assert headend.view(A) == before
