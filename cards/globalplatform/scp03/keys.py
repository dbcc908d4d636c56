"""Keys of SCP03 and what derives from them: GlobalPlatform Card Specification 2.3, Amendment D 1.2, clauses 4 and 6."""

import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NoReturn

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from cards.globalplatform.errors import KeyFormatError

BLOCK: Final = 16
ZERO_BLOCK: Final = bytes(BLOCK)
KEY_SIZES: Final = (16, 24, 32)
CHECK_VALUE_SIZE: Final = 3
SEQUENCE_COUNTER_SIZE: Final = 3
VERSION_MAX: Final = 0x7F
INITIAL_VERSION: Final = 0xFF


class Mode(IntEnum):
    """Amendment D clause 5.1: bytes of challenges, cryptograms and MACs. S16 is bit 1 of the parameter i."""

    S8 = 8
    S16 = 16


class SecurityLevel(IntEnum):
    """P1 of EXTERNAL AUTHENTICATE (Amendment D table 7-5): how commands and responses of the session are protected."""

    AUTHENTICATED_ONLY = 0x00
    C_MAC = 0x01
    C_MAC_C_ENC = 0x03
    C_MAC_R_MAC = 0x11
    C_MAC_C_ENC_R_MAC = 0x13
    C_MAC_C_ENC_R_MAC_R_ENC = 0x33

    @property
    def command_mac(self) -> bool:
        """Commands carry a MAC."""
        return bool(self & 0x01)

    @property
    def command_encryption(self) -> bool:
        """Data of commands is encrypted."""
        return bool(self & 0x02)

    @property
    def response_mac(self) -> bool:
        """Responses carry a MAC."""
        return bool(self & 0x10)

    @property
    def response_encryption(self) -> bool:
        """Data of responses is encrypted."""
        return bool(self & 0x20)


class Derivation(IntEnum):
    """Amendment D table 4-1: data derivation constants."""

    CARD_CRYPTOGRAM = 0x00
    HOST_CRYPTOGRAM = 0x01
    CARD_CHALLENGE = 0x02
    S_ENC = 0x04
    S_MAC = 0x06
    S_RMAC = 0x07


class AesKey:
    """An AES key whose bytes show in no repr, format, pickle or comparison time. A wrong size raises KeyFormatError."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) not in KEY_SIZES:
            raise KeyFormatError(f"an AES key has 16, 24 or 32 bytes, not {len(secret)}")
        self._secret = bytes(secret)

    def __repr__(self) -> str:
        return f"<AES-{self.bits} key>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AesKey) and hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are not pickled")

    @property
    def size(self) -> int:
        """Bytes of the key."""
        return len(self._secret)

    @property
    def bits(self) -> int:
        """Bits of the key."""
        return 8 * len(self._secret)

    def reveal(self) -> bytes:
        """The key itself: for wrapping it under another key and for the card's own memory, nothing else."""
        return self._secret

    def cmac(self, message: bytes) -> bytes:
        """AES-CMAC of `message`, all 16 bytes (SP 800-38B)."""
        mac = CMAC(algorithms.AES(self._secret))
        mac.update(message)
        return mac.finalize()

    def encrypt_block(self, block: bytes) -> bytes:
        """One block of 16 bytes under the bare cipher."""
        encryptor = Cipher(algorithms.AES(self._secret), modes.ECB()).encryptor()  # noqa: S305 -- one block only
        return encryptor.update(block) + encryptor.finalize()

    def encrypt_cbc(self, data: bytes, initial: bytes = ZERO_BLOCK) -> bytes:
        """CBC without padding; `data` is whole blocks."""
        encryptor = Cipher(algorithms.AES(self._secret), modes.CBC(initial)).encryptor()
        return encryptor.update(data) + encryptor.finalize()

    def decrypt_cbc(self, data: bytes, initial: bytes = ZERO_BLOCK) -> bytes:
        """CBC without padding; `data` is whole blocks."""
        decryptor = Cipher(algorithms.AES(self._secret), modes.CBC(initial)).decryptor()
        return decryptor.update(data) + decryptor.finalize()

    def check_value(self) -> bytes:
        """Key check value of an AES key: first three bytes of the block of 01s encrypted (Card Specification B.6)."""
        return self.encrypt_block(b"\x01" * BLOCK)[:CHECK_VALUE_SIZE]


