"""C6: the PIN of a card is reset just once for each command, and its parental level is what was ordered."""

import pytest

from cards.errors import PinError
from emm.plan import Right
from tests.support.hand_headend import NUMBERS, HandHeadend, Viewer

A, B = NUMBERS[:2]


def takes(card: Viewer, pin: str) -> bool:
    """Whether that is the card's PIN now."""
    try:
        card.session.give_pin(pin)
    except PinError:
        return False
    return True


@pytest.mark.slow
def test_c06_a_forgotten_pin_is_reset_once_and_the_new_one_stays(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    card.session.change_pin("0000", "4711")
    reply = headend.done("card pin-reset", card=A)
    assert reply["card"] == A
    assert takes(card, "4711"), "not heard yet"
    assert takes(card.hear(), "0000")
    card.session.change_pin("0000", "1234")
    headend.crash()
    headend.done("card refresh", card=A)
    headend.done("subscription put", subscription="t", card=A, offer="film")
    headend.go_to(headend.calendar.rights_end(headend.calendar.period(headend.now)))
    assert takes(card.hear(), "1234"), "neither repeats nor later EMMs nor the renewal reset it again"
    headend.done("card pin-reset", card=A)
    assert takes(card.hear(), "0000"), "another command does"


def test_c06_a_reset_that_was_ordered_while_the_card_was_off_is_heard_later(headend: HandHeadend) -> None:
    card = headend.card(A).hear()
    card.session.change_pin("0000", "4711")
    for _ in range(2):
        headend.done("card pin-reset", card=A)
    headend.done("card suspend", card=A)
    assert takes(card.hear(), "0000"), "on a suspended card too"


def test_c06_a_reset_after_a_backup_was_put_back_is_a_new_one(headend: HandHeadend) -> None:
    card = headend.card(A)
    headend.done("card pin-reset", card=A)
    card.hear().session.change_pin("0000", "4711")
    taken = card.session.read_info().access.pin_reset
    headend.store.after_restore("test", float(headend.now))
    headend.done("card pin-reset", card=A)
    assert headend.view(A).traits.pin_reset > taken
    assert takes(card.hear(), "0000")


def test_c06_whoever_gets_the_card_next_finds_the_factorys_pin_and_no_level(headend: HandHeadend) -> None:
    headend.done("card parental", card=A, level=12)
    card = headend.card(A).hear()
    card.session.change_pin("0000", "4711")
    headend.done("card release", card=A)
    headend.done("card assign", card=A, subscriber="bert")
    assert takes(card.hear(), "0000")
    assert card.session.read_info().access.parental == 0


@pytest.mark.slow
def test_c06_the_parental_level_is_on_the_card_and_goes_with_a_replacement(headend: HandHeadend) -> None:
    card, new = headend.card(A), headend.card(B)
    for level in (12, 18, 0, 4):
        headend.done("card parental", card=A, level=level)
        assert card.hear().session.read_info().access.parental == level
    before = headend.view(A).revision
    headend.done("card parental", card=A, level=4)
    assert headend.view(A).revision == before, "it was so already"
    headend.crash()
    headend.done("card replace", card=A, replacement=B)
    assert new.hear().session.read_info().access.parental == 4


@pytest.mark.parametrize("command", ["card pin-reset", "card parental"])
def test_c06_a_card_that_nobody_has_is_refused(headend: HandHeadend, command: str) -> None:
    more = {} if command == "card pin-reset" else {"level": 12}
    assert headend.order(command, card=B, **more)["code"] == "unknown_card"
    assert headend.order(command, card=A, operator="kaspnet", **more)["code"] == "unknown_card"
    assert headend.order(command, card=A, rev=0, **more)["code"] == "stale_rev"
    headend.done("card report", card=A, condition="lost")
    assert headend.order(command, card=A, **more)["code"] == "card_state"


def test_c06_rights_stay_as_they_are(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    rights = headend.view(A).rights
    assert [type(one) for one in rights] == [Right]
    headend.done("card parental", card=A, level=7)
    headend.done("card pin-reset", card=A)
    assert headend.view(A).rights == rights
    assert headend.card(A).hear().opens("sport")
