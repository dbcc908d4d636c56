"""INTERNAL AUTHENTICATE: only the card with the card key answers, and each answer fits one challenge."""

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from cards.apdu import CommandApdu
from cards.authentication import authentication_key, is_proof, proof
from cards.errors import CardRefusedError, CardReplyError
from cards.memory.contents import CardKeys, CardMemory
from cards.session import CardSession
from tests.support.cards import ADDRESS, KEYS, OTHER_LADDER, MemoryStorage, blank_card

CHALLENGE = bytes(range(16))


def test_the_key_is_what_cryptographys_kdf_makes_of_the_card_key() -> None:
    kdf = KBKDFCMAC(
        algorithm=AES,
        mode=Mode.CounterMode,
        length=16,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=b"cad card authentication",
        context=b"",
        fixed=None,
    )
    key = kdf.derive(KEYS.card_key)
    assert authentication_key(KEYS.card_key) == key
    mac = CMAC(AES(key))
    mac.update(bytes.fromhex("01") + (12_345_678_901).to_bytes(5, "big") + b"\x01" + CHALLENGE)
    assert CardSession(blank_card().process).authenticate(CHALLENGE) == mac.finalize()


def test_a_card_with_another_key_another_number_or_another_challenge_does_not_prove_it() -> None:
    answer = CardSession(blank_card().process).authenticate(CHALLENGE)
    assert is_proof(KEYS.card_key, ADDRESS, 1, CHALLENGE, answer)
    assert not is_proof(KEYS.card_key, ADDRESS + 1, 1, CHALLENGE, answer)
    assert not is_proof(KEYS.card_key, ADDRESS, 2, CHALLENGE, answer)
    assert not is_proof(KEYS.card_key, ADDRESS, 1, bytes(16), answer)
    clone = blank_card(MemoryStorage(CardMemory(ADDRESS, CardKeys.derive(OTHER_LADDER, ADDRESS))))
    assert not is_proof(KEYS.card_key, ADDRESS, 1, CHALLENGE, CardSession(clone.process).authenticate(CHALLENGE))


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_a_challenge_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(CardRefusedError) as refused:
        CardSession(blank_card().process).authenticate(bytes(size))
    assert refused.value.sw == 0x6700


@pytest.mark.parametrize(("cla", "p1", "p2", "sw"), [(0x80, 0, 0, "6E00"), (0, 1, 0, "6A86"), (0, 0, 1, "6A86")])
def test_class_and_parameters_are_checked(cla: int, p1: int, p2: int, sw: str) -> None:
    card = blank_card()
    CardSession(card.process)
    assert card.process(CommandApdu(cla, 0x88, p1, p2, CHALLENGE, 256).encode()).hex().upper() == sw


def test_nothing_is_proved_before_the_application_is_selected() -> None:
    assert blank_card().process(CommandApdu(0, 0x88, 0, 0, CHALLENGE, 256).encode()).hex() == "6985"


def test_an_answer_of_another_length_is_no_proof() -> None:
    def liar(command: bytes) -> bytes:
        return b"\x90\x00" if command[1] == 0xA4 else bytes(8) + b"\x90\x00"

    with pytest.raises(CardReplyError, match="8 bytes instead of 16"):
        CardSession(liar).authenticate(CHALLENGE)


def test_the_authentication_key_does_not_show_and_is_not_the_card_key() -> None:
    key = authentication_key(KEYS.card_key)
    assert "secret" in repr(key)
    assert key not in (KEYS.card_key[:16], KEYS.card_key[16:])
    assert proof(KEYS.card_key, ADDRESS, 1, CHALLENGE) != key
