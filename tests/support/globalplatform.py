"""Chips for tests: memories that can fail, keys that are known, and a reader that stops when it is told to."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID
from cards.errors import StorageError
from cards.globalplatform.card_manager import CardManager, ManagerPolicy
from cards.globalplatform.card_state import CardState
from cards.globalplatform.data_groups import CardIdentity, PersonalData, ca_keys
from cards.globalplatform.dialogue import Dialogue, Processor, SecureMessaging, T, link, run
from cards.globalplatform.errors import KeySetUnknownError
from cards.globalplatform.personalisation import (
    ChannelTerms,
    KeyRing,
    PersonalisationOrder,
    Receipt,
    initialise,
    open_channel,
    personalise,
    read_chip,
)
from cards.globalplatform.scp03.keys import INITIAL_VERSION, AesKey, Mode, SecurityLevel, StaticKeys
from cards.memory.contents import CardKeys
from tests.support.cards import ADDRESS, KEYS, LADDER

POLICY = ManagerPolicy(DEFAULT_AID)
SERIAL = bytes.fromhex("00112233445566778899")
TRANSPORT, OWN = 0x30, 0x31
ISSUER = "Telco of the tests"
IDENTITY = CardIdentity(ADDRESS, ISSUER, DEFAULT_AID)
DATA = PersonalData(IDENTITY, ca_keys(KEYS))
ORDER = PersonalisationOrder(TRANSPORT, OWN, DATA)
# Two key versions need two blocks of STORE DATA.
LONG_DATA = PersonalData(IDENTITY, DATA.keys + ca_keys(CardKeys.derive(LADDER, ADDRESS, 2)))
LONG_ORDER = PersonalisationOrder(TRANSPORT, OWN, LONG_DATA)


def static_keys(version: int, serial: bytes = SERIAL, size: int = 16, salt: bytes = b"") -> StaticKeys:
    """Keys of a version on a chip; different for every chip, version, purpose and salt."""

    def key(purpose: bytes) -> AesKey:
        return AesKey(hashlib.sha256(purpose + bytes((version,)) + serial + salt).digest()[:size])

    return StaticKeys(version, key(b"enc"), key(b"mac"), key(b"dek"))


@dataclass
class TestRing:
    """A key ring that knows every chip, and notes what it was asked for."""

    __test__ = False
    size: int = 16
    salt: bytes = b""
    asked: list[tuple[int, bytes]] = field(default_factory=list)
    known: tuple[int, ...] = (INITIAL_VERSION, TRANSPORT, OWN)

    def static_keys(self, version: int, diversification: bytes) -> StaticKeys:
        self.asked.append((version, diversification))
        if version not in self.known:
            raise KeySetUnknownError(f"no keys of version {version:02X}", version)
        return static_keys(version, diversification, self.size, self.salt)


@dataclass
class Counter:
    """Stands for the operating system's generator: never the same bytes twice."""

    used: int = 0

    def __call__(self, size: int) -> bytes:
        self.used += 1
        return hashlib.sha256(self.used.to_bytes(8, "big")).digest()[:size]


def terms(
    ring: KeyRing | None = None,
    mode: Mode = Mode.S16,
    level: SecurityLevel = SecurityLevel.C_MAC_C_ENC_R_MAC_R_ENC,
    random: Callable[[int], bytes] | None = None,
) -> ChannelTerms:
    return ChannelTerms(ring or TestRing(), random or Counter(), mode, level)


@dataclass
class Memory:
    """A manager's memory that a test can look into and make fail."""

    content: bytes | None = None
    broken: bool = False
    writes: int = 0
    on_write: Callable[[], None] | None = None

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        if self.broken:
            raise StorageError("the memory is worn out")
        self.writes += 1
        self.content = content
        if self.on_write is not None:
            self.on_write()

    @property
    def state(self) -> CardState:
        assert self.content is not None
        return CardState.decode(self.content)


def stock(*, size: int = 16, policy: ManagerPolicy = POLICY) -> tuple[CardManager, Memory]:
    """A chip from the factory."""
    memory = Memory(CardState.stock(SERIAL, static_keys(INITIAL_VERSION, size=size)).encode())
    return CardManager(memory, policy), memory


class PulledError(Exception):
    """The card was pulled out of the test's reader."""


@dataclass
class Reader:
    """Carries APDUs to a card manager. After `pull_after` commands the card is gone: before it hears the next one,
    or with `answer_lost` right after it has worked on that one."""

    manager: CardManager
    pull_after: int | None = None
    answer_lost: bool = False
    heard: list[CommandApdu] = field(default_factory=list)
    answered: list[ResponseApdu] = field(default_factory=list)

    def transmit(self, command: CommandApdu) -> ResponseApdu:
        gone = self.pull_after is not None and len(self.heard) >= self.pull_after
        if gone and not self.answer_lost:
            raise PulledError
        self.heard.append(command)
        if (command.cla, command.ins, command.p1) == (0x00, 0xA4, 0x04):
            response = self.manager.select(command.data) or ResponseApdu(0x6A82)
        else:
            response = self.manager.answer(command)
        self.answered.append(response)
        if gone:
            raise PulledError
        return response

    def run(self, dialogue: Dialogue[T]) -> T:
        """Drive a dialogue; a pulled card loses its power."""
        try:
            return run(dialogue, self.transmit)
        except PulledError:
            self.manager.reset()
            raise

    def open(self, version: int, **how: object) -> SecureMessaging:
        """A channel with the right keys."""
        return self.run(open_channel(link(extended=True), terms(**how), version))  # type: ignore[arg-type]


def whole_life(how: Processor, channel_terms: ChannelTerms, order: PersonalisationOrder = ORDER) -> Dialogue[Receipt]:
    """The vendor's part and ours, as far as they are still to be done."""
    chip = yield from read_chip(how)
    if OWN not in chip.key_versions:
        yield from initialise(how, channel_terms, TRANSPORT)
    return (yield from personalise(how, channel_terms, order, lambda _: None))
