"""Commands of card management and their answers (GlobalPlatform Card Specification 2.3 clause 11, Amendment D 7)."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cards.apdu import SHORT_LE_MAX, CommandApdu
from cards.globalplatform.errors import EncodingError, KeyCheckError
from cards.globalplatform.scp03.host import CLA, HostChannel
from cards.globalplatform.scp03.keys import BLOCK, CHECK_VALUE_SIZE, AesKey, StaticKeys
from cards.globalplatform.tlv import decode_tlvs, encode_tlv

INS_SELECT: Final = 0xA4
INS_GET_DATA: Final = 0xCA
INS_PUT_KEY: Final = 0xD8
INS_STORE_DATA: Final = 0xE2
INS_INSTALL: Final = 0xE6
INS_SET_STATUS: Final = 0xF0
INS_GET_STATUS: Final = 0xF2

# GlobalPlatform Card Specification clause 11.11.2: P1 of STORE DATA.
STORE_LAST: Final = 0x80
STORE_ENCRYPTED_GROUPS: Final = 0x20  # application dependent encryption: groups from 8000 on are under Key-DEK
STORE_GROUPS: Final = 0x08

KEY_TYPE_AES: Final = 0x88
PUT_KEY_MULTIPLE: Final = 0x81
KEYS_IN_SET: Final = 3
INSTALL_FOR_PERSONALISATION: Final = 0x20
TAG_KEY_INFORMATION: Final = 0x00E0
TAG_SERIAL: Final = 0x0045
STATUS_AS_TLV: Final = 0x02
_BLOCKS_MAX: Final = 256


class StatusScope(IntEnum):
    """P1 of GET STATUS and SET STATUS (clauses 11.4.2.1 and 11.10.2.1)."""

    CARD = 0x80
    APPLICATION = 0x40


class CardLifeCycle(IntEnum):
    """Life of a card (clause 5.1, table 11-6)."""

    OP_READY = 0x01
    INITIALIZED = 0x07
    SECURED = 0x0F
    CARD_LOCKED = 0x7F
    TERMINATED = 0xFF


class ApplicationLifeCycle(IntEnum):
    """Life of the conditional-access application (clause 5.3.1, table 11-4); LOCKED is the bit set on top."""

    SELECTABLE = 0x07
    PERSONALIZED = 0x0F
    LOCKED_PERSONALIZED = 0x8F


@dataclass(frozen=True, slots=True)
class KeyInformation:
    """One key of the card's key information template (clause 11.3.3.1)."""

    identifier: int
    version: int
    kind: int
    size: int


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One entry of GET STATUS (table 11-36): AID and life cycle state."""

    aid: bytes
    life_cycle: int


@dataclass(frozen=True, slots=True)
class PutKey:
    """PUT KEY and the only answer to it that may be believed."""

    command: CommandApdu
    expected: bytes

    def check(self, answer: bytes) -> None:
        """Compare the echoed version and key check values; raises KeyCheckError when they are not those sent."""
        if not hmac.compare_digest(answer, self.expected):
            raise KeyCheckError("the card echoed other key check values than those of the keys sent")


def select(aid: bytes) -> CommandApdu:
    """SELECT by name; an empty AID selects the card manager (clause 11.9)."""
    return CommandApdu(0x00, INS_SELECT, 0x04, 0x00, aid, SHORT_LE_MAX)


def get_data(tag: int) -> CommandApdu:
    """GET DATA of a tag of at most two bytes (clause 11.3)."""
    return CommandApdu(CLA, INS_GET_DATA, tag >> 8, tag & 0xFF, le=SHORT_LE_MAX)


def decode_key_information(data: bytes) -> list[KeyInformation]:
    """Parse the answer to GET DATA 00E0. Raises EncodingError."""
    found: list[KeyInformation] = []
    for tag, template in decode_tlvs(data):
        if tag != TAG_KEY_INFORMATION:
            raise EncodingError(f"key information has tag E0, not {tag:02X}")
        for inner, value in decode_tlvs(template):
            if inner != 0xC0 or len(value) < 4:
                raise EncodingError("key information holds data objects C0 of at least 4 bytes")
            found.append(KeyInformation(value[0], value[1], value[2], value[3]))
    return found


def encode_key_information(keys: Iterable[KeyInformation]) -> bytes:
    """The answer to GET DATA 00E0."""
    objects = (encode_tlv(0xC0, bytes((key.identifier, key.version, key.kind, key.size))) for key in keys)
    return encode_tlv(TAG_KEY_INFORMATION, b"".join(objects))


def put_keys(channel: HostChannel, replaced: int, keys: StaticKeys) -> PutKey:
    """PUT KEY of a whole set, in one command (Amendment D clause 7.2).

    `replaced` is the version of the set that goes, 0 to add one. Every key is encrypted under Key-DEK of the channel.
    """
    body = bytearray((keys.version,))
    for key in keys.keys:
        wrapped = channel.encrypt_sensitive(key.reveal())
        body += bytes((KEY_TYPE_AES, 1 + len(wrapped), key.size)) + wrapped
        body += bytes((CHECK_VALUE_SIZE,)) + key.check_value()
    command = CommandApdu(CLA, INS_PUT_KEY, replaced, PUT_KEY_MULTIPLE, bytes(body), SHORT_LE_MAX)
    return PutKey(command, bytes((keys.version,)) + b"".join(key.check_value() for key in keys.keys))


def decode_key_blocks(data: bytes, dek: AesKey) -> tuple[int, list[AesKey]]:
    """The card's reading of PUT KEY: new version and the keys, each proven by its check value. Raises EncodingError."""
    if not data:
        raise EncodingError("PUT KEY has no data")
    keys: list[AesKey] = []
    offset = 1
    while offset < len(data):
        block = data[offset:]
        size = block[1] - 1 if len(block) > 2 else -1
        end = 3 + size
        clear = block[2] if size > 0 else 0
        if block[0] != KEY_TYPE_AES or size <= 0 or size % BLOCK or not size - BLOCK < clear <= size:
            raise EncodingError("a key block is not that of an AES key")
        if block[end : end + 1] != bytes((CHECK_VALUE_SIZE,)) or len(block) < end + 1 + CHECK_VALUE_SIZE:
            raise EncodingError("a key block has no key check value")
        key = AesKey(dek.decrypt_cbc(block[3:end])[:clear])
        if not hmac.compare_digest(key.check_value(), block[end + 1 : end + 1 + CHECK_VALUE_SIZE]):
            raise EncodingError("a key does not fit its key check value")
        keys.append(key)
        offset += end + 1 + CHECK_VALUE_SIZE
    return data[0], keys