@dataclass(frozen=True, slots=True)
class StaticKeys:
    """One key set of a card manager: Key-ENC, Key-MAC, Key-DEK of one length, under a version 1..7F, or FF at birth.

    Card Specification clause 11.8.2.1: PUT KEY names versions 1..7F; FF is the version of a chip's initial keys.
    """

    version: int
    enc: AesKey
    mac: AesKey
    dek: AesKey

    def __post_init__(self) -> None:
        if not 1 <= self.version <= VERSION_MAX and self.version != INITIAL_VERSION:
            raise KeyFormatError(f"the version of a key set is 01..7F or FF, not {self.version:02X}")
        if not self.enc.size == self.mac.size == self.dek.size:
            raise KeyFormatError("the three keys of a set have the same length")

    @property
    def keys(self) -> tuple[AesKey, AesKey, AesKey]:
        """The keys in the order of their identifiers 1, 2, 3."""
        return self.enc, self.mac, self.dek


def counter_kdf(key: AesKey, before: bytes, after: bytes, bits: int) -> bytes:
    """SP 800-108 counter mode, PRF AES-CMAC, an 8-bit counter between the two parts of the fixed input."""
    size = bits // 8
    blocks = (key.cmac(before + bytes((i,)) + after) for i in range(1, -(-size // BLOCK) + 1))
    return b"".join(blocks)[:size]


def derive(key: AesKey, constant: Derivation, context: bytes, bits: int) -> bytes:
    """Amendment D clause 4.1.5: 11 zero bytes, constant, separator 00, L in bits, counter, context."""
    return counter_kdf(key, bytes(11) + bytes((constant, 0)) + bits.to_bytes(2, "big"), context, bits)


def pseudo_random_challenge(key_enc: AesKey, sequence_counter: int, aid: bytes, mode: Mode) -> bytes:
    """Amendment D clause 6.2.2.1: the card challenge that counter and AID of the security domain give."""
    context = sequence_counter.to_bytes(SEQUENCE_COUNTER_SIZE, "big") + aid
    return derive(key_enc, Derivation.CARD_CHALLENGE, context, 8 * mode)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """S-ENC, S-MAC, S-RMAC and the two cryptograms of one session."""

    mode: Mode
    enc: AesKey
    mac: AesKey
    rmac: AesKey
    context: bytes

    @classmethod
    def derive(cls, static: StaticKeys, host_challenge: bytes, card_challenge: bytes) -> "SessionKeys":
        """Amendment D clause 6.2.1. The challenges have the length of the mode, both the same."""
        if len(host_challenge) != len(card_challenge):
            raise KeyFormatError("host and card challenge have the same length")
        context = host_challenge + card_challenge
        return cls(
            Mode(len(host_challenge)),
            AesKey(derive(static.enc, Derivation.S_ENC, context, static.enc.bits)),
            AesKey(derive(static.mac, Derivation.S_MAC, context, static.mac.bits)),
            AesKey(derive(static.mac, Derivation.S_RMAC, context, static.mac.bits)),
            context,
        )

    def card_cryptogram(self) -> bytes:
        """What proves the card's knowledge of the keys (clause 6.2.2.2)."""
        return derive(self.mac, Derivation.CARD_CRYPTOGRAM, self.context, 8 * self.mode)

    def host_cryptogram(self) -> bytes:
        """What proves the host's knowledge of the keys (clause 6.2.2.3)."""
        return derive(self.mac, Derivation.HOST_CRYPTOGRAM, self.context, 8 * self.mode)
