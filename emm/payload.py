"""What an EMM says once it is opened: the state of the card and its rights. Declared once; docs/emm.md in prose."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from construct import (
    Array,
    Bytes,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Prefixed,
    PrefixedArray,
    Struct,
    Terminated,
    this,
)

from emm.errors import BuildError, DecodeError
from emm.message import EmmKind, packer, payload_max
from emm.secret import KEY_SIZE, Secret
from emm.traits import TAGS, PairingBlock, TraitBlock, Traits, build_trait, is_said_twice, parse_trait, said_by

EPOCH_MAX: Final = 0xFFFF
RIGHTS_TAG: Final = 0x01
IGNORABLE_TAGS: Final = 0x80
"""A receiver refuses an EMM with a block it does not know below this tag, and skips such a block from here on."""

BLOCK_HEAD_SIZE: Final = 2
RIGHTS_HEAD_SIZE: Final = 11
SAID_TWICE: Final = "the same thing is said twice of a card"


class CardState(IntEnum):
    """First byte of the payload."""

    ACTIVE = 0
    SUSPENDED = 1


@dataclass(frozen=True, slots=True)
class ProductKeys:
    """A product and its keys for consecutive epochs."""

    product_id: int
    keys: tuple[Secret, ...]


@dataclass(frozen=True, slots=True)
class RightsBlock:
    """Block 0x01: products that may be opened from `start` (0 = already) until before `end`, UTC seconds."""

    start: int
    end: int
    first_epoch: int
    products: tuple[ProductKeys, ...]


@dataclass(frozen=True, slots=True)
class OpaqueBlock:
    """A block that this version does not know and may ignore: `tag` 0x80..0xFF."""

    tag: int
    value: bytes


AnyBlock = RightsBlock | TraitBlock | OpaqueBlock


@dataclass(frozen=True, slots=True)
class EmmPayload:
    """What a part says once it is opened. GROUP and GLOBAL have state ACTIVE, no rights and no traits."""

    state: CardState
    blocks: tuple[AnyBlock, ...] = ()

    @property
    def rights(self) -> tuple[RightsBlock, ...]:
        """The blocks that give rights."""
        return tuple(block for block in self.blocks if isinstance(block, RightsBlock))

    @property
    def pairing(self) -> PairingBlock | None:
        """The block that pairs the card with a receiver, if any."""
        return next((block for block in self.blocks if isinstance(block, PairingBlock)), None)

    @property
    def traits(self) -> Traits:
        """What it says besides rights."""
        return said_by(self.blocks)


_RIGHTS_HEAD: Final = Struct("start" / Int32ub, "end" / Int32ub, "first_epoch" / Int16ub, "key_count" / Int8ub)
_RIGHTS: Final = Struct(
    *_RIGHTS_HEAD.subcons,
    "products"
    / Array(
        this._params.product_count,
        Struct("product_id" / Int16ub, "product_keys" / Array(this._.key_count, Bytes(KEY_SIZE))),
    ),
    Terminated,
)
_PAYLOAD: Final = Struct(
    "state" / Int8ub,
    "blocks" / PrefixedArray(Int8ub, Struct("tag" / Int8ub, "value" / Prefixed(Int8ub, GreedyBytes))),
    Terminated,
)

_PACK_RIGHTS_HEAD: Final = packer(_RIGHTS_HEAD).pack


def product_size(key_count: int) -> int:
    """Return the bytes of one product with that many keys in a rights block."""
    return 2 + key_count * KEY_SIZE


def parse_payload(kind: EmmKind, payload: bytes) -> EmmPayload:
    """Return what opened bytes of an EMM of that kind say. Raises `DecodeError`, without showing them."""
    try:
        fields = _PAYLOAD.parse(payload)
        state = CardState(fields.state)
    except ConstructError:
        raise DecodeError("the blocks of the payload do not fill it exactly") from None
    except ValueError:
        raise DecodeError("the state of the card is unknown") from None
    if kind is not EmmKind.UNIQUE and state is not CardState.ACTIVE:
        raise DecodeError("only a unique EMM states a card's state")
    blocks = tuple([_parse_block(kind, block.tag, block.value) for block in fields.blocks])
    if is_said_twice(blocks):
        raise DecodeError(SAID_TWICE)
    return EmmPayload(state, blocks)


def build_payload(kind: EmmKind, payload: EmmPayload) -> bytes:
    """Return the bytes of a payload. Raises `BuildError`; whatever this accepts, `parse_payload` reads back."""
    if kind is not EmmKind.UNIQUE and payload.state is not CardState.ACTIVE:
        raise BuildError("only a unique EMM states a card's state")
    if is_said_twice(payload.blocks):
        raise BuildError(SAID_TWICE)
    try:
        blocks = [_build_block(kind, block) for block in payload.blocks]
        built = bytes(_PAYLOAD.build({"state": int(payload.state), "blocks": blocks}))
    except ConstructError:
        raise BuildError("a number or a block of the payload does not fit its field") from None
    if len(built) > payload_max(kind):
        raise BuildError(f"a payload has at most {payload_max(kind)} bytes, not {len(built)}")
    return built


def pack_card_payload(state: CardState, blocks: Sequence[bytes]) -> bytes:
    """Return the payload of blocks out of `pack_rights`: what `build_payload` builds, for those who build many."""
    return bytes((state, len(blocks))) + b"".join(blocks)


def with_block(payload: bytes, block: bytes) -> bytes:
    """Return a payload with one more block (with its tag and length) behind the others."""
    return bytes((payload[0], payload[1] + 1)) + payload[2:] + block


def pack_rights(window: tuple[int, int, int, int], products: Sequence[bytes]) -> bytes:
    """Return a rights block with its tag and length, for those who build many.

    `window`: start, end, first_epoch, key_count. `products`: product_id in two bytes and the keys of each product.
    Raises `BuildError` for numbers without a place.
    """
    start, end, first_epoch, key_count = window
    if end <= start or first_epoch + key_count - 1 > EPOCH_MAX:
        raise BuildError(
            f"a window from {start} to {end} with {key_count} keys from epoch {first_epoch} cannot be said"
        )
    try:
        value = _PACK_RIGHTS_HEAD(start, end, first_epoch, key_count) + b"".join(products)
    except struct.error:
        raise BuildError(f"a number of the window {window} does not fit its field") from None
    return pack_block(RIGHTS_TAG, value)


def pack_block(tag: int, value: bytes) -> bytes:
    """Return a block with its tag and length, for those who build many."""
    return bytes((tag, len(value))) + value


def _parse_block(kind: EmmKind, tag: int, value: bytes) -> AnyBlock:
    # D5: what 256 cards or all of them can read never carries a right or a key.
    if kind is EmmKind.UNIQUE and tag in TAGS:
        return parse_trait(tag, value)
    if tag >= IGNORABLE_TAGS:
        return OpaqueBlock(tag, value)
    if tag != RIGHTS_TAG or kind is not EmmKind.UNIQUE:
        raise DecodeError(f"block 0x{tag:02X} is unknown in an EMM of table_id 0x{kind:02X} and must not be ignored")
    return _parse_rights(value)


def _parse_rights(value: bytes) -> RightsBlock:
    key_count = value[RIGHTS_HEAD_SIZE - 1] if len(value) >= RIGHTS_HEAD_SIZE else 0
    if key_count not in (1, 2):
        raise DecodeError("a rights block is cut short or has neither one nor two keys for each product")
    count, rest = divmod(len(value) - RIGHTS_HEAD_SIZE, product_size(key_count))
    if count < 1 or rest:
        raise DecodeError("a rights block does not hold a whole number of products")
    try:
        fields = _RIGHTS.parse(value, product_count=count)
    except ConstructError:
        raise DecodeError("a rights block cannot be read") from None
    products = tuple(
        [
            ProductKeys(product.product_id, tuple([Secret(key) for key in product.product_keys]))
            for product in fields.products
        ]
    )
    block = RightsBlock(fields.start, fields.end, fields.first_epoch, products)
    fault = _fault(block, key_count)
    if fault:
        raise DecodeError(fault)
    return block


def _build_block(kind: EmmKind, block: AnyBlock) -> dict[str, Any]:
    if isinstance(block, OpaqueBlock):
        if block.tag < IGNORABLE_TAGS:
            raise BuildError(f"block 0x{block.tag:02X} has a meaning of its own below 0x{IGNORABLE_TAGS:02X}")
        return {"tag": block.tag, "value": block.value}
    if kind is not EmmKind.UNIQUE:
        raise BuildError("only a unique EMM may carry rights and keys (D5)")
    if isinstance(block, TraitBlock):
        tag, value = build_trait(block)
        return {"tag": tag, "value": value}
    key_count = len(block.products[0].keys) if block.products else 0
    fault = _fault(block, key_count)
    if fault:
        raise BuildError(fault)
    fields: dict[str, Any] = {
        "start": block.start,
        "end": block.end,
        "first_epoch": block.first_epoch,
        "key_count": key_count,
        "products": [
            {"product_id": product.product_id, "product_keys": _key_list(product.keys)} for product in block.products
        ],
    }
    return {"tag": RIGHTS_TAG, "value": _RIGHTS.build(fields, product_count=len(block.products))}


def _key_list(keys: Sequence[Secret]) -> list[bytes]:
    return [bytes(key) for key in keys]


def _fault(block: RightsBlock, key_count: int) -> str | None:
    """Say what is wrong with a rights block, or None."""
    if key_count not in (1, 2) or any(len(product.keys) != key_count for product in block.products):
        return "every product of a rights block has the same number of keys, one or two"
    if any(len(key) != KEY_SIZE for product in block.products for key in product.keys):
        return f"a product key has {KEY_SIZE} bytes"
    if any(product.product_id < 1 for product in block.products):
        return "product_id 0 does not exist"
    if block.end <= block.start:
        return "a window ends before it starts"
    if block.first_epoch + key_count - 1 > EPOCH_MAX:
        return "an epoch is above 65535"
    return None
