"""What a notice says, and to which cards: declared once; docs/notices.md is the same in prose.

A notice goes out in parts, one EMM of format 2 each. Every part names those whom it addresses, and carries a piece of
the content; the pieces of all parts, one after the other, are the content.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from construct import (
    Array,
    BytesInteger,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Prefixed,
    PrefixedArray,
    Struct,
    Switch,
    Terminated,
    this,
)

from emm.errors import BuildError, DecodeError
from emm.message import ADDRESS_MAX, PAYLOAD_MIN, EmmKind, payload_max

RANGES_TAG: Final = 0x10
MEMBERS_TAG: Final = 0x11
CONTENT_TAG: Final = 0x90
IGNORABLE_TAGS: Final = 0x80
"""A card refuses a part with a block it does not know below this tag, and skips such a block from here on."""

GROUP_SIZE: Final = 256
MEMBERS_SIZE: Final = GROUP_SIZE // 8
RANGE_SIZE: Final = 10
RANGES_MAX: Final = 8
BLOCK_HEAD_SIZE: Final = 2
LANGUAGE_MAX: Final = 35
CONTENT_MAX: Final = 2_200
"""Bytes of the longest content: it fits into 16 parts, whomever they address."""


class Position(IntEnum):
    """Where on the screen a fingerprint is to stand."""

    RANDOM = 0
    TOP_LEFT = 1
    TOP_RIGHT = 2
    CENTRE = 3
    BOTTOM_LEFT = 4
    BOTTOM_RIGHT = 5


@dataclass(frozen=True, slots=True)
class Message:
    """A text in one or several languages, to be shown at once (`forced`) or kept for whoever looks; UTC seconds.

    A forced message is not shown before `start` nor from `end` on.
    """

    forced: bool
    start: int
    end: int
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The card's own number, to be shown for `duration_s` once between `start` and `end`; UTC seconds.

    `service_id`: only on that service, 0 for any.
    """

    start: int
    end: int
    duration_s: int
    position: Position
    service_id: int = 0


Notice = Message | Fingerprint


@dataclass(frozen=True, slots=True)
class Ranges:
    """Cards whose address lies in one of these ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    def includes(self, address: int) -> bool:
        """Return whether a card is addressed."""
        return any(first <= address <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Members:
    """Cards of one group by the last byte of their address: bit 7 of `bits[0]` is byte 0x00."""

    bits: bytes

    @classmethod
    def of(cls, addresses: Iterable[int]) -> "Members":
        """Return the members that these addresses of one group are."""
        whole = 0
        for address in addresses:
            whole |= 1 << (GROUP_SIZE - 1 - address % GROUP_SIZE)
        return cls(whole.to_bytes(MEMBERS_SIZE, "big"))

    def includes(self, address: int) -> bool:
        """Return whether a card is addressed."""
        byte, bit = divmod(address % GROUP_SIZE, 8)
        return bool(self.bits[byte] & 0x80 >> bit)


Addressees = Ranges | Members | None
"""None where the EMM has one card's address already."""


@dataclass(frozen=True, slots=True)
class NoticePart:
    """What one EMM of a notice says once it is opened. An empty piece: there was nothing that this version knows."""

    addressees: Addressees
    piece: bytes

    def addresses(self, address: int) -> bool:
        """Return whether it is for that card, among those who can open it."""
        return self.addressees is None or self.addressees.includes(address)


