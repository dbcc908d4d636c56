"""How a card proves that it holds its card key (INTERNAL AUTHENTICATE). docs/card.md is the same in prose. Pure."""

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from emm.keys import LocalMasterKey, derive
from emm.secret import KEY_SIZE, Secret

CHALLENGE_SIZE: Final = 16
PROOF_SIZE: Final = 16
LABEL: Final = b"cad card authentication"
_PURPOSE: Final = b"\x01"


def authentication_key(card_key: Secret) -> Secret:
    """The 16-byte AES key for proofs: the KDF of emm.md with AES-256-CMAC under the card key, empty context.

    No other use of the card key is with AES-256, and nothing else is made under this key.
    """
    return derive(LocalMasterKey(card_key).cmac, LABEL, b"", KEY_SIZE)


def proof(card_key: Secret, address: int, key_version: int, challenge: bytes) -> bytes:
    """What the card answers to `challenge`, 16 bytes.

    AES-CMAC of 01 ‖ address (5) ‖ key version (1) ‖ challenge (16) under the authentication key.
    """
    mac = CMAC(AES(authentication_key(card_key)))
    mac.update(_PURPOSE + address.to_bytes(5, "big") + bytes((key_version,)) + challenge)
    return mac.finalize()


def is_proof(card_key: Secret, address: int, key_version: int, challenge: bytes, answer: bytes) -> bool:
    """Whether `answer` is the card's proof; compared in constant time."""
    return hmac.compare_digest(proof(card_key, address, key_version, challenge), answer)
