"""A workshop for tests: real chips in software, a real ledger on disk, and faults wherever one may happen."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from cad.ledger.acts import stock
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.store import Store
from cad.stock.batch_file import BatchOrder
from cad.stock.journal import Journal
from cad.stock.maker import Keys, Maker
from cad.stock.transport_keys import Delivery
from cards.application import DEFAULT_AID
from cards.errors import CardRemovedError, StorageError
from cards.globalplatform.card_state import CardState
from cards.globalplatform.chip import Chip
from cards.globalplatform.commands import CardLifeCycle
from cards.globalplatform.dialogue import link, run
from cards.globalplatform.personalisation import initialise
from cards.globalplatform.scp03.keys import INITIAL_VERSION
from emm.keys import LocalMasterKey
from tests.support.globalplatform import POLICY, TRANSPORT, Counter, static_keys, terms
from tests.support.ledgers import NOW

MASTER = bytes(range(32))
OPERATOR, BATCH = "karjaa", "box-1"
TRANSPORT_KEY = hashlib.sha256(b"the vendor's transport key").digest()


def serial(number: int) -> bytes:
    return bytes.fromhex("CAFE") + number.to_bytes(8, "big")


def chip_in(folder: Path, number: int) -> Chip:
    """A chip as its vendor delivers it: transport keys on it, INITIALIZED."""
    place = folder / f"chip-{number}"
    place.mkdir()
    chip = Chip.create(place, serial(number), static_keys(INITIAL_VERSION, serial(number)), POLICY)
    run(initialise(link(extended=False), terms(), TRANSPORT), lambda command: _carry(chip, command))
    chip.reset()
    return chip


def _carry(chip: Chip, command):
    from cards.apdu import ResponseApdu

    return ResponseApdu.decode(chip.process(command.encode()))


def delivery(count: int, master=None) -> Delivery:
    """Transport keys of the chips 0 to count - 1."""
    made = Delivery("Chips Ltd", "D-17", TRANSPORT, {}, master or LocalMasterKey(MASTER))
    for number in range(count):
        made.put(serial(number).hex().upper(), static_keys(TRANSPORT, serial(number)))
    return made


def vendor_file(count: int, key: bytes = TRANSPORT_KEY) -> bytes:
    """The same delivery as its vendor writes it."""
    from cards.globalplatform.scp03.keys import AesKey

    def chip(number: int) -> dict[str, object]:
        keys = static_keys(TRANSPORT, serial(number))
        named = {"enc": keys.enc, "mac": keys.mac, "dek": keys.dek}
        wrapped = {name: aes_key_wrap(key, one.reveal()).hex() for name, one in named.items()}
        values = {name: one.check_value().hex() for name, one in named.items()}
        return {"serial": serial(number).hex(), **wrapped, "kcv": values}

    document = {
        "format": "cad-vendor-keys-1",
        "vendor": "Chips Ltd",
        "delivery": "D-17",
        "key_version": TRANSPORT,
        "transport_key_kcv": AesKey(key).check_value().hex(),
        "chips": [chip(number) for number in range(count)],
    }
    return json.dumps(document).encode()


def order(count: int, **changed: object) -> BatchOrder:
    """A batch of `count` cards."""
    return BatchOrder.model_validate(
        {"batch": BATCH, "operator": OPERATOR, "count": count, "transport_keys": "unused", **changed}
    )


class KilledError(BaseException):
    """Stands for kill -9: nothing catches it."""


@dataclass
class Trouble:
    """Counts calls, and at one of them does what a test wants: before the call, or after it with the answer lost."""

    at: int = -1
    after: bool = False
    error: Callable[[], BaseException] = KilledError
    calls: int = 0

    def around(self, work: Callable[[], object]) -> object:
        here, self.calls = self.calls == self.at, self.calls + 1
        if here and not self.after:
            raise self.error()
        result = work()
        if here:
            raise self.error()
        return result


def worn_out() -> BaseException:
    return StorageError("the memory is worn out")


def pulled() -> BaseException:
    return CardRemovedError("the card was taken out")


def ledger_gone() -> BaseException:
    return LedgerUnavailable("the disk is full", "make room")


@dataclass
class StoreNumbers:
    """Numbers straight out of a real ledger."""

    store: Store
    trouble: Trouble = field(default_factory=Trouble)

    def _do(self, act, *arguments, **named):
        return self.trouble.around(
            lambda: self.store.perform(lambda batch, held: act(batch, held, *arguments, **named), NOW)
        )

    def reserve(self, operator, batch, count, first):
        found = self._do(stock.reserve, operator, batch, count, first)
        return found.first, found.last

    def claim(self, operator, batch, serial, address, *, begun):
        return self._do(stock.claim, operator, batch, serial, address=address, begun=begun)

    def made(self, serial, address, key_version, check_values):
        self._do(stock.made, serial, address, key_version, check_values)


@dataclass
class FaultyMaster:
    """A key store that may fail at any of its answers."""

    trouble: Trouble
    real: LocalMasterKey = field(default_factory=lambda: LocalMasterKey(MASTER))

    def cmac(self, message: bytes) -> bytes:
        return self.trouble.around(lambda: self.real.cmac(message))


@dataclass
class Workshop:
    """One ledger, one journal, some chips. `run_on` is one start of the program for one chip."""

    folder: Path
    store: Store
    chips: list[Chip]
    random: Counter = field(default_factory=Counter)
    heard: list[bytes] = field(default_factory=list)

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal"

    def maker(self, journal: Journal, numbers=None, master=None, again: bool = False) -> Maker:
        master = master or LocalMasterKey(MASTER)
        keys = Keys(master, delivery(len(self.chips)), self.random)
        made = Maker(
            order(len(self.chips)), DEFAULT_AID, keys, numbers or StoreNumbers(self.store), journal, again=again
        )
        made.begin()
        return made

    def run_on(
        self,
        number: int,
        reader: Trouble | None = None,
        ledger: Trouble | None = None,
        keys: Trouble | None = None,
        disk: Trouble | None = None,
        card: Trouble | None = None,
    ):
        """Make the card of one chip, with a fault somewhere; `card` is the chip's memory. It has no power before."""
        self.chips[number].close()
        chip = self.chips[number] = Chip.open(self.folder / f"chip-{number}", POLICY)
        reader, memory = reader or Trouble(), chip._manager_file
        if card is not None:
            put = memory.write
            memory.write = lambda content: card.around(lambda: put(content))

        def transmit(command: bytes) -> bytes:
            self.heard.append(command)
            answer = reader.around(lambda: chip.process(command))
            self.heard.append(answer)
            return answer

        with Journal.open(self.journal_path, lambda: "2027-01-15T08:00:00Z") as journal:
            if disk is not None:
                write = journal._write
                journal._write = lambda kind, **facts: disk.around(lambda: write(kind, **facts))
            numbers = StoreNumbers(self.store, ledger or Trouble())
            return self.maker(journal, numbers, FaultyMaster(keys or Trouble())).make(transmit, "reader")

    def check(self) -> None:
        """Every chip is a finished card of its own number; ledger, journal and chips say the same."""
        addresses: list[int] = []
        with Journal.open(self.journal_path, lambda: "") as journal:
            records = dict(journal.chips)
        for number, chip in enumerate(self.chips):
            name = serial(number).hex().upper()
            state: CardState = chip.state
            assert state.life_cycle is CardLifeCycle.SECURED
            assert [one.keys.version for one in state.key_sets] == [0x31]
            assert all(one.tries_left == 10 for one in state.key_sets)
            assert state.personal is not None
            assert state.personal.identity is not None
            known = self.store.read(lambda held, name=name: stock.find(held, name))
            assert known is not None
            assert known.made_at is not None
            assert state.personal.identity.address == known.address == records[name].address
            own = state.key_sets[0].keys
            shown = {n: k.check_value().hex().upper() for n, k in zip(("enc", "mac", "dek"), own.keys, strict=True)}
            shown |= {
                f"{key.purpose.name.lower()}-{key.version}": key.key.check_value().hex().upper()
                for key in state.personal.keys
            }
            assert known.check_values == shown == records[name].check_values
            addresses.append(known.address)
        assert len(set(addresses)) == len(addresses)