_MESSAGE, _FORCED, _FINGERPRINT = 0, 1, 2
_TEXTS: Final = PrefixedArray(
    Int8ub, Struct("language" / Prefixed(Int8ub, GreedyBytes), "text" / Prefixed(Int16ub, GreedyBytes))
)
_SHOWN: Final = Struct("duration_s" / Int16ub, "service_id" / Int16ub, "position" / Int8ub)
_CONTENT: Final = Struct(
    "kind" / Int8ub,
    "start" / Int32ub,
    "end" / Int32ub,
    "said" / Switch(this.kind, {_MESSAGE: _TEXTS, _FORCED: _TEXTS, _FINGERPRINT: _SHOWN}, default=GreedyBytes),
    Terminated,
)
_PART: Final = Struct(
    "state" / Int8ub,
    "blocks" / PrefixedArray(Int8ub, Struct("tag" / Int8ub, "value" / Prefixed(Int8ub, GreedyBytes))),
    Terminated,
)
_RANGES: Final = Struct(
    "ranges" / Array(this._params.count, Struct("first" / BytesInteger(5), "last" / BytesInteger(5))), Terminated
)


def build_content(notice: Notice) -> bytes:
    """Return the bytes of a notice. Raises `BuildError`; whatever this accepts, `parse_content` reads back."""
    fields: dict[str, Any] = {"start": notice.start, "end": notice.end}
    if isinstance(notice, Message):
        fields["kind"] = _FORCED if notice.forced else _MESSAGE
        fields["said"] = [{"language": language.encode(), "text": text.encode()} for language, text in notice.texts]
    else:
        fields["kind"] = _FINGERPRINT
        fields["said"] = {
            "duration_s": notice.duration_s,
            "service_id": notice.service_id,
            "position": int(notice.position),
        }
    if (fault := _fault(notice)) is not None:
        raise BuildError(fault)
    try:
        built = bytes(_CONTENT.build(fields))
    except (ConstructError, UnicodeEncodeError):
        raise BuildError("a number or a text of the notice does not fit its field") from None
    if len(built) > CONTENT_MAX:
        raise BuildError(f"the content of a notice has at most {CONTENT_MAX} bytes, not {len(built)}")
    return built


def parse_content(content: bytes) -> Notice:
    """Return the notice in the content that its parts were put together to. Raises `DecodeError`."""
    if len(content) > CONTENT_MAX:
        raise DecodeError(f"the content of a notice has at most {CONTENT_MAX} bytes, not {len(content)}")
    try:
        fields = _CONTENT.parse(content)
    except ConstructError:
        raise DecodeError("the content of a notice is cut short or too long") from None
    notice: Notice
    try:
        if fields.kind in (_MESSAGE, _FORCED):
            texts = tuple((each.language.decode("ascii"), each.text.decode()) for each in fields.said)
            notice = Message(fields.kind == _FORCED, fields.start, fields.end, texts)
        elif fields.kind == _FINGERPRINT:
            said = fields.said
            notice = Fingerprint(fields.start, fields.end, said.duration_s, Position(said.position), said.service_id)
        else:
            raise DecodeError(f"notices of kind {fields.kind} are unknown")
    except UnicodeDecodeError:
        raise DecodeError("a text of the notice is not UTF-8") from None
    except ValueError:
        raise DecodeError("the position of the fingerprint is unknown") from None
    if (fault := _fault(notice)) is not None:
        raise DecodeError(fault)
    return notice


def build_part(kind: EmmKind, part: NoticePart) -> bytes:
    """Return the payload of one EMM of a notice. Raises `BuildError`."""
    if (fault := _misaddressed(kind, part.addressees)) is not None:
        raise BuildError(fault)
    blocks = _addressee_blocks(part.addressees)
    if part.piece:
        blocks.append({"tag": CONTENT_TAG, "value": part.piece})
    try:
        built = bytes(_PART.build({"state": 0, "blocks": blocks}))
    except ConstructError:
        raise BuildError("a block of the notice does not fit its field") from None
    if len(built) > payload_max(kind):
        raise BuildError(f"a payload has at most {payload_max(kind)} bytes, not {len(built)}")
    return built


