"""The key ladder: every key is derived when it is needed, none is stored per card or product (D4)."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from emm.errors import BuildError
from emm.ports import MasterKey
from emm.secret import KEY_SIZE, SIV_KEY_SIZE, Secret

MASTER_KEY_SIZE: Final = 32
CARD_KEY_LABEL: Final = b"cad card key"
GROUP_KEY_LABEL: Final = b"cad group key"
GLOBAL_KEY_LABEL: Final = b"cad global key"
PRODUCT_KEY_LABEL: Final = b"cad product key"
PAIRING_KEY_LABEL: Final = b"cad pairing key"
AUDIT_KEY_LABEL: Final = b"cad audit key"
ECM_KEY_LABEL: Final = b"cad ecm key"
EXTRACT_KEY_LABEL: Final = b"cad extract key"

_BLOCK_SIZE: Final = 16
_PRODUCT_KEYS_CACHED: Final = 4096


def derive(prf: Callable[[bytes], bytes], label: bytes, context: bytes, size: int) -> Secret:
    """Return `size` bytes for one purpose: the counter KDF over Label ‖ 0x00 ‖ Context ‖ [L in bits] of 32 bits.

    NIST SP 800-108 revision 1, clause 4. `prf` is AES-CMAC under the key to derive from.
    """
    return counter_kdf(prf, label + b"\x00" + context + (size * 8).to_bytes(4, "big"), size)


def counter_kdf(prf: Callable[[bytes], bytes], fixed_input: bytes, size: int) -> Secret:
    """Return `size` bytes by the KDF in counter mode of NIST SP 800-108 revision 1, clause 4.1.

    The counter has 32 bits, starts at 1 and stands before the fixed input.
    """
    blocks = -(-size // _BLOCK_SIZE)
    return Secret(b"".join([prf(count.to_bytes(4, "big") + fixed_input) for count in range(1, blocks + 1)])[:size])


class LocalMasterKey:
    """A master key held in this process's memory. `secret`: 32 bytes."""

    __slots__ = ("_empty",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != MASTER_KEY_SIZE:
            raise BuildError(f"a master key has {MASTER_KEY_SIZE} bytes, not {len(secret)}")
        self._empty = CMAC(AES(secret))

    def cmac(self, message: bytes) -> bytes:
        """Return AES-256-CMAC of `message`."""
        context = self._empty.copy()
        context.update(message)
        return context.finalize()

    def __repr__(self) -> str:
        return "<LocalMasterKey>"


class KeyLadder:
    """All keys of a headend, derived from one master key.

    Numbers outside of their fields raise `BuildError`.
    """

    def __init__(self, master: MasterKey) -> None:
        self._cmac = master.cmac
        self._product_key = lru_cache(maxsize=_PRODUCT_KEYS_CACHED)(self._derive_product_key)

    def __repr__(self) -> str:
        return "<KeyLadder>"

    def card_key(self, address: int, key_version: int) -> Secret:
        """Return the 32-byte AES-SIV key of one card."""
        context = _field(address, 5, "address") + _field(key_version, 1, "key_version")
        return derive(self._cmac, CARD_KEY_LABEL, context, SIV_KEY_SIZE)

    def group_key(self, group: int, key_version: int) -> Secret:
        """Return the 32-byte AES-SIV key that the 256 cards of a group share."""
        context = _field(group, 4, "group") + _field(key_version, 1, "key_version")
        return derive(self._cmac, GROUP_KEY_LABEL, context, SIV_KEY_SIZE)

    def global_key(self, key_version: int) -> Secret:
        """Return the 32-byte AES-SIV key that all cards of the headend share."""
        return derive(self._cmac, GLOBAL_KEY_LABEL, _field(key_version, 1, "key_version"), SIV_KEY_SIZE)

    def product_key(self, product_id: int, epoch: int) -> Secret:
        """Return the 16-byte key of a product in an epoch."""
        return self._product_key(product_id, epoch)

    def pairing_key(self, receiver: int) -> Secret:
        """Return the 32-byte key of one receiver (`protocol.receiver_number`), from which `emm.pairing` goes on."""
        return derive(self._cmac, PAIRING_KEY_LABEL, _field(receiver, 8, "receiver"), SIV_KEY_SIZE)

    def audit_key(self) -> Secret:
        """Return the 32-byte key that seals the audit chain."""
        return derive(self._cmac, AUDIT_KEY_LABEL, b"", SIV_KEY_SIZE)

    def extract_key(self) -> Secret:
        """Return the 32-byte seed of the Ed25519 key that signs extracts for technicians (RFC 8032)."""
        return derive(self._cmac, EXTRACT_KEY_LABEL, b"", SIV_KEY_SIZE)

    def _derive_product_key(self, product_id: int, epoch: int) -> Secret:
        context = _field(product_id, 2, "product_id") + _field(epoch, 2, "epoch")
        return derive(self._cmac, PRODUCT_KEY_LABEL, context, KEY_SIZE)


def _field(value: int, size: int, name: str) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise BuildError(f"{name} {value} does not fit {size} bytes") from None
