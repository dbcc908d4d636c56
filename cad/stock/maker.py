"""Make one card of the chip in a reader, or finish one that was begun.

The order of writing keeps one number on one card: number bound in the ledger, journal on the disk, keys and identity on
the chip, number read back, journal, ledger. Whatever is broken off is taken up where the chip and the ledger say it
stands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cad.errors import NumbersUsedUpError, StockRefusedError
from cad.stock.batch_file import BatchOrder
from cad.stock.desk import Numbers
from cad.stock.journal import ChipRecord, Head, Journal
from cad.stock.transport_keys import Delivery
from cards.apdu import CommandApdu, ResponseApdu
from cards.errors import CardsError
from cards.globalplatform.data_groups import CardIdentity, PersonalData, ca_keys
from cards.globalplatform.dialogue import link, run
from cards.globalplatform.errors import (
    AuthenticationRefusedError,
    KeyCheckError,
    KeySetBlockedError,
    KeySetUnknownError,
    OtherIdentityError,
    WrongKeyError,
)
from cards.globalplatform.key_ring import DerivedKeyRing
from cards.globalplatform.personalisation import (
    ChannelTerms,
    ChipReading,
    PersonalisationOrder,
    Random,
    Step,
    personalise,
    read_chip,
)
from cards.memory.contents import CardKeys
from cards.session import CardSession
from emm.keys import KeyLadder
from emm.ports import MasterKey
from protocol import card_number

KEY_VERSION: Final = 1
"""The key version with which `card assign` takes a card into use."""

SUSPECT: Final = (
    AuthenticationRefusedError,
    KeyCheckError,
    KeySetBlockedError,
    OtherIdentityError,
    WrongKeyError,
)
"""Errors after which a chip is put aside: trying again by itself could cost a try of its keys."""

Transmit = Callable[[bytes], bytes]


class PutAsideError(CardsError):
    """This chip is not to be used, or not without a person's word."""


@dataclass(frozen=True, slots=True)
class MadeCard:
    """A card in stock. `already`: it was so before this run."""

    serial: str
    address: int
    already: bool = False

    @property
    def number(self) -> str:
        """The twelve digits to print on it."""
        return card_number.spell(self.address)


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the keys of a batch come from."""

    master: MasterKey
    delivery: Delivery
    random: Random


class Maker:
    """Makes the cards of one batch. Threads may share it. `told` hears each step that a chip has confirmed.

    `again`: chips that were put aside are tried once more.
    """

    def __init__(
        self,
        order: BatchOrder,
        aid: bytes,
        keys: Keys,
        numbers: Numbers,
        journal: Journal,
        told: Callable[[str, Step], None] = lambda reader, step: None,
        *,
        again: bool = False,
    ) -> None:
        self._order = order
        self._aid = aid
        self._delivery = keys.delivery
        self._ladder = KeyLadder(keys.master)
        ring = DerivedKeyRing(keys.master, order.own_version, keys.delivery)
        self._terms = ChannelTerms(ring, keys.random, order.channel_mode)
        self._numbers = numbers
        self._journal = journal
        self._told = told
        self._again = again

    @property
    def made(self) -> int:
        """How many cards of the batch are in stock."""
        return sum(chip.recorded for chip in self._journal.chips.values())

    def begin(self) -> Head:
        """Reserve the numbers, and tell the ledger all that the journal knows: the last run may have broken off before
        it could, and the ledger may have been put back from a backup.
        """
        order = self._order
        first, last = self._numbers.reserve(order.operator, order.batch, order.count, order.first)
        head = Head(order.operator, order.batch, first, last)
        self._journal.begin(head)
        for chip in list(self._journal.chips.values()):
            self._numbers.claim(order.operator, order.batch, chip.serial, chip.address, begun=True)
            if chip.finished:
                self._record(chip.serial)
        return head

    def make(self, transmit: Transmit, reader: str) -> MadeCard:
        """Make the card, or finish it. Raises PutAsideError for a chip that is not to be used, CardsError for one that
        can be put in again, and CadError when nothing can be made at all at present.
        """
        serial: str | None = None

        def exchange(command: CommandApdu) -> ResponseApdu:
            return ResponseApdu.decode(transmit(command.encode()))

        try:
            chip = run(read_chip(link(extended=False)), exchange)
            serial = chip.serial.hex().upper()
            known = self._journal.chips.get(serial)
            if known is not None and known.recorded:
                return MadeCard(serial, known.address, already=True)
            record = self._bind(chip, serial, known, reader)
            self._personalise(record, exchange, transmit, reader)
            self._record(serial)
            return MadeCard(serial, record.address)
        except PutAsideError as error:
            self._journal.note_failure(reader, serial, error.message)
            raise
        except SUSPECT as error:
            if serial is not None:
                self._journal.put_aside(serial, error.message)
            raise PutAsideError(error.message, error.advice) from error
        except CardsError as error:
            self._journal.note_failure(reader, serial, error.message)
            raise

    def _bind(self, chip: ChipReading, serial: str, known: ChipRecord | None, reader: str) -> ChipRecord:
        """Give the chip its number, in the ledger and the journal, before it hears of it."""
        order = self._order
        begun = order.own_version in chip.key_versions
        if known is not None and known.aside is not None:
            if not self._again:
                raise PutAsideError(
                    f"chip {serial} was put aside: {known.aside}", "use --again to try it once more, else return it"
                )
            self._journal.taken_up(serial)
        if not begun:
            self._demand_transport_keys(chip, serial)
        try:
            address = self._numbers.claim(
                order.operator, order.batch, serial, None if known is None else known.address, begun=begun
            )
        except NumbersUsedUpError:
            raise
        except StockRefusedError as error:
            raise PutAsideError(str(error)) from None
        self._journal.claimed(serial, address, reader)
        return self._journal.chips[serial]

    def _demand_transport_keys(self, chip: ChipReading, serial: str) -> None:
        """Raise before a number is spent on a chip that cannot be opened."""
        delivery = self._delivery
        if serial not in delivery:
            raise PutAsideError(
                f"chip {serial} is not in delivery {delivery.name}", "import the vendor's file of its delivery"
            )
        if delivery.key_version not in chip.key_versions:
            there = ", ".join(f"{version:02X}" for version in chip.key_versions) or "none"
            raise KeySetUnknownError(
                f"chip {serial} has not key set {delivery.key_version:02X} of delivery {delivery.name}, but {there}",
                delivery.key_version,
            )

    def _personalise(
        self, record: ChipRecord, exchange: Callable[[CommandApdu], ResponseApdu], transmit: Transmit, reader: str
    ) -> None:
        def note(step: Step) -> None:
            self._journal.step(record.serial, step.value)
            self._told(reader, step)

        identity = CardIdentity(record.address, self._order.issuer, self._aid)
        data = PersonalData(identity, ca_keys(CardKeys.derive(self._ladder, record.address, KEY_VERSION)))
        order = PersonalisationOrder(self._delivery.key_version, self._order.own_version, data)
        receipt = run(personalise(link(extended=False), self._terms, order, note), exchange)
        read_back = CardSession(transmit, self._aid).read_info()
        if read_back.address != record.address:
            raise KeyCheckError(
                f"the card says it is {read_back.number}, and was made {card_number.spell(record.address)}"
            )
        self._journal.finished(record.serial, receipt.check_values)

    def _record(self, serial: str) -> None:
        chip = self._journal.chips[serial]
        self._numbers.made(serial, chip.address, KEY_VERSION, chip.check_values)
        if not chip.recorded:
            self._journal.recorded(serial)