def parse_part(kind: EmmKind, payload: bytes) -> NoticePart:
    """Return what an opened EMM of a notice says. Raises `DecodeError`."""
    try:
        fields = _PART.parse(payload)
    except ConstructError:
        raise DecodeError("the blocks of the payload do not fill it exactly") from None
    if fields.state:
        raise DecodeError("a notice states no card's state")
    addressees: Addressees = None
    piece: bytes | None = None
    for block in fields.blocks:
        if block.tag in (RANGES_TAG, MEMBERS_TAG):
            if addressees is not None:
                raise DecodeError("a part of a notice says once whom it addresses")
            addressees = _parse_addressees(block.tag, block.value)
        elif block.tag == CONTENT_TAG:
            if piece is not None or not block.value:
                raise DecodeError("a part of a notice has one piece of content, which is not empty")
            piece = block.value
        elif block.tag < IGNORABLE_TAGS:
            raise DecodeError(f"block 0x{block.tag:02X} is unknown in a notice and must not be ignored")
    if (fault := _misaddressed(kind, addressees)) is not None:
        raise DecodeError(fault)
    return NoticePart(addressees, piece or b"")


def cut(kind: EmmKind, content: bytes, addressees: Addressees) -> list[NoticePart]:
    """Cut content into as few parts as it takes."""
    used = PAYLOAD_MIN + sum(BLOCK_HEAD_SIZE + len(block["value"]) for block in _addressee_blocks(addressees))
    room = payload_max(kind) - used - BLOCK_HEAD_SIZE
    return [NoticePart(addressees, content[at : at + room]) for at in range(0, len(content), room)]


def _addressee_blocks(addressees: Addressees) -> list[dict[str, Any]]:
    if addressees is None:
        return []
    if isinstance(addressees, Members):
        return [{"tag": MEMBERS_TAG, "value": addressees.bits}]
    ends = [{"first": first, "last": last} for first, last in addressees.ranges]
    try:
        return [{"tag": RANGES_TAG, "value": _RANGES.build({"ranges": ends}, count=len(ends))}]
    except ConstructError:
        raise BuildError("an address of a range does not fit its field") from None


def _parse_addressees(tag: int, value: bytes) -> Ranges | Members:
    if tag == MEMBERS_TAG:
        return Members(value)
    count, rest = divmod(len(value), RANGE_SIZE)
    if rest:
        raise DecodeError("a notice does not hold a whole number of ranges")
    return Ranges(tuple((each.first, each.last) for each in _RANGES.parse(value, count=count).ranges))


def _fault_of_ranges(ranges: tuple[tuple[int, int], ...]) -> str | None:
    possible = all(0 <= first <= last <= ADDRESS_MAX for first, last in ranges)
    return None if possible and 1 <= len(ranges) <= RANGES_MAX else f"a notice names 1..{RANGES_MAX} ranges of cards"


def _misaddressed(kind: EmmKind, addressees: Addressees) -> str | None:
    """Say what is wrong with the addressees, or None. What many can open always names whom it is for (I10)."""
    match kind, addressees:
        case EmmKind.UNIQUE, None:
            return None
        case EmmKind.GROUP, Members(bits):
            return None if len(bits) == MEMBERS_SIZE else f"the members of a group are {MEMBERS_SIZE} bytes"
        case EmmKind.GLOBAL, Ranges(ranges):
            return _fault_of_ranges(ranges)
        case _:
            return "a group notice names members, a global one ranges of cards, a unique one neither"


def _fault(notice: Notice) -> str | None:
    """Say what is wrong with a notice, or None."""
    if notice.end <= notice.start:
        return "a notice ends before it starts"
    if isinstance(notice, Fingerprint):
        return None if notice.duration_s else "a fingerprint is shown for a second at least"
    languages = [language for language, _ in notice.texts]
    if not languages or len(set(languages)) != len(languages):
        return "a message has one text at least, and one in each language"
    if any(not 1 <= len(language) <= LANGUAGE_MAX or not language.isascii() for language in languages):
        return f"a language is named by 1..{LANGUAGE_MAX} ASCII characters"
    return None if all(text for _, text in notice.texts) else "a text of the message is empty"
