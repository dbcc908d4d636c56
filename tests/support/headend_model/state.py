"""What the headend keeps: operators, cards, offers, subscriptions, messages. Times are Unix seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

DAY = 86_400
OPEN = ("assigned", "active")
IN_HANDS = (*OPEN, "suspended")
REPORTED = ("lost", "stolen", "defective")
NOBODYS = ("stock", "returned")


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The command is rejected with this code; of a choice with the moment from when on it can be changed."""

    def __init__(self, code: str, next_change_at: int | None = None) -> None:
        super().__init__(code)
        self.code, self.next_change_at = code, next_change_at


@dataclass(frozen=True)
class Operator:
    """What the settings say of an operator: slugs and their numbers, its cards, where it counts its months."""

    products: Mapping[str, int]
    cards: range
    zone: ZoneInfo
    services: Mapping[str, int] = field(default_factory=dict)
    events_on: tuple[str, ...] = ()
    regions: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Card:
    """A card, and for which home it is set up. `given`: how often it was given to somebody."""

    operator: str
    state: str = "stock"
    subscriber: str = ""
    rev: int = -1
    blocked: bool = False
    open_until: int | None = None
    given: int = 0
    receiver: int | None = None
    region: int = 0
    level: int = 0
    pin_reset: int = 0

    def give_to(self, subscriber: str) -> None:
        """Somebody has the card from now on."""
        self.subscriber, self.given = subscriber, self.given + 1


@dataclass
class Event:
    """The programme that an offer of this kind is: on which service, from when until before when, with what product."""

    service: str
    start: int
    end: int
    number: int


@dataclass
class Offer:
    """Something to order. `choose`: so many of the products, in a mix."""

    rev: int
    kind: str
    products: tuple[str, ...]
    terms: Mapping[str, Any]
    choose: int | None = None
    event: Event | None = None
    withdrawn: bool = False


@dataclass
class Service:
    """A subscription. `choice`, and when it was last changed: only of a mix, or for who had one this month."""

    rev: int
    card: int
    offer: str
    start: int
    end: int | None
    minimum: int | None = None
    protected: bool = False
    choice: frozenset[str] | None = None
    changed: int | None = None

    def live(self, now: float) -> bool:
        """Whether it opens something now or later."""
        return self.end is None or (self.end > now and self.end > self.start)

    def runs(self, now: float) -> bool:
        """Whether it opens something now."""
        return self.start <= now and self.live(now)


@dataclass(frozen=True)
class Text:
    """A text in several languages, shown at once (`forced`) or kept."""

    forced: bool
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fingerprint:
    """The card's number, shown for so long, there, on this service (0: any)."""

    duration_s: int
    position: str
    service: int


@dataclass(frozen=True)
class Notice:
    """What goes on the air of a message: a card takes each number once."""

    number: int
    says: Text | Fingerprint
    start: int
    end: int


@dataclass(frozen=True)
class Recipients:
    """Whom a message is for: named cards (and how often each had been given to somebody), who has an offer, who stands
    in a region, else all cards."""

    cards: Mapping[int, int] | None
    offer: str | None
    region: int | None

    @property
    def everyone(self) -> bool:
        return (self.cards, self.offer, self.region) == (None, None, None)


@dataclass
class Message:
    """A message or fingerprint."""

    rev: int
    notice: Notice
    to: Recipients
    withdrawn: bool = False

    def lasts(self, now: float) -> bool:
        """Whether it is sent, or will be."""
        return not self.withdrawn and self.notice.end > now


@dataclass
class State:
    """All that the headend keeps; keys are (operator, name), of cards their address.

    `event_numbers`, `events_at_once`: of the network's settings. `event_keys`: (number, epoch) → whose event has it.
    `numbers`: how many were given to what a card takes just once, PIN resets and notices. `bought`: events, in order.
    """

    operators: Mapping[str, Operator]
    event_numbers: range
    events_at_once: int
    cards: dict[int, Card] = field(default_factory=dict)
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict)
    services: dict[tuple[str, str], Service] = field(default_factory=dict)
    messages: dict[tuple[str, str], Message] = field(default_factory=dict)
    event_keys: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    bought: list[tuple[str, str, str]] = field(default_factory=list)
    numbers: int = 0

    def next_number(self) -> int:
        """A number above all that were given before."""
        self.numbers += 1
        return self.numbers

    def own(self, operator: str, address: int, rev: int | None = None) -> Card:
        """The operator's card of this number; a `rev` must be above the last one taken."""
        card = self.cards.get(address)
        if card is None or card.operator != operator:
            raise Refused("unknown_card")
        check_rev(rev, card)
        return card

    def in_range(self, operator: str, address: int) -> Card:
        """A card of the operator's, in stock if nobody has heard of it."""
        known = self.cards.get(address)
        if known is None and address in self.operators[operator].cards:
            return Card(operator)
        if known is None or known.operator != operator:
            raise Refused("unknown_card")
        return known

    def used(self, address: int, now: float) -> str:
        """The state of a card that may be used."""
        return "active" if any(one.card == address and one.live(now) for one in self.services.values()) else "assigned"

    def opened(self, operator: str, service: Service) -> list[int]:
        """The products that a subscription opens: of a mix what is chosen and still on the list."""
        offer = self.offers[operator, service.offer]
        if offer.event is not None:
            return [offer.event.number]
        numbers = self.operators[operator].products
        return [numbers[slug] for slug in offer.products if service.choice is None or slug in service.choice]


def check_rev(rev: int | None, known: Any) -> None:
    """A `rev` counts for the name of its resource, and must rise."""
    if known is not None and rev is not None and rev <= known.rev:
        raise Refused("stale_rev")


def cannot(card: Card) -> Refused:
    """Why a card's state does not allow a command."""
    return Refused({"blacklisted": "card_blacklisted", "stock": "card_not_assigned"}.get(card.state, "card_state"))


def cannot_have(card: Card) -> Refused:
    """The same, where something is to be ordered or sent for it."""
    return Refused("card_not_assigned") if card.state in NOBODYS else cannot(card)
