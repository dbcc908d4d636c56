"""S18, C6: one card, one home: a card is paired with a receiver and opens in no other, until it is unpaired."""

import re

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend

A, B, C = NUMBERS[:3]
DIGITS = re.compile(r"[0-9A-F]{16}")


def test_s18_a_paired_card_opens_in_its_receiver_and_in_no_other(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A, receiver=1).hear()
    assert card.opens("sport")
    assert card.put_into(2).opens("sport"), "not paired: as ever"
    reply = headend.done("card pair", card=A, receiver=card.put_into(1).receiver)
    assert (reply["card"], headend.view(A).traits.receiver) == (A, int(card.receiver, 16))
    assert card.put_into(1).hear().opens("sport")
    assert not card.put_into(2).opens("sport"), "the neighbour's"
    headend.done("card unpair", card=A)
    assert card.hear().opens("sport")


def test_s18_it_outlives_a_crash_a_block_and_the_renewal(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A)
    headend.done("card pair", card=A, receiver=card.receiver)
    headend.crash()
    headend.done("card suspend", card=A)
    assert card.hear().session.read_info().receiver == int(card.receiver, 16), "suspended, and paired still"
    headend.done("card reopen", card=A)
    headend.go_to(headend.calendar.rights_end(headend.calendar.period(headend.now)))
    assert card.hear().opens("sport")
    assert not card.put_into(2).opens("sport")


def test_s18_the_card_that_stands_in_is_paired_with_the_same_receiver(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    old = headend.card(A)
    headend.done("card pair", card=A, receiver=old.receiver)
    headend.done("card replace", card=A, replacement=B)
    new = headend.card(B, receiver=1).hear()
    assert new.opens("sport")
    assert not new.put_into(2).opens("sport")
    assert headend.view(A).traits.receiver is None
    # A card that was paired beforehand keeps its own receiver.
    headend.done("card assign", card=C, subscriber="anna")
    third = headend.card(C, receiver=3)
    headend.done("card pair", card=C, receiver=third.receiver)
    headend.done("card replace", card=B, replacement=C)
    assert third.hear().opens("sport")
    assert not third.put_into(1).opens("sport")


def test_s18_whoever_gets_the_card_next_is_not_bound_to_the_old_home(headend: HandHeadend) -> None:
    for give_back in ("return", "release"):
        headend.order("card assign", card=A, subscriber="anna")
        headend.done("card pair", card=A, receiver=headend.card(A).receiver)
        headend.done(f"card {give_back}", card=A)
        assert headend.view(A).traits.receiver is None
        if give_back == "return":
            headend.done("card release", card=A)
    assert headend.card(A).hear().session.read_info().receiver is None


def test_s18_what_cannot_be_paired_is_refused_and_what_is_so_already_sends_nothing(headend: HandHeadend) -> None:
    receiver = headend.card(A).receiver
    assert headend.order("card pair", card=B, receiver=receiver)["code"] == "unknown_card"
    assert headend.order("card pair", card=A, receiver=receiver, operator="kaspnet")["code"] == "unknown_card"
    before = headend.view(A).revision
    headend.done("card unpair", card=A)
    headend.done("card pair", card=A, receiver=receiver)
    headend.done("card pair", card=A, receiver=receiver.lower())
    assert headend.view(A).revision == before + 1
    assert headend.order("card pair", card=A, receiver=receiver, rev=0)["code"] == "stale_rev"
    headend.done("card report", card=A, condition="lost")
    assert headend.order("card unpair", card=A)["code"] == "card_state"
    headend.done("card replace", card=A, replacement=B)
    headend.done("card return", card=A)
    headend.done("card release", card=A)
    assert headend.order("card pair", card=A, receiver=receiver)["code"] == "card_not_assigned"


@pytest.mark.slow
def test_s18_the_number_of_the_receiver_is_recorded_and_the_key_nowhere(headend: HandHeadend) -> None:
    card = headend.card(A)
    headend.done("card pair", card=A, receiver=card.receiver)
    number = int(card.receiver, 16)
    secrets = (headend.ladder.pairing_key(number), card.hear().card.memory.pairing.key)  # type: ignore[union-attr]
    headend.close()
    written = b"".join(path.read_bytes() for path in (headend.folder / "ledger").iterdir())
    headend.crash()
    assert card.receiver.encode() in written
    assert not any(form in written for key in secrets for form in (bytes(key), key.hex().encode()))
    assert DIGITS.fullmatch(card.receiver)
