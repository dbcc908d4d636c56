"""A card that serves one receiver: sealed control words, who can open them, and what everybody else is told."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.application import CardApplication
from cards.errors import CardReplyError, CardsError, PairedError
from cards.memory.state_file import decode, encode
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.message import EmmHeader, EmmKind, Version, build_head
from emm.payload import CardState, EmmPayload, build_payload
from emm.plan import Right
from emm.secret import Secret
from emm.traits import PairingBlock, Traits
from protocol import receiver_number
from tests.support.cards import (
    ADDRESS,
    KEYS,
    OTHER_LADDER,
    PERIOD,
    WORDS,
    MemoryStorage,
    blank_card,
    ecm,
    emm,
    receiver,
)

HOME, NEIGHBOUR = receiver(1), receiver(2)
PAIRED = Traits(HOME.number)


def told(
    card: CardApplication, *rights: Right, revision: int = 1, traits: Traits = PAIRED, suspended: bool = False
) -> CardApplication:
    session = CardSession(card.process)
    for section in emm(*rights, revision=revision, traits=traits, suspended=suspended):
        session.process_emm(section)
    return card


def test_a_paired_card_opens_in_its_receiver_and_says_which_it_is() -> None:
    session = CardSession(told(blank_card(), Right(3, 0)).process, receiver=HOME)
    assert session.process_ecm(ecm(3)).words == WORDS
    assert session.process_ecm(ecm(3, words=WORDS[:1])).words == WORDS[:1]
    assert session.process_ecm(ecm(3, words=[word * 2 for word in WORDS])).words == tuple(word * 2 for word in WORDS)
    assert session.read_info().receiver == HOME.number


def test_in_another_receiver_it_stays_closed_and_both_numbers_are_told() -> None:
    card = told(blank_card(), Right(3, 0))
    home, other = receiver_number.spell(HOME.number), receiver_number.spell(NEIGHBOUR.number)
    with pytest.raises(PairedError, match=f"paired with receiver {home}, not with this one, {other}") as caught:
        CardSession(card.process, receiver=NEIGHBOUR).process_ecm(ecm(3))
    assert caught.value.receiver == home
    with pytest.raises(PairedError, match=f"paired with receiver {home}, and this is no receiver"):
        CardSession(card.process).process_ecm(ecm(3))


def test_a_receiver_of_another_headend_that_calls_itself_the_same_does_not_open_it() -> None:
    stranger = receiver(1, OTHER_LADDER)
    assert stranger.number == HOME.number
    with pytest.raises(PairedError, match="under another key"):
        CardSession(told(blank_card(), Right(3, 0)).process, receiver=stranger).process_ecm(ecm(3))


def test_no_control_word_crosses_the_contact_of_a_paired_card_in_clear() -> None:
    crossed: list[bytes] = []
    card = told(blank_card(), Right(3, 0))

    def transmit(command: bytes) -> bytes:
        crossed.append(card.process(command))
        return crossed[-1]

    assert CardSession(transmit, receiver=HOME).process_ecm(ecm(3)).words == WORDS
    key = HOME.pair_key(ADDRESS)
    assert not any(secret in answer for answer in crossed for secret in (*WORDS, key, HOME.pairing_key))
    assert CardSession(transmit, receiver=HOME).read_info().receiver == HOME.number
    assert not any(key in answer for answer in crossed)


def test_unpaired_or_paired_anew_it_follows_its_emm() -> None:
    card = told(blank_card(), Right(3, 0))
    assert CardSession(told(card, Right(3, 0), revision=2, traits=Traits()).process).process_ecm(ecm(3)).words == WORDS
    told(card, Right(3, 0), revision=3, traits=Traits(NEIGHBOUR.number))
    assert CardSession(card.process, receiver=NEIGHBOUR).process_ecm(ecm(3)).words == WORDS
    with pytest.raises(PairedError):
        CardSession(card.process, receiver=HOME).process_ecm(ecm(3))


def test_an_answer_cannot_be_played_to_the_receiver_for_another_ecm() -> None:
    card = told(blank_card(), Right(3, 0))
    kept: list[bytes] = []

    def replaying(command: bytes) -> bytes:
        answer = card.process(command)
        if command[:2] == b"\x80\x32":
            kept.append(answer)
            return kept[0]
        return answer

    session = CardSession(replaying, receiver=HOME)
    assert session.process_ecm(ecm(3)).words == WORDS
    with pytest.raises(PairedError):
        session.process_ecm(ecm(3, words=WORDS[::-1]))


def test_a_suspended_card_stays_paired_and_a_refusal_is_not_sealed() -> None:
    card = told(blank_card(), Right(3, 0), suspended=True)
    session = CardSession(card.process, receiver=HOME)
    assert session.read_info().receiver == HOME.number
    with pytest.raises(CardsError) as caught:
        session.process_ecm(ecm(3))
    assert getattr(caught.value, "sw", None) == StatusWord.SUSPENDED


def test_the_pairing_outlives_power_and_the_state_file_of_a_card_that_was_never_paired_is_as_before() -> None:
    storage = MemoryStorage()
    told(blank_card(storage), Right(3, 0))
    again = CardApplication(MemoryStorage(decode(encode(storage.memory))))
    assert CardSession(again.process, receiver=HOME).process_ecm(ecm(3)).words == WORDS


@pytest.mark.parametrize("parts", [1, 2])
def test_an_emm_that_says_two_pairings_is_not_understood(parts: int) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    block = PairingBlock(HOME.number, HOME.pair_key(ADDRESS))
    card = blank_card()
    session = CardSession(card.process)
    plain = build_payload(EmmKind.UNIQUE, EmmPayload(CardState.ACTIVE, (block,)))
    if parts == 1:
        plain = plain[:1] + b"\x02" + plain[2:] * 2
    words = []
    for part in range(parts):
        header = EmmHeader(EmmKind.UNIQUE, ADDRESS, 1, Version(PERIOD, 1), part, parts - 1)
        head = build_head(header, len(plain))
        section = head + AESSIV(KEYS.card_key).encrypt(plain, [head])
        words.append(card.process(bytes((0x80, 0x30, section[0], 0, len(section) - 1)) + section[1:])[-2:].hex())
    assert words == ["9106"] if parts == 1 else ["9101", "9106"]
    assert session.read_info().receiver is None


def scripted(pairing: str, answer: str) -> CardSession:
    """A session with a card that answers PROCESS ECM so, and says that of its pairing."""
    said = {b"\x00\xa4": "9000", b"\x80\x32": answer, b"\x80\xca": pairing}
    return CardSession(lambda command: bytes.fromhex(said[command[:2]]), receiver=HOME)


def test_a_card_that_contradicts_itself_is_reported() -> None:
    with pytest.raises(CardReplyError, match="not paired"):
        scripted("9000", "28" + 32 * "00" + "9000").process_ecm(ecm(3))
    with pytest.raises(CardReplyError, match="not paired"):
        scripted(f"{HOME.number:016x}9000", "28009000").process_ecm(ecm(3))
    with pytest.raises(CardReplyError, match="does not exist"):
        scripted("00000000000000019000", "28" + 32 * "00" + "9000").process_ecm(ecm(3))
    with pytest.raises(CardReplyError, match="PAIRING cannot be read"):
        scripted("00019000", "28" + 32 * "00" + "9000").process_ecm(ecm(3))


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_whatever_a_card_answers_to_an_ecm_is_words_or_an_error(answer: bytes) -> None:
    paired = told(blank_card(), Right(3, 0))

    def transmit(command: bytes) -> bytes:
        return answer + b"\x90\x00" if command[:2] == b"\x80\x32" else paired.process(command)

    session = CardSession(transmit, receiver=replace(HOME, pairing_key=Secret(bytes(32))))
    try:
        found = session.process_ecm(ecm(3))
    except CardsError:
        return
    assert 1 <= len(found.words) <= 2
