"""EMMs sealed and opened with AES-SIV (RFC 5297; D4). Sealing is deterministic: same content, same bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
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
    with_block,
)
from emm.plan import PRODUCT_ID_MAX, CardContent, Window
from emm.secret import SIV_KEY_SIZE
from emm.traits import NO_TRAITS, build_trait, trait_blocks, trait_sizes

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
        payloads = self._payloads_of(content, address)
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

    def _payloads_of(self, content: CardContent, address: int) -> tuple[bytes, ...]:
        """The payload of each part: rights that many cards share, with what is said of this card behind them."""
        traits = content.traits
        if traits == NO_TRAITS:
            return self._payloads(content)
        payloads = list(self._payloads(CardContent(content.suspended, content.windows)))
        key = None if traits.receiver is None else pair_key(self._ladder.pairing_key(traits.receiver), address)
        blocks = [pack_block(*build_trait(block)) for block in trait_blocks(traits, key)]
        places = _places([len(payload) for payload in payloads], [len(block) for block in blocks])
        for place, block in zip(places, blocks, strict=True):
            if place == len(payloads):
                payloads.append(pack_card_payload(_state(content), []))
            payloads[place] = with_block(payloads[place], block)
        return tuple(payloads)

    def _build_payloads(self, content: CardContent) -> tuple[bytes, ...]:
        return tuple([pack_card_payload(_state(content), list(map(self._block, part))) for part in _split(content)])

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
    overhead = HEAD_SIZE[EmmKind.UNIQUE] + TAG_SIZE
    sizes = [PAYLOAD_MIN + sum(map(_window_size, part)) for part in _split(content)]
    if content.traits != NO_TRAITS:
        blocks = trait_sizes(content.traits)
        for place, size in zip(_places(sizes, blocks), blocks, strict=True):
            if place == len(sizes):
                sizes.append(PAYLOAD_MIN)
            sizes[place] += size
    return tuple([overhead + size for size in sizes])


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


def _state(content: CardContent) -> CardState:
    return CardState.SUSPENDED if content.suspended else CardState.ACTIVE


def _places(sizes: Sequence[int], blocks: Sequence[int]) -> list[int]:
    """Return for blocks of so many bytes the part into which each goes: the first with room, so that hardly ever a part
    is needed for them alone. `sizes`: bytes of the payloads so far.

    Raises `PlanError` when that needs more than 16 parts.
    """
    used, places = list(sizes), []
    for block in blocks:
        place = next((part for part, size in enumerate(used) if size + block <= payload_max(EmmKind.UNIQUE)), len(used))
        if place == len(used):
            used.append(PAYLOAD_MIN)
        used[place] += block
        places.append(place)
    if len(used) > PARTS_MAX:
        raise PlanError(f"a card with so many rights has no room for what else is to be said of it ({len(used)} parts)")
    return places


def _split(content: CardContent) -> list[list[Window]]:
    """Spread windows over as few parts as their order allows; a window that does not fit is continued in the next."""
    room = payload_max(EmmKind.UNIQUE) - PAYLOAD_MIN
    parts: list[list[Window]] = [[]]
    free = room
    for window in content.windows:
        rest = window.product_ids
        while rest:
            count = (free - BLOCK_HEAD_SIZE - RIGHTS_HEAD_SIZE) // product_size(window.key_count)
            if count < 1:
                parts.append([])
                free = room
                continue
            piece = Window(window.start, window.end, window.first_epoch, window.key_count, rest[:count])
            parts[-1].append(piece)
            free -= _window_size(piece)
            rest = rest[count:]
    if len(parts) > PARTS_MAX:
        products = sum(len(window.product_ids) for window in content.windows)
        raise PlanError(
            f"{products} rights in {len(content.windows)} windows need {len(parts)} parts, but an EMM has at most "
            f"{PARTS_MAX}: let the card hold fewer products"
        )
    return parts


def _window_size(window: Window) -> int:
    return BLOCK_HEAD_SIZE + RIGHTS_HEAD_SIZE + len(window.product_ids) * product_size(window.key_count)
