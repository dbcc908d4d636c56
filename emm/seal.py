"""EMMs sealed and opened with AES-SIV (RFC 5297; D4). Sealing is deterministic: same content, same bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from emm.errors import AuthenticationError, BuildError, DecodeError, PlanError
from emm.keys import KeyLadder
from emm.message import (
    ADDRESS_MAX,
    FORMAT,
    HEAD_SIZE,
    PARTS_MAX,
    PAYLOAD_MIN,
    SECTION_HEAD_SIZE,
    SHORT_SECTION,
    TAG_SIZE,
    EmmHeader,
    EmmKind,
    SealedEmm,
    Version,
    build_head,
    head_packer,
    parse_emm,
    payload_max,
)
from emm.pairing import pair_key
from emm.payload import (
    BLOCK_HEAD_SIZE,
    RIGHTS_HEAD_SIZE,
    CardState,
    EmmPayload,
    build_payload,
    pack_block,
    pack_card_payload,
    pack_rights,
    parse_payload,
    product_size,
)
from emm.plan import PRODUCT_ID_MAX, CardContent, Window
from emm.secret import SIV_KEY_SIZE
from emm.traits import build_trait, trait_blocks, trait_sizes

PAYLOADS_CACHED: Final = 8192
_UNIQUE_TABLE_ID: Final = int(EmmKind.UNIQUE)
_UNIQUE_LENGTH: Final = HEAD_SIZE[EmmKind.UNIQUE] - SECTION_HEAD_SIZE + TAG_SIZE


@dataclass(frozen=True, slots=True)
class OpenedEmm:
    """One part of an EMM whose tag has verified."""

    header: EmmHeader
    payload: EmmPayload


class EmmSealer:
    """Makes the EMMs of a headend.

    Payloads of the last `payloads_cached` contents are kept, because many cards share one.
    """

    def __init__(self, ladder: KeyLadder, payloads_cached: int = PAYLOADS_CACHED) -> None:
        self._ladder = ladder
        self._payloads = lru_cache(maxsize=payloads_cached)(self._build_payloads)
        self._pack_head = head_packer(EmmKind.UNIQUE).pack

    def __repr__(self) -> str:
        return "<EmmSealer>"

    def unique(self, address: int, key_version: int, version: Version, content: CardContent) -> tuple[bytes, ...]:
        """Return all sections of a card's current EMM, part 0 first.

        Raises `PlanError` when the content needs more than 16 parts, `BuildError` for numbers without a place.
        """
        if not 0 <= address <= ADDRESS_MAX:
            raise BuildError(f"card address {address} is outside of 0..{ADDRESS_MAX}")
        # The key of a pair is of one card; all other content is the same for many.
        payloads = self._payloads(content, None if content.traits.receiver is None else address)
        seal = AESSIV(self._ladder.card_key(address, key_version)).encrypt
        last_part = len(payloads) - 1
        sections: list[bytes] = []
        for part, payload in enumerate(payloads):
            try:
                head = self._pack_head(
                    _UNIQUE_TABLE_ID,
                    SHORT_SECTION | _UNIQUE_LENGTH + len(payload),
                    address >> 8,
                    address & 0xFF,
                    FORMAT,
                    key_version,
                    version.period,
                    version.revision,
                    part << 4 | last_part,
                )
            except struct.error:
                raise BuildError(f"{version} or key_version {key_version} does not fit its field") from None
            sections.append(head + seal(payload, [head]))
        return tuple(sections)

    def group(
        self, group: int, key_version: int, version: Version, payloads: Sequence[EmmPayload]
    ) -> tuple[bytes, ...]:
        """Return an EMM for the 256 cards of a group (card address without its last byte), one part per payload."""
        key = self._ladder.group_key(group, key_version)
        return _seal_all(EmmHeader(EmmKind.GROUP, group, key_version, version), payloads, key)

    def to_all(self, key_version: int, version: Version, payloads: Sequence[EmmPayload]) -> tuple[bytes, ...]:
        """Return a global EMM, one part per payload."""
        key = self._ladder.global_key(key_version)
        return _seal_all(EmmHeader(EmmKind.GLOBAL, 0, key_version, version), payloads, key)

    def _build_payloads(self, content: CardContent, paired_address: int | None) -> tuple[bytes, ...]:
        state = CardState.SUSPENDED if content.suspended else CardState.ACTIVE
        traits = self._traits(content, paired_address)
        return tuple(
            [
                pack_card_payload(state, [*map(self._block, part.windows), *(traits[each] for each in part.traits)])
                for part in _split(content)
            ]
        )

    def _traits(self, content: CardContent, paired_address: int | None) -> list[bytes]:
        key = None
        if content.traits.receiver is not None and paired_address is not None:
            key = pair_key(self._ladder.pairing_key(content.traits.receiver), paired_address)
        return [pack_block(*build_trait(block)) for block in trait_blocks(content.traits, key)]

    def _block(self, window: Window) -> bytes:
        ids = window.product_ids
        if not ids or min(ids) < 1 or max(ids) > PRODUCT_ID_MAX or window.key_count not in (1, 2):
            raise BuildError(f"no EMM can say {window}")
        key = self._ladder.product_key
        first, second = window.first_epoch, window.first_epoch + 1
        if window.key_count == 1:
            products = [each.to_bytes(2, "big") + key(each, first) for each in ids]
        else:
            products = [each.to_bytes(2, "big") + key(each, first) + key(each, second) for each in ids]
        return pack_rights((window.start, window.end, first, window.key_count), products)


def section_sizes(content: CardContent) -> tuple[int, ...]:
    """Return the bytes of each section that `EmmSealer.unique` makes of a content, without making them."""
    overhead = HEAD_SIZE[EmmKind.UNIQUE] + TAG_SIZE + PAYLOAD_MIN
    sizes = trait_sizes(content.traits)
    return tuple(
        [
            overhead + sum(map(_window_size, part.windows)) + sum(sizes[each] for each in part.traits)
            for part in _split(content)
        ]
    )


def open_unique(section: bytes, card_key: bytes) -> OpenedEmm:
    """Return a part sealed for one card. Raises `DecodeError`, `AuthenticationError`.

    A card looks at `parse_emm(section).header` first: only EMMs of its address and key version concern it.
    """
    return _open_kind(section, EmmKind.UNIQUE, card_key)


def open_group(section: bytes, group_key: bytes) -> OpenedEmm:
    """Return a part sealed for a group. Raises `DecodeError`, `AuthenticationError`."""
    return _open_kind(section, EmmKind.GROUP, group_key)


def open_global(section: bytes, global_key: bytes) -> OpenedEmm:
    """Return a part sealed for all cards. Raises `DecodeError`, `AuthenticationError`."""
    return _open_kind(section, EmmKind.GLOBAL, global_key)


def open_sealed(emm: SealedEmm, key: bytes) -> OpenedEmm:
    """Return what a parsed EMM of any kind says. Raises `DecodeError`, `AuthenticationError`."""
    if len(key) != SIV_KEY_SIZE:
        raise BuildError(f"an EMM is sealed under a key of {SIV_KEY_SIZE} bytes, not {len(key)}")
    if emm.header.format != FORMAT:
        raise DecodeError(f"an EMM of format {emm.header.format} says nothing about rights")
    try:
        payload = AESSIV(key).decrypt(emm.tag + emm.ciphertext, [emm.associated_data])
    except InvalidTag:
        raise AuthenticationError("the tag of the EMM does not verify") from None
    return OpenedEmm(emm.header, parse_payload(emm.header.kind, payload))


def _open_kind(section: bytes, kind: EmmKind, key: bytes) -> OpenedEmm:
    emm = parse_emm(section)
    if emm.header.kind is not kind:
        raise DecodeError(f"table_id 0x{emm.header.kind:02X} where 0x{kind:02X} was expected")
    return open_sealed(emm, key)


def _seal_all(header: EmmHeader, payloads: Sequence[EmmPayload], key: bytes) -> tuple[bytes, ...]:
    if not 1 <= len(payloads) <= PARTS_MAX:
        raise BuildError(f"an EMM has 1..{PARTS_MAX} parts, not {len(payloads)}")
    sections: list[bytes] = []
    for part, payload in enumerate(payloads):
        plain = build_payload(header.kind, payload)
        numbered = EmmHeader(
            header.kind, header.address, header.key_version, header.version, part, last_part=len(payloads) - 1
        )
        head = build_head(numbered, len(plain))
        sections.append(head + AESSIV(key).encrypt(plain, [head]))
    return tuple(sections)


@dataclass(slots=True)
class _Part:
    """What goes into one part: windows, the numbers of traits (`trait_sizes`), and the bytes that are left."""

    free: int
    windows: list[Window] = field(default_factory=list)
    traits: list[int] = field(default_factory=list)


def _split(content: CardContent) -> list[_Part]:
    """Spread windows over as few parts as their order allows; a window that does not fit is continued in the next.

    A trait goes behind them into the first part with room for it, so that it hardly ever takes a part of its own.
    """
    room = payload_max(EmmKind.UNIQUE) - PAYLOAD_MIN
    parts = [_Part(room)]
    for window in content.windows:
        rest = window.product_ids
        while rest:
            part = parts[-1]
            count = (part.free - BLOCK_HEAD_SIZE - RIGHTS_HEAD_SIZE) // product_size(window.key_count)
            if count < 1:
                parts.append(_Part(room))
                continue
            piece = Window(window.start, window.end, window.first_epoch, window.key_count, rest[:count])
            part.windows.append(piece)
            part.free -= _window_size(piece)
            rest = rest[count:]
    for number, size in enumerate(trait_sizes(content.traits)):
        part = next((one for one in parts if one.free >= size), parts[-1])
        if part.free < size:
            parts.append(part := _Part(room))
        part.traits.append(number)
        part.free -= size
    if len(parts) > PARTS_MAX:
        products = sum(len(window.product_ids) for window in content.windows)
        raise PlanError(
            f"{products} rights in {len(content.windows)} windows need {len(parts)} parts, but an EMM has at most "
            f"{PARTS_MAX}: let the card hold fewer products"
        )
    return parts


def _window_size(window: Window) -> int:
    return BLOCK_HEAD_SIZE + RIGHTS_HEAD_SIZE + len(window.product_ids) * product_size(window.key_count)
