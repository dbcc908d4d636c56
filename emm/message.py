"""The EMM on the air: its header and its payload, each declared once. docs/emm.md is the same in prose."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from construct import (
    Bytes,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Struct,
    Terminated,
)

from emm.errors import BuildError, DecodeError
from protocol import card_number

# ETR 289, CA_message_section: a short section of at most 256 bytes, no CRC.
SECTION_MAX: Final = 256
EMM_MAX: Final = 255
"""What we make: receivers that hand EMMs on with a length of one byte lose one of 256. What is read may have 256."""
SECTION_HEAD_SIZE: Final = 3
SHORT_SECTION: Final = 0x7000
"""section_syntax_indicator 0, reserved bits 1; or this with the 12-bit section_length."""

FORMAT: Final = 1
"""Of EMMs that state the whole truth of a card."""
NOTICE_FORMAT: Final = 2
"""Of EMMs that bring something to show (`emm.notices`)."""
FORMATS: Final = (FORMAT, NOTICE_FORMAT)
TAG_SIZE: Final = 16
ADDRESS_MAX: Final = card_number.ADDRESS_MAX
PARTS_MAX: Final = 16


class EmmKind(IntEnum):
    """The table_id says to whom an EMM speaks (D3)."""

    UNIQUE = 0x82
    GROUP = 0x84
    GLOBAL = 0x88


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """Version of what is said to one address, compared period first (D2)."""

    period: int
    revision: int


@dataclass(frozen=True, slots=True)
class EmmHeader:
    """All that an EMM says in clear.

    `address`: card address (UNIQUE), card address without its last byte (GROUP), 0 (GLOBAL).
    Parts are numbered from 0 to `last_part`.
    """

    kind: EmmKind
    address: int
    key_version: int
    version: Version
    part: int = 0
    last_part: int = 0
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class SealedEmm:
    """An EMM as received. `associated_data` is everything before the tag, byte for byte."""

    header: EmmHeader
    associated_data: bytes
    tag: bytes
    ciphertext: bytes


_ADDRESS: Final[dict[EmmKind, tuple[Any, ...]]] = {
    EmmKind.UNIQUE: ("group" / Int32ub, "member" / Int8ub),
    EmmKind.GROUP: ("group" / Int32ub,),
    EmmKind.GLOBAL: (),
}


def _declare_head(kind: EmmKind) -> Any:
    return Struct(
        "table_id" / Int8ub,
        "flags_and_length" / Int16ub,
        *_ADDRESS[kind],
        "format" / Int8ub,
        "key_version" / Int8ub,
        "period" / Int16ub,
        "revision" / Int32ub,
        "part_and_last" / Int8ub,
    )


_HEAD: Final = {kind: _declare_head(kind) for kind in EmmKind}
_SECTION: Final = {
    kind: Struct("head" / head, "tag" / Bytes(TAG_SIZE), "ciphertext" / GreedyBytes, Terminated)
    for kind, head in _HEAD.items()
}
HEAD_SIZE: Final[dict[EmmKind, int]] = {kind: head.sizeof() for kind, head in _HEAD.items()}

PAYLOAD_MIN: Final = 2
"""State and number of blocks."""


def payload_max(kind: EmmKind) -> int:
    """Return the most bytes of payload that one part of an EMM can carry."""
    return EMM_MAX - HEAD_SIZE[kind] - TAG_SIZE


def head_packer(kind: EmmKind) -> struct.Struct:
    """Return a packer of the same header, for those who build many."""
    return packer(_HEAD[kind])


def packer(declaration: Any) -> struct.Struct:
    """Return what packs a declaration of nothing but big-endian integers, made from the declaration."""
    return struct.Struct(">" + "".join(field.subcon.fmtstr.lstrip(">") for field in declaration.subcons))


def parse_emm(section: bytes) -> SealedEmm:
    """Return the EMM in a whole section, from table_id to its last byte. Raises `DecodeError`."""
    section = bytes(section)
    try:
        kind = EmmKind(section[0])
    except (IndexError, ValueError):
        raise DecodeError("not an EMM: the table_id is none of 0x82, 0x84, 0x88") from None
    try:
        fields = _SECTION[kind].parse(section)
    except ConstructError:
        raise DecodeError(f"an EMM of {len(section)} bytes is too short for its header and tag") from None
    head = fields.head
    check_section_length(head.flags_and_length, len(section))
    if head.format not in FORMATS:
        raise DecodeError(f"EMM format {head.format} is unknown; this version reads {' and '.join(map(str, FORMATS))}")
    part, last_part = divmod(head.part_and_last, 16)
    if part > last_part:
        raise DecodeError(f"part {part} is above the last part {last_part}")
    address = _join_address(kind, head)
    if kind is EmmKind.UNIQUE and address > ADDRESS_MAX:
        raise DecodeError(f"card address {address} is above {ADDRESS_MAX}")
    version = Version(head.period, head.revision)
    header = EmmHeader(kind, address, head.key_version, version, part, last_part, head.format)
    return SealedEmm(header, section[: HEAD_SIZE[kind]], fields.tag, fields.ciphertext)


def build_head(header: EmmHeader, payload_size: int) -> bytes:
    """Return everything of an EMM before its tag: the associated data. Raises `BuildError`."""
    kind = header.kind
    if not PAYLOAD_MIN <= payload_size <= payload_max(kind):
        raise BuildError(f"a payload has {PAYLOAD_MIN}..{payload_max(kind)} bytes, not {payload_size}")
    if not 0 <= header.part <= header.last_part < PARTS_MAX:
        raise BuildError(f"part {header.part} of last part {header.last_part} cannot be said")
    if header.address < 0 or (kind is EmmKind.UNIQUE and header.address > ADDRESS_MAX):
        raise BuildError(f"card address {header.address} is outside of 0..{ADDRESS_MAX}")
    if kind is EmmKind.GLOBAL and header.address:
        raise BuildError("a global EMM has no address")
    if header.format not in FORMATS:
        raise BuildError(f"EMM format {header.format} is unknown")
    group, member = divmod(header.address, 256) if kind is EmmKind.UNIQUE else (header.address, 0)
    try:
        return bytes(
            _HEAD[kind].build(
                {
                    "table_id": int(kind),
                    "flags_and_length": SHORT_SECTION | (HEAD_SIZE[kind] - SECTION_HEAD_SIZE + TAG_SIZE + payload_size),
                    "group": group,
                    "member": member,
                    "format": header.format,
                    "key_version": header.key_version,
                    "period": header.version.period,
                    "revision": header.version.revision,
                    "part_and_last": header.part << 4 | header.last_part,
                }
            )
        )
    except ConstructError:
        raise BuildError(f"a number does not fit its field: {header}") from None


def check_section_length(flags_and_length: int, size: int) -> None:
    """Raise `DecodeError` unless bytes 1..2 announce a short section of just `size` bytes."""
    if flags_and_length & 0x8000:
        raise DecodeError("section_syntax_indicator is set, but CA messages are short sections")
    if (flags_and_length & 0x0FFF) + SECTION_HEAD_SIZE != size or size > SECTION_MAX:
        raise DecodeError(f"section_length {flags_and_length & 0x0FFF} does not suit a section of {size} bytes")


def _join_address(kind: EmmKind, head: Any) -> int:
    if kind is EmmKind.UNIQUE:
        return int(head.group << 8 | head.member)
    return int(head.group) if kind is EmmKind.GROUP else 0