def install_for_personalisation(aid: bytes) -> CommandApdu:
    """INSTALL [for personalization]: the following STORE DATA are for this application (clause 11.5.2.3.6)."""
    data = b"\x00\x00" + bytes((len(aid),)) + aid + b"\x00\x00\x00"
    return CommandApdu(CLA, INS_INSTALL, INSTALL_FOR_PERSONALISATION, 0x00, data, SHORT_LE_MAX)


def store_data(groups: bytes, block_size: int) -> list[CommandApdu]:
    """STORE DATA of encoded data groups, in numbered blocks; the last says so (clause 11.11)."""
    blocks = [groups[start : start + block_size] for start in range(0, len(groups), block_size)] or [b""]
    if len(blocks) > _BLOCKS_MAX:
        raise EncodingError(f"the data needs {len(blocks)} blocks, STORE DATA counts to {_BLOCKS_MAX}")
    kind = STORE_GROUPS | STORE_ENCRYPTED_GROUPS
    return [
        CommandApdu(
            CLA, INS_STORE_DATA, kind | (STORE_LAST if number == len(blocks) - 1 else 0), number, block, SHORT_LE_MAX
        )
        for number, block in enumerate(blocks)
    ]


def get_status(scope: StatusScope) -> CommandApdu:
    """GET STATUS of all entries of a scope (clause 11.4)."""
    return CommandApdu(CLA, INS_GET_STATUS, scope, STATUS_AS_TLV, b"\x4f\x00", SHORT_LE_MAX)


def decode_status(data: bytes) -> list[RegistryEntry]:
    """Parse the answer to GET STATUS. Raises EncodingError."""
    entries: list[RegistryEntry] = []
    for tag, template in decode_tlvs(data):
        fields = dict(decode_tlvs(template)) if tag == 0xE3 else {}
        aid, state = fields.get(0x4F), fields.get(0x9F70)
        if aid is None or not state:
            raise EncodingError("an entry of GET STATUS has no AID or no life cycle state")
        entries.append(RegistryEntry(aid, state[0]))
    return entries


def encode_status(entries: Iterable[RegistryEntry]) -> bytes:
    """The answer to GET STATUS."""
    return b"".join(
        encode_tlv(0xE3, encode_tlv(0x4F, entry.aid) + encode_tlv(0x9F70, bytes((entry.life_cycle,))))
        for entry in entries
    )


def set_status(scope: StatusScope, state: int, aid: bytes) -> CommandApdu:
    """SET STATUS (clause 11.10)."""
    return CommandApdu(CLA, INS_SET_STATUS, scope, state, aid, SHORT_LE_MAX)
