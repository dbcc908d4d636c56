"""Where the laptop learns what a card should hold: the headend, or the extract taken along."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cad.errors import NotFoundError
from cad.field.api import HeadendApi
from cad.field.laptop import Laptop
from cad.technicians.documents import CardFact, EmmAnswer, Extract, ExtractCard, Network

Authenticate = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a card. `now`: UTC seconds to judge by. `live`: asked just now."""

    card: CardFact
    network: Network
    now: float
    live: bool


class Truth(Protocol):
    """Raises NotFoundError for a card that it does not know."""

    @property
    def extract(self) -> Extract | None:
        """The extract that it is, or None with network."""
        ...

    def card(self, number: str, reader: str) -> Known:
        """What is known of a card."""
        ...

    def prove(self, number: str, authenticate: Authenticate, reader: str) -> bool:
        """Whether the card that `authenticate` speaks to is the card of that number."""
        ...

    def emm(self, number: str, reader: str) -> EmmAnswer:
        """The card's current EMM."""
        ...


class Headend:
    """The headend itself."""

    extract: Extract | None = None

    def __init__(self, api: HeadendApi) -> None:
        self._api = api

    def card(self, number: str, reader: str) -> Known:
        """What the ledger says now, by the headend's clock."""
        answer = self._api.card(number, reader)
        return Known(answer.card, answer.network, answer.now, live=True)

    def prove(self, number: str, authenticate: Authenticate, reader: str) -> bool:
        """The headend draws a challenge and checks the answer."""
        challenge = self._api.challenge(number, reader)
        return self._api.prove(number, challenge, authenticate(challenge), reader)

    def emm(self, number: str, reader: str) -> EmmAnswer:
        """What is on the air for the card."""
        return self._api.emm(number, reader)


class TakenAlong:
    """An extract, used at `now` by the laptop's clock."""

    def __init__(self, laptop: Laptop, now: float) -> None:
        """Raises ExtractError."""
        self._laptop = laptop
        self._now = now
        self.extract: Extract | None = (found := laptop.extract(now))
        self._network = found.network
        self._cards = {one.card.number: one for one in found.cards}

    def card(self, number: str, reader: str) -> Known:
        """What the ledger said when the extract was made."""
        return Known(self._find(number).card, self._network, self._now, live=False)

    def prove(self, number: str, authenticate: Authenticate, reader: str) -> bool:
        """One of the prepared challenges; the extract has only the hash of its answer."""
        prepared = self._find(number).challenges
        chosen = prepared[self._laptop.next_challenge(number, len(prepared))]
        answer = authenticate(bytes.fromhex(chosen.challenge))
        return hmac.compare_digest(hashlib.sha256(answer).hexdigest(), chosen.digest)

    def emm(self, number: str, reader: str) -> EmmAnswer:
        """The EMM that was current when the extract was made."""
        return self._find(number).emm

    def _find(self, number: str) -> ExtractCard:
        if number not in self._cards:
            raise NotFoundError(f"the extract taken along does not hold card {number}; it can be checked with network")
        return self._cards[number]
