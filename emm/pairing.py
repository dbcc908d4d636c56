"""Card and receiver as a pair: control words leave the card sealed for one receiver. docs/card.md in prose. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from emm.errors import AuthenticationError, BuildError
from emm.keys import LocalMasterKey, derive
from emm.secret import KEY_SIZE, SIV_KEY_SIZE, Secret
from protocol import receiver_number

PAIR_KEY_LABEL: Final = b"cad pair key"
WORDS_KEY_LABEL: Final = b"cad sealed words"
SEALED: Final = 0x08
"""Bit of the word info that precedes control words which are sealed."""


@dataclass(frozen=True, slots=True)
class ReceiverIdentity:
    """What a receiver is born with: its number, and its pairing key of 32 bytes, which it never gives out."""

    number: int
    pairing_key: Secret = field(repr=False)

    def __post_init__(self) -> None:
        if not receiver_number.is_number(self.number):
            raise BuildError("a receiver's number ends in its check byte")
        if len(self.pairing_key) != SIV_KEY_SIZE:
            raise BuildError(f"a pairing key has {SIV_KEY_SIZE} bytes")

    def pair_key(self, address: int) -> Secret:
        """Return the key that this receiver shares with the card of that address."""
        return pair_key(self.pairing_key, address)


def pair_key(pairing_key: Secret, address: int) -> Secret:
    """Return the 16-byte key of one receiver with one card: KDF with AES-256-CMAC under the receiver's pairing key."""
    return derive(LocalMasterKey(pairing_key).cmac, PAIR_KEY_LABEL, address.to_bytes(5, "big"), KEY_SIZE)


def seal_words(key: Secret, word_info: int, ecm_tag: bytes, words: Sequence[bytes]) -> bytes:
    """Return word info with `SEALED`, tag and ciphertext: what a paired card answers to an ECM with that tag.

    `key`: of the pair. AES-SIV as of EMMs, with word info and the ECM's tag as the one string of associated data.
    """
    info = bytes((word_info | SEALED,))
    return info + _siv(key).encrypt(b"".join(words), [info + ecm_tag])


def open_words(key: Secret, answer: bytes, ecm_tag: bytes) -> bytes:
    """Return the control words in a paired card's answer to the ECM with that tag, one after another.

    Raises AuthenticationError when it was sealed for another receiver, or is not an answer to this ECM.
    """
    try:
        return Secret(_siv(key).decrypt(answer[1:], [answer[:1] + ecm_tag]))
    except (InvalidTag, ValueError):  # too short to hold a tag
        raise AuthenticationError("the control words were not sealed for this receiver") from None


def _siv(key: Secret) -> AESSIV:
    def prf(message: bytes) -> bytes:
        mac = CMAC(AES(key))
        mac.update(message)
        return mac.finalize()

    return AESSIV(derive(prf, WORDS_KEY_LABEL, b"", SIV_KEY_SIZE))
