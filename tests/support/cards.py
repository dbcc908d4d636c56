"""Cards for tests: fixed keys, a store in memory, and the headend's side of EMMs and ECMs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cards.application import CardApplication
from cards.errors import StorageError
from cards.memory.contents import CardKeys, CardMemory
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import Version
from emm.pairing import ReceiverIdentity
from emm.plan import Right, plan_card
from emm.seal import EmmSealer
from emm.traits import NO_TRAITS, Traits
from protocol import receiver_number

LADDER = KeyLadder(LocalMasterKey(bytes(range(32))))
OTHER_LADDER = KeyLadder(LocalMasterKey(bytes(range(1, 33))))
CALENDAR = Calendar()
ADDRESS = 12_345_678_901
KEYS = CardKeys.derive(LADDER, ADDRESS)
NOW = 1_795_000_000
PERIOD = CALENDAR.period(NOW)
EPOCH = CALENDAR.epoch(NOW)
WORDS = (b"\xa1evenCW\x01", b"\xb2odd CW\x02")
SESSION_KEY = bytes(range(100, 116))


@dataclass
class MemoryStorage:
    """A store that a test can make fail."""

    memory: CardMemory = field(default_factory=lambda: CardMemory(ADDRESS, KEYS))
    broken: bool = False
    writes: int = 0

    def load(self) -> CardMemory:
        return self.memory

    def store(self, memory: CardMemory) -> None:
        if self.broken:
            raise StorageError("the memory is worn out")
        self.writes += 1
        self.memory = memory


def receiver(serial: int, ladder: KeyLadder = LADDER) -> ReceiverIdentity:
    """A receiver as its maker makes it."""
    number = receiver_number.of_serial(serial)
    return ReceiverIdentity(number, ladder.pairing_key(number))


def blank_card(storage: MemoryStorage | None = None) -> CardApplication:
    """A card that has taken no EMM yet."""
    return CardApplication(storage or MemoryStorage())


def emm(
    *rights: Right,
    revision: int = 1,
    period: int = PERIOD,
    suspended: bool = False,
    address: int = ADDRESS,
    key_version: int = 1,
    ladder: KeyLadder = LADDER,
    traits: Traits = NO_TRAITS,
) -> tuple[bytes, ...]:
    """The sections of a card's EMM."""
    content = plan_card(suspended, rights, period, CALENDAR, traits)
    return EmmSealer(ladder).unique(address, key_version, Version(period, revision), content)


def ecm(
    *product_ids: int,
    time: int = NOW,
    epoch: int | None = None,
    words: Sequence[bytes] = WORDS,
    parity: Parity = Parity.EVEN,
    ladder: KeyLadder = LADDER,
) -> bytes:
    """An ECM of a service that is in these products."""
    header = EcmHeader(parity, time, 7, CALENDAR.epoch(time) if epoch is None else epoch)
    return EcmSealer(ladder).seal(header, product_ids, words, SESSION_KEY)
