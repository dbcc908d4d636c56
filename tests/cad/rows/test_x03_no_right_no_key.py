"""X3: what a card does not have a right to it has no key for, whatever its software does: its memory is searched."""

import pytest

from cad.ledger.model import DAY_S
from protocol.portal.fields import spell_moment
from tests.support.hand_headend import NUMBERS, PRODUCTS, HandHeadend, Viewer

A, B = NUMBERS[:2]
AROUND = range(-3, 4)


def keys_held(headend: HandHeadend, card: Viewer) -> dict[str, list[int]]:
    """Products whose keys are anywhere in the card's memory: for which epochs, counted from the present one."""
    (file,) = headend.folder.glob(f"card-{card.address}-*")
    memory = file.read_text().lower()  # keys stand there in hexadecimal
    now = headend.calendar.epoch(float(headend.now))
    found: dict[str, list[int]] = {}
    for slug, product_id in PRODUCTS.items():
        for turn in AROUND:
            if bytes(headend.ladder.product_key(product_id, now + turn)).hex() in memory:
                found.setdefault(slug, []).append(turn)
    return found


def test_x03_a_card_has_keys_of_what_was_ordered_for_it_and_of_nothing_else(headend: HandHeadend) -> None:
    headend.done("card assign", card=B, subscriber="bert")
    headend.done("subscription put", subscription="s-1", card=A, offer="sport")
    headend.done("subscription put", subscription="s-2", card=A, offer="basic")
    card, other = headend.card(A).hear(), headend.card(B).hear()
    assert {*keys_held(headend, card)} == {"sport", "basic"}
    assert keys_held(headend, other) == {}


@pytest.mark.slow
def test_x03_a_key_comes_with_the_right_and_no_earlier_than_it_must(headend: HandHeadend) -> None:
    start = headend.now + 40 * DAY_S
    headend.done("subscription put", subscription="s", card=A, offer="sport", starts_at=spell_moment(start))
    card = headend.card(A).hear()
    assert keys_held(headend, card) == {}
    headend.go_to(start - 8 * DAY_S)
    assert keys_held(headend, card.hear()) == {}, "sent ahead by one period and a day at the most"
    headend.go_to(start)
    assert keys_held(headend, card.hear())["sport"][0] == 0


def test_x03_a_suspended_card_that_hears_has_no_key_left(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    assert "sport" in keys_held(headend, card)
    headend.done("card suspend", card=A)
    assert keys_held(headend, card.hear()) == {}


def test_x03_a_card_whose_emms_are_blocked_gets_no_key_of_the_next_epochs(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    headend.done("subscription end", subscription="s")
    newest = headend.calendar.epoch(float(headend.now)) + max(keys_held(headend, card)["sport"])
    headend.go_to(int(headend.calendar.epoch_end(newest)) + DAY_S)
    assert all(turn < 0 for turn in keys_held(headend, card)["sport"]), "it never heard that it has ended"
    assert keys_held(headend, card.hear()) == {}


def test_x03_who_has_chosen_out_of_a_mix_has_no_key_of_the_rest(headend: HandHeadend) -> None:
    names = {"fi": "kaksi"}
    headend.done("offer put", offer="mix", kind="mix", names=names, products=["basic", "sport", "film"], choose=2)
    headend.done("subscription put", subscription="m", card=A, offer="mix", choice=["film", "basic"])
    assert {*keys_held(headend, headend.card(A).hear())} == {"basic", "film"}
