"""Notices sealed and opened: EMMs of format 2 under the same keys and in the same way as those of format 1."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from emm.errors import AuthenticationError, BuildError, DecodeError
from emm.keys import KeyLadder
from emm.message import (
    HEAD_SIZE,
    NOTICE_FORMAT,
    PARTS_MAX,
    TAG_SIZE,
    EmmHeader,
    EmmKind,
    SealedEmm,
    Version,
    build_head,
)
from emm.notices.content import RANGES_MAX, Addressees, Members, NoticePart, Ranges, build_part, cut, parse_part
from emm.secret import SIV_KEY_SIZE

NUMBER_MAX: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class OpenedNotice:
    """One part of a notice whose tag has verified. Its number stands where other EMMs have their revision."""

    header: EmmHeader
    part: NoticePart

    @property
    def number(self) -> int:
        """The notice's number."""
        return self.header.version.revision


class NoticeSealer:
    """Makes the EMMs of notices. `number` rises with each new notice, 1..4,294,967,295; `content` as it was built.

    Deterministic: the same notice gives the same bytes for as long as it is sent, and receivers drop repeats.
    """

    def __init__(self, ladder: KeyLadder) -> None:
        self._ladder = ladder

    def __repr__(self) -> str:
        return "<NoticeSealer>"

    def to_card(self, address: int, key_version: int, number: int, content: bytes) -> tuple[bytes, ...]:
        """Return the sections of a notice to one card, which nobody else can open."""
        key = self._ladder.card_key(address, key_version)
        return _seal(EmmKind.UNIQUE, address, key_version, number, content, None, key)

    def to_members(
        self, group: int, addresses: Iterable[int], key_version: int, number: int, content: bytes
    ) -> tuple[bytes, ...]:
        """Return the sections of a notice to some of the 256 cards of a group; all of those can open it."""
        key = self._ladder.group_key(group, key_version)
        return _seal(EmmKind.GROUP, group, key_version, number, content, Members.of(addresses), key)

    def to_ranges(
        self, ranges: Sequence[tuple[int, int]], key_version: int, number: int, content: bytes
    ) -> list[tuple[bytes, ...]]:
        """Return the sections of a notice to all cards in ranges, as many times as the ranges need; all can open it."""
        key = self._ladder.global_key(key_version)
        portions = [tuple(ranges[at : at + RANGES_MAX]) for at in range(0, len(ranges), RANGES_MAX)]
        return [_seal(EmmKind.GLOBAL, 0, key_version, number, content, Ranges(one), key) for one in portions]


def section_sizes(kind: EmmKind, content: bytes, addressees: Addressees) -> tuple[int, ...]:
    """Return the bytes of each section that `NoticeSealer` makes of a content for addressees, without making them."""
    overhead = HEAD_SIZE[kind] + TAG_SIZE
    return tuple([overhead + len(build_part(kind, part)) for part in cut(kind, content, addressees)])


def open_notice(emm: SealedEmm, key: bytes) -> OpenedNotice:
    """Return what a parsed EMM of format 2 says. Raises `DecodeError`, `AuthenticationError`."""
    if len(key) != SIV_KEY_SIZE:
        raise BuildError(f"an EMM is sealed under a key of {SIV_KEY_SIZE} bytes, not {len(key)}")
    if emm.header.format != NOTICE_FORMAT:
        raise DecodeError(f"an EMM of format {emm.header.format} is no notice")
    try:
        payload = AESSIV(key).decrypt(emm.tag + emm.ciphertext, [emm.associated_data])
    except InvalidTag:
        raise AuthenticationError("the tag of the EMM does not verify") from None
    return OpenedNotice(emm.header, parse_part(emm.header.kind, payload))


def _seal(
    kind: EmmKind,
    address: int,
    key_version: int,
    number: int,
    content: bytes,
    addressees: Addressees,
    key: bytes,
) -> tuple[bytes, ...]:
    if not 1 <= number <= NUMBER_MAX:
        raise BuildError(f"the number of a notice lies in 1..{NUMBER_MAX}, {number} does not")
    parts = cut(kind, content, addressees)
    if not 1 <= len(parts) <= PARTS_MAX:
        raise BuildError(f"a notice has 1..{PARTS_MAX} parts, not {len(parts)}")
    cipher = AESSIV(key)
    sections: list[bytes] = []
    for index, part in enumerate(parts):
        plain = build_part(kind, part)
        header = EmmHeader(kind, address, key_version, Version(0, number), index, len(parts) - 1, format=NOTICE_FORMAT)
        head = build_head(header, len(plain))
        sections.append(head + cipher.encrypt(plain, [head]))
    return tuple(sections)
