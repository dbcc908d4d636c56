"""What a card's EMM says of the card besides its rights: blocks of their own, which cost nothing where nothing is said.

Declared once; docs/emm.md in prose. Only a unique EMM carries them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from construct import Bytes, ConstructError, Int64ub, Struct, Terminated

from emm.errors import BuildError, DecodeError
from emm.secret import KEY_SIZE, Secret
from protocol import receiver_number

PAIRING_TAG: Final = 0x02


@dataclass(frozen=True, slots=True)
class Traits:
    """What the ledger says of a card besides its rights.

    `receiver`: number of the one receiver that it serves (`protocol.receiver_number`), None for any.
    """

    receiver: int | None = None


NO_TRAITS: Final = Traits()


@dataclass(frozen=True, slots=True)
class PairingBlock:
    """Block 0x02: the card seals control words for `receiver`, under the key of the pair (`emm.pairing`)."""

    receiver: int
    key: Secret = field(repr=False)


TraitBlock = PairingBlock

_PAIRING: Final = Struct("receiver" / Int64ub, "key" / Bytes(KEY_SIZE), Terminated)
_PAIRING_SIZE: Final = 8 + KEY_SIZE
TAGS: Final = frozenset({PAIRING_TAG})
"""Tags of the blocks declared here. Each stands in an EMM once at most."""


def trait_sizes(traits: Traits) -> tuple[int, ...]:
    """Return the bytes of each block that says these traits, with tag and length; the order of `trait_blocks`."""
    return () if traits.receiver is None else (2 + _PAIRING_SIZE,)


def trait_blocks(traits: Traits, pair_key: Secret | None) -> tuple[TraitBlock, ...]:
    """Return the blocks that say these traits. `pair_key`: of the card with its receiver, where it has one."""
    if traits.receiver is None:
        return ()
    if pair_key is None:
        raise BuildError("a pairing is said with the key of the pair")
    return (PairingBlock(traits.receiver, pair_key),)


def build_trait(block: TraitBlock) -> tuple[int, bytes]:
    """Return tag and value of a block. Raises `BuildError`."""
    if (fault := _fault(block)) is not None:
        raise BuildError(fault)
    return PAIRING_TAG, bytes(_PAIRING.build({"receiver": block.receiver, "key": bytes(block.key)}))


def parse_trait(tag: int, value: bytes) -> TraitBlock:
    """Return what a block with one of `TAGS` says. Raises `DecodeError`, without showing its value."""
    fields = _parse(_PAIRING, value, "pairing")
    block = PairingBlock(fields.receiver, Secret(fields.key))
    if (fault := _fault(block)) is not None:
        raise DecodeError(fault)
    return block


def is_said_twice(blocks: Sequence[object]) -> bool:
    """Whether a kind of these blocks stands there more than once, which no card takes."""
    kinds = [type(block) for block in blocks if isinstance(block, TraitBlock)]
    return len(set(kinds)) != len(kinds)


def _fault(block: TraitBlock) -> str | None:
    if not receiver_number.is_number(block.receiver):
        return "a pairing block names no receiver: the check byte of its number is wrong"
    if len(block.key) != KEY_SIZE:
        return f"the key of a pair has {KEY_SIZE} bytes"
    return None


def _parse(layout: Any, value: bytes, name: str) -> Any:
    try:
        return layout.parse(value)
    except ConstructError:
        raise DecodeError(f"a {name} block has the wrong length") from None
