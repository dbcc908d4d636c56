"""What a card remembers without power, and the interface of the store that keeps it. Values only; pure."""

from dataclasses import dataclass, field
from typing import Protocol

from cards.mailbox.contents import Mailbox
from cards.memory.pin import Pin
from emm.errors import BuildError
from emm.keys import KeyLadder
from emm.message import PARTS_MAX, EmmKind, Version
from emm.payload import CardState, EmmPayload, RightsBlock
from emm.secret import SIV_KEY_SIZE, Secret
from emm.traits import PairingBlock, Traits, said_by
from protocol.card_number import ADDRESS_MAX


@dataclass(frozen=True, slots=True)
class CardKeys:
    """The keys of one key version that a card is born with: its own, its group's, and the one of all cards."""

    key_version: int
    card_key: Secret
    group_key: Secret
    global_key: Secret

    def __post_init__(self) -> None:
        if not 0 <= self.key_version <= 0xFF:
            raise BuildError(f"a key version is one byte, not {self.key_version}")
        if any(len(key) != SIV_KEY_SIZE for key in (self.card_key, self.group_key, self.global_key)):
            raise BuildError(f"the keys of a card have {SIV_KEY_SIZE} bytes each")

    @classmethod
    def derive(cls, ladder: KeyLadder, address: int, key_version: int = 1) -> "CardKeys":
        """The keys that the headend with this ladder uses for the card `address`."""
        return cls(
            key_version,
            ladder.card_key(address, key_version),
            ladder.group_key(address >> 8, key_version),
            ladder.global_key(key_version),
        )

    def key(self, kind: EmmKind) -> Secret:
        """The key under which EMMs of that kind are sealed."""
        return {EmmKind.UNIQUE: self.card_key, EmmKind.GROUP: self.group_key, EmmKind.GLOBAL: self.global_key}[kind]


@dataclass(frozen=True, slots=True)
class Collection:
    """The parts held so far of a version that is not complete, by part number."""

    version: Version
    last_part: int
    parts: tuple[tuple[int, EmmPayload], ...]

    def __post_init__(self) -> None:
        numbers = [number for number, _ in self.parts]
        if not 0 <= self.last_part < PARTS_MAX or any(not 0 <= number <= self.last_part for number in numbers):
            raise BuildError(f"part numbers are 0..{PARTS_MAX - 1}, the last part's the highest")
        if len(set(numbers)) != len(numbers):
            raise BuildError("a part of a version is held once")

    @property
    def complete(self) -> bool:
        """Whether every part is here."""
        return len(self.parts) == self.last_part + 1

    def holds(self, part: int) -> bool:
        """Whether this part is here."""
        return any(number == part for number, _ in self.parts)


@dataclass(frozen=True, slots=True)
class Track:
    """What a card has heard in EMMs of one kind: the version it took, with its parts, and the one it collects."""

    held: Version | None = None
    content: tuple[EmmPayload, ...] = ()
    collecting: Collection | None = None


@dataclass(frozen=True, slots=True)
class CardMemory:
    """All of a card's non-volatile memory; a new value replaces the old one as a whole.

    `last_time`: time of an ECM that the card opened, UTC seconds, 0 for none; it may lag (docs/card.md).
    """

    address: int
    keys: CardKeys
    tracks: dict[EmmKind, Track] = field(default_factory=lambda: {kind: Track() for kind in EmmKind})
    last_time: int = 0
    mailbox: Mailbox = field(default_factory=Mailbox)
    pin: Pin = field(default_factory=Pin)

    def __post_init__(self) -> None:
        if not 0 <= self.address <= ADDRESS_MAX:
            raise BuildError(f"card address {self.address} is outside of 0..{ADDRESS_MAX}")
        if not 0 <= self.last_time <= 0xFFFF_FFFF:
            raise BuildError("a time has 32 bits")

    @property
    def state(self) -> CardState | None:
        """What the unique EMM that was taken says about the card; None when none was taken yet."""
        track = self.tracks[EmmKind.UNIQUE]
        return track.content[0].state if track.held is not None and track.content else None

    @property
    def rights(self) -> tuple[RightsBlock, ...]:
        """All rights that the card holds, with their keys."""
        return tuple(block for part in self.tracks[EmmKind.UNIQUE].content for block in part.rights)

    @property
    def pairing(self) -> PairingBlock | None:
        """The receiver that the card serves alone, and the key of the pair; None when it serves any."""
        content = self.tracks[EmmKind.UNIQUE].content
        return next((part.pairing for part in content if part.pairing is not None), None)

    @property
    def traits(self) -> Traits:
        """What the unique EMM that was taken says besides rights."""
        return said_by([block for part in self.tracks[EmmKind.UNIQUE].content for block in part.blocks])


class Storage(Protocol):
    """A card's non-volatile memory."""

    def load(self) -> CardMemory:
        """Read what was stored last. Raises StorageError."""
        ...

    def store(self, memory: CardMemory) -> None:
        """Replace all: after a loss of power at any moment either the old or the new is there.

        Raises StorageError; then `load` gives the old or the new.
        """
        ...
