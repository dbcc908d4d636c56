"""What a card's EMM says of the card besides its rights: blocks of their own, which cost nothing where nothing is said.

Declared once; docs/emm.md in prose. Only a unique EMM carries them.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from construct import Bytes, ConstructError, Int8ub, Int16ub, Int32ub, Int64ub, Struct, Terminated

from emm.errors import BuildError, DecodeError
from emm.secret import KEY_SIZE, Secret
from protocol import receiver_number

PAIRING_TAG: Final = 0x02
REGION_TAG: Final = 0x03
PARENTAL_TAG: Final = 0x04
PIN_RESET_TAG: Final = 0xA0
"""From 0x80 on: a card that has no PIN loses nothing by skipping it."""

REGION_MAX: Final = 0xFFFF
AGE_MIN: Final = 4
AGE_MAX: Final = 18
"""Ages of ratings: those that a DVB parental_rating_descriptor can say (ETSI EN 300 468, clause 6.2.28)."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the ledger says of a card besides its rights.

    `receiver`: number of the one receiver that it serves (`protocol.receiver_number`), None for any. `parental`: what
    is rated for this age or above needs the PIN, 0: nothing does. `pin_reset`: the revision under which the newest
    reset of the PIN was ordered, 0 for none. `region`: number of the region that it stands in, 0 for none.
    """

    receiver: int | None = None
    parental: int = 0
    pin_reset: int = 0
    region: int = 0


NO_TRAITS: Final = Traits()


@dataclass(frozen=True, slots=True)
class PairingBlock:
    """Block 0x02: the card seals control words for `receiver`, under the key of the pair (`emm.pairing`)."""

    receiver: int
    key: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class RegionBlock:
    """Block 0x03: the region that the card stands in; ECMs may say that a service is blacked out there."""

    region: int


@dataclass(frozen=True, slots=True)
class ParentalBlock:
    """Block 0x04: receivers show what is rated for `age` or above only once the card has verified its PIN."""

    age: int


@dataclass(frozen=True, slots=True)
class PinResetBlock:
    """Block 0xA0: a card that has taken no reset with this mark or a higher one resets its PIN."""

    mark: int


TraitBlock = PairingBlock | RegionBlock | ParentalBlock | PinResetBlock

_PAIRING: Final = Struct("receiver" / Int64ub, "key" / Bytes(KEY_SIZE), Terminated)
_REGION: Final = Struct("region" / Int16ub, Terminated)
_PARENTAL: Final = Struct("age" / Int8ub, Terminated)
_PIN_RESET: Final = Struct("mark" / Int32ub, Terminated)
# The same as _PAIRING by hand, for a million paired cards; what `parse_trait` reads by the declaration is its test.
_PACK_PAIRING: Final = struct.Struct(f">Q{KEY_SIZE}s").pack
_PAIRING_SIZE: Final = 8 + KEY_SIZE
_PARSERS: Final[dict[int, tuple[Any, Callable[[Any], TraitBlock]]]] = {
    PAIRING_TAG: (_PAIRING, lambda fields: PairingBlock(fields.receiver, Secret(fields.key))),
    REGION_TAG: (_REGION, lambda fields: RegionBlock(fields.region)),
    PARENTAL_TAG: (_PARENTAL, lambda fields: ParentalBlock(fields.age)),
    PIN_RESET_TAG: (_PIN_RESET, lambda fields: PinResetBlock(fields.mark)),
}
TAGS: Final = frozenset(_PARSERS)
"""Tags of the blocks declared here. Each stands in an EMM once at most."""


def trait_sizes(traits: Traits) -> tuple[int, ...]:
    """Return the bytes of each block that says these traits, with tag and length; the order of `trait_blocks`."""
    if traits == NO_TRAITS:
        return ()
    sizes = (
        (traits.receiver is not None, _PAIRING_SIZE),
        (traits.region > 0, 2),
        (traits.parental > 0, 1),
        (traits.pin_reset > 0, 4),
    )
    return tuple([2 + size for is_said, size in sizes if is_said])


def trait_blocks(traits: Traits, pair_key: Secret | None) -> tuple[TraitBlock, ...]:
    """Return the blocks that say these traits. `pair_key`: of the card with its receiver, where it has one."""
    if traits == NO_TRAITS:
        return ()
    blocks: list[TraitBlock] = []
    if traits.receiver is not None:
        if pair_key is None:
            raise BuildError("a pairing is said with the key of the pair")
        blocks.append(PairingBlock(traits.receiver, pair_key))
    if traits.region:
        blocks.append(RegionBlock(traits.region))
    if traits.parental:
        blocks.append(ParentalBlock(traits.parental))
    if traits.pin_reset:
        blocks.append(PinResetBlock(traits.pin_reset))
    return tuple(blocks)


def build_trait(block: TraitBlock) -> tuple[int, bytes]:
    """Return tag and value of a block. Raises `BuildError`."""
    if (fault := _fault(block)) is not None:
        raise BuildError(fault)
    match block:
        case PairingBlock():
            return PAIRING_TAG, _PACK_PAIRING(block.receiver, bytes(block.key))
        case RegionBlock():
            return REGION_TAG, bytes(_REGION.build({"region": block.region}))
        case ParentalBlock():
            return PARENTAL_TAG, bytes(_PARENTAL.build({"age": block.age}))
        case PinResetBlock():
            return PIN_RESET_TAG, bytes(_PIN_RESET.build({"mark": block.mark}))


def parse_trait(tag: int, value: bytes) -> TraitBlock:
    """Return what a block with one of `TAGS` says. Raises `DecodeError`, without showing its value."""
    layout, make = _PARSERS[tag]
    try:
        block = make(layout.parse(value))
    except ConstructError:
        raise DecodeError(f"block 0x{tag:02X} has the wrong length") from None
    if (fault := _fault(block)) is not None:
        raise DecodeError(fault)
    return block


def said_by(blocks: Sequence[object]) -> Traits:
    """Return the traits that blocks say; the opposite of `trait_blocks`."""
    receiver, parental, pin_reset, region = None, 0, 0, 0
    for block in blocks:
        match block:
            case PairingBlock():
                receiver = block.receiver
            case RegionBlock():
                region = block.region
            case ParentalBlock():
                parental = block.age
            case PinResetBlock():
                pin_reset = block.mark
            case _:
                pass
    return Traits(receiver, parental=parental, pin_reset=pin_reset, region=region)


def is_said_twice(blocks: Sequence[object]) -> bool:
    """Whether a kind of these blocks stands there more than once, which no card takes."""
    kinds = [type(block) for block in blocks if isinstance(block, TraitBlock)]
    return len(set(kinds)) != len(kinds)


def _fault(block: TraitBlock) -> str | None:
    match block:
        case PairingBlock():
            if not receiver_number.is_number(block.receiver):
                return "a pairing block names no receiver: the check byte of its number is wrong"
            if len(block.key) != KEY_SIZE:
                return f"the key of a pair has {KEY_SIZE} bytes"
        case RegionBlock():
            if not 1 <= block.region <= REGION_MAX:
                return f"a region is a number from 1 to {REGION_MAX}"
        case ParentalBlock():
            if not AGE_MIN <= block.age <= AGE_MAX:
                return f"a parental level is an age from {AGE_MIN} to {AGE_MAX}"
        case PinResetBlock():
            if not 1 <= block.mark <= 0xFFFF_FFFF:
                return "the mark of a PIN reset is a number of 32 bits, from 1 on"
    return None
