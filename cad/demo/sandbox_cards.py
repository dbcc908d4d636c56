"""The sandbox's cards: each hears the EMMs that receivers would filter for it, and is asked what it opens."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

from cad.demo.place import DemoPlace
from cad.demo.receiver import card_filters
from cad.demo.sandbox_place import CHANNELS, PRODUCTS
from cad.demo.screen import Screen
from cad.frame.clock import Clock
from cards.errors import CardRefusedError, PairedError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.notices.content import Message
from emm.pairing import ReceiverIdentity
from protocol import card_number, receiver_number

RECEIVERS_FROM: Final = 0x5A_0000_0000_0000
"""Serials of the sandbox's receivers: this and the address of the card in them."""


def receiver_of(address: int) -> int:
    """The number of the receiver in which the sandbox has the card of that address."""
    return receiver_number.of_serial(RECEIVERS_FROM + address)


class SandboxCard:
    """A software card in a receiver of its own, `receiver`. `paired_with`: the other receiver that it serves now."""

    def __init__(self, place: DemoPlace, address: int, clock: Clock) -> None:
        self.number = card_number.spell(address)
        self.opens: tuple[str, ...] = ()
        self.paired_with: str | None = None
        identity = ReceiverIdentity(number := receiver_of(address), place.ladder.pairing_key(number))
        self.receiver = receiver_number.spell(number)
        self._clock = clock
        settings = place.settings
        self._calendar = Calendar(
            settings.calendar.period_days, settings.calendar.epoch_periods, settings.calendar.overlap_periods
        )
        self._sealer = EcmSealer(place.ladder)
        keys = CardKeys.derive(place.ladder, address)
        self._card = SoftwareCard.create(place.directory / f"card-{self.number}", address, keys, settings.ca.card_aid)
        self._session = CardSession(self._card.process, settings.ca.card_aid, identity)
        self._filters = card_filters(address)
        self._screen = Screen(self._session, address)

    def hear(self, sections: tuple[bytes, ...]) -> None:
        """Take what is for this card."""
        for section in sections:
            if any(one.passes(section) for one in self._filters):
                self._session.process_emm(section)

    def screen(self) -> list[str]:
        """What its receiver, tuned to the first channel that opens, shows on the screen and has not shown before."""
        return self._screen.look(CHANNELS[self.opens[0]] if self.opens else None)

    def mailbox(self) -> list[str]:
        """Messages that wait to be read, in the first language."""
        letters = self._session.letters()
        return [notice.texts[0][1] for held, notice in letters if isinstance(notice, Message) and not held.done]

    def look(self) -> bool:
        """Find out which channels open now; returns whether that has changed."""
        before = self.opens, self.paired_with
        self.paired_with = None
        self.opens = tuple(channel for channel in CHANNELS if self._opens(channel))
        return before != (self.opens, self.paired_with)

    def _opens(self, channel: str) -> bool:
        at = self._clock.now()
        products = [number for number, channels in PRODUCTS.values() if channel in channels]
        header = EcmHeader(Parity.EVEN, int(at), CHANNELS[channel], self._calendar.epoch(at))
        ecm = self._sealer.seal(header, products, [os.urandom(8), os.urandom(8)], os.urandom(16))
        try:
            self._session.process_ecm(ecm)
        except CardRefusedError:
            return False
        except PairedError as elsewhere:
            self.paired_with = elsewhere.receiver
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._card.close()
