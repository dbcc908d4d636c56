"""The card manager's non-volatile memory: what it holds, how it is spelled, and the rules of a card's life."""

import json
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cards.errors import CardsError, StorageError
from cards.globalplatform.commands import ApplicationLifeCycle, CardLifeCycle
from cards.globalplatform.data_groups import CaKey, CardIdentity, KeyPurpose, PersonalData
from cards.globalplatform.scp03.host import DIVERSIFICATION_SIZE
from cards.globalplatform.scp03.keys import INITIAL_VERSION, AesKey, StaticKeys

FORMAT: Final = 1
TRIES_MAX: Final = 10
KEY_SETS_MAX: Final = 4
SEQUENCE_MAX: Final = 0xFFFFFF

# GlobalPlatform Card Specification clause 5.1: from state to state. Every state leads to TERMINATED, and none from it.
_LIFE: Final[dict[CardLifeCycle, tuple[CardLifeCycle, ...]]] = {
    CardLifeCycle.OP_READY: (CardLifeCycle.INITIALIZED, CardLifeCycle.TERMINATED),
    CardLifeCycle.INITIALIZED: (CardLifeCycle.SECURED, CardLifeCycle.TERMINATED),
    CardLifeCycle.SECURED: (CardLifeCycle.CARD_LOCKED, CardLifeCycle.TERMINATED),
    CardLifeCycle.CARD_LOCKED: (CardLifeCycle.SECURED, CardLifeCycle.TERMINATED),
    CardLifeCycle.TERMINATED: (),
}


class ManagerMemory(Protocol):
    """Memory that keeps its content without power. `write` replaces all of it or nothing, and is on the medium when
    it returns; it raises StorageError, and then the old content stands.
    """

    def read(self) -> bytes | None:
        """The content, None when nothing was ever written."""
        ...

    def write(self, content: bytes) -> None:
        """Replace the content."""
        ...


@dataclass(frozen=True, slots=True)
class KeySet:
    """A key set with its tries left and the sequence counter of its challenges."""

    keys: StaticKeys
    tries_left: int = TRIES_MAX
    sequence: int = 0

    @property
    def blocked(self) -> bool:
        """Whether it may not be used any more."""
        return self.tries_left == 0 or self.sequence >= SEQUENCE_MAX


