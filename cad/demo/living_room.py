"""A living room of the demo: a receiver with a card in it, tuned to a channel."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from cad.demo.outputs import Subscription
from cad.demo.place import SPORT_SERVICE_ID, DemoPlace
from cad.demo.receiver import Receiver, card_filters
from cad.demo.screen import Screen
from cad.frame.clock import Clock
from cards.errors import CardRefusedError, PairedError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from cards.status_word import explain
from protocol import card_number


class LivingRoom:
    """Feeds the stream to a receiver, its sections to the card, and notes when the channel opened. Unix seconds."""

    def __init__(self, place: DemoPlace, address: int, stream: Subscription, clock: Clock) -> None:
        self.number = card_number.spell(address)
        self.emms = 0
        self.emm_at: float | None = None
        self.opened_at: float | None = None
        self.refused_at: float | None = None
        self.refusal = ""
        self._stream = stream
        self._clock = clock
        aid = place.settings.ca.card_aid
        keys = CardKeys.derive(place.ladder, address)
        self._card = SoftwareCard.create(place.directory / f"card-{self.number}", address, keys, aid)
        self._session = CardSession(self._card.process, aid)
        self.screen = Screen(self._session, address)
        self._receiver = Receiver(
            place.settings.ca.ca_system_id, self._on_emm, self._on_ecm, filters=card_filters(address)
        )
        self._receiver.tune(SPORT_SERVICE_ID)

    async def watch(self) -> None:
        """Take the stream until it ends."""
        while packets := await self._stream.read():
            self._receiver.feed(packets)

    def _on_emm(self, section: bytes) -> None:
        self._session.process_emm(section)
        self.emms += 1
        self.emm_at = self._clock.now()
        self.screen.look(SPORT_SERVICE_ID)

    def _on_ecm(self, _service_id: int, section: bytes) -> None:
        try:
            self._session.process_ecm(section)
        except CardRefusedError as refused:
            self.refused_at = self._clock.now()
            self.refusal = explain(refused.sw).meaning
        except PairedError as elsewhere:
            self.refused_at = self._clock.now()
            self.refusal = elsewhere.message
        else:
            if self.opened_at is None:
                self.opened_at = self._clock.now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._card.close()