@dataclass(frozen=True, slots=True)
class CardState:
    """All that a card manager remembers. `serial`: 10 bytes, told as diversification data; never changes."""

    serial: bytes
    key_sets: tuple[KeySet, ...]
    life_cycle: CardLifeCycle = CardLifeCycle.OP_READY
    personal: PersonalData | None = None
    application_locked: bool = False

    @classmethod
    def stock(cls, serial: bytes, initial: StaticKeys) -> "CardState":
        """A chip as it leaves the factory, with its initial keys."""
        if len(serial) != DIVERSIFICATION_SIZE:
            raise StorageError(f"a chip's serial number has {DIVERSIFICATION_SIZE} bytes, not {len(serial)}")
        return cls(serial, (KeySet(initial),))

    @property
    def application_life_cycle(self) -> ApplicationLifeCycle:
        """State of the conditional-access application."""
        if self.personal is None:
            return ApplicationLifeCycle.SELECTABLE
        locked = self.application_locked
        return ApplicationLifeCycle.LOCKED_PERSONALIZED if locked else ApplicationLifeCycle.PERSONALIZED

    @property
    def application_usable(self) -> bool:
        """Whether the conditional-access application may be selected."""
        return self.life_cycle is CardLifeCycle.SECURED and not self.application_locked

    def key_set(self, version: int) -> KeySet | None:
        """The key set of this version; 0 is the first one (Amendment D clause 7.1.1.2)."""
        return next((found for found in self.key_sets if version in (0, found.keys.version)), None)

    def with_key_set(self, changed: KeySet) -> "CardState":
        """This state with one key set changed."""
        version = changed.keys.version
        return replace(self, key_sets=tuple(changed if s.keys.version == version else s for s in self.key_sets))

    def may_become(self, target: CardLifeCycle) -> bool:
        """Whether the life of the card may go to `target` now; where it already is, it may stay."""
        if target is self.life_cycle:
            return True
        if target is CardLifeCycle.INITIALIZED and self.key_set(INITIAL_VERSION) is not None:
            return False
        if target is CardLifeCycle.SECURED and self.personal is None:
            return False
        return target in _LIFE[self.life_cycle]

    def become(self, target: CardLifeCycle) -> "CardState":
        """The card at `target`. A terminated card forgets every key."""
        if target is not CardLifeCycle.TERMINATED:
            return replace(self, life_cycle=target)
        personal = None if self.personal is None else replace(self.personal, keys=())
        return replace(self, life_cycle=target, key_sets=(), personal=personal)

    def encode(self) -> bytes:
        """The content of the memory. It holds the keys in clear, as a chip's memory does."""
        return json.dumps(_spell(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, content: bytes) -> "CardState":
        """Read the content of the memory. Raises StorageError, without the content in it."""
        try:
            return _read(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError, CardsError):
            raise StorageError(
                "the memory of the card manager is damaged or of another format",
                "restore the card's state file, or make a new card",
            ) from None


def _spell(state: CardState) -> dict[str, Any]:
    personal = state.personal
    identity = personal.identity if personal is not None else None
    return {
        "format": FORMAT,
        "serial": state.serial.hex(),
        "life_cycle": int(state.life_cycle),
        "application_locked": state.application_locked,
        "key_sets": [
            {
                "version": s.keys.version,
                "keys": [key.reveal().hex() for key in s.keys.keys],
                "tries_left": s.tries_left,
                "sequence": s.sequence,
            }
            for s in state.key_sets
        ],
        "identity": None
        if identity is None
        else {"address": identity.address, "issuer": identity.issuer, "aid": identity.aid.hex()},
        "ca_keys": [
            {"purpose": int(k.purpose), "version": k.version, "key": k.key.reveal().hex()}
            for k in (personal.keys if personal is not None else ())
        ],
    }


def _read(raw: dict[str, Any]) -> CardState:
    if raw["format"] != FORMAT:
        raise ValueError("another format")
    identity = raw["identity"]
    personal = None
    if identity is not None:
        keys = (
            CaKey(KeyPurpose(k["purpose"]), int(k["version"]), AesKey(bytes.fromhex(k["key"]))) for k in raw["ca_keys"]
        )
        who = CardIdentity(int(identity["address"]), str(identity["issuer"]), bytes.fromhex(identity["aid"]))
        personal = PersonalData(who, tuple(keys))
    key_sets = tuple(
        KeySet(
            StaticKeys(int(s["version"]), *(AesKey(bytes.fromhex(key)) for key in s["keys"])),
            int(s["tries_left"]),
            int(s["sequence"]),
        )
        for s in raw["key_sets"]
    )
    serial = bytes.fromhex(raw["serial"])
    state = CardState(serial, key_sets, CardLifeCycle(raw["life_cycle"]), personal, bool(raw["application_locked"]))
    _check(state)
    return state


def _check(state: CardState) -> None:
    """What no card manager ever wrote is not believed. Raises ValueError."""
    versions = {key_set.keys.version for key_set in state.key_sets}
    tries = all(0 <= key_set.tries_left <= TRIES_MAX for key_set in state.key_sets)
    counters = all(0 <= key_set.sequence <= SEQUENCE_MAX for key_set in state.key_sets)
    if len(state.serial) != DIVERSIFICATION_SIZE or len(versions) != len(state.key_sets) or not tries or not counters:
        raise ValueError("a serial number, key set or counter that cannot be")
    terminated = state.life_cycle is CardLifeCycle.TERMINATED
    if state.personal is not None and not state.personal.complete and not terminated:
        raise ValueError("a personalised card without its keys")
