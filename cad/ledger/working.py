"""The part of the ledger that one batch needs, in memory: read by decisions, changed only by `WorkingSet.apply`."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from emm.plan import Right
from emm.traits import Traits
from protocol.portal.codes import Code
from protocol.portal.commands.invoice import FactName
from protocol.portal.commands.offers import EVENT
from protocol.portal.commands.terms import Terms

REVISION_MAX: Final = 0xFFFF_FFFF
SAID_S: Final = 32 * 86_400
"""Longer than any period: an EMM says nothing that ended before that."""


@lru_cache(maxsize=4096)
def _slugs(products: str) -> tuple[str, ...]:
    return tuple(json.loads(products))


@lru_cache(maxsize=4096)
def _terms(terms: str) -> Terms:
    return Terms.model_validate_json(terms)


_NO_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class CardRow:
    """A row of `cards`."""

    address: int
    operator: str
    state: str
    reason: str | None
    subscriber: str
    key_version: int
    revision: int
    rev: int
    change_seq: int
    assigned_at: float
    changed_at: float
    blocked: int = 0
    open_until: int | None = None
    replaced_by: int | None = None
    receiver: str | None = None
    parental: int = 0
    pin_reset: int = 0
    region: int = 0

    @property
    def traits(self) -> Traits:
        """What the card's EMM says of it besides its rights."""
        return traits_of(self.receiver, self.parental, self.pin_reset, self.region)

    def without_a_home(self) -> "CardRow":
        """Return the row of a card that comes back: whoever gets it next has another home, and the factory's PIN.

        Its next change must be the one that this row is put with.
        """
        return replace(self, receiver=None, parental=0, region=0, pin_reset=self.revision + 1)


@dataclass(frozen=True, slots=True)
class OfferRow:
    """A row of `offers`; names, heading and products as JSON text."""

    id: int
    operator: str
    offer: str
    rev: int
    kind: str
    names: str
    heading: str | None
    products: str
    changed_at: float
    terms: str | None = None
    choose: int | None = None
    withdrawn_at: float | None = None
    service: str | None = None
    starts_at: int | None = None
    ends_at: int | None = None
    product_id: int | None = None

    @property
    def event(self) -> bool:
        """Whether it is an event, which has a window and a product of its own."""
        return self.kind == EVENT

    def listed(self, granted: Mapping[str, int]) -> dict[str, int]:
        """Return the product_ids of what it may open, by slug; what is not granted is left out (I10)."""
        if self.product_id is not None:
            return {"": self.product_id}
        return {slug: granted[slug] for slug in self.slugs() if slug in granted}

    def slugs(self) -> tuple[str, ...]:
        """Return the slugs of its products."""
        return _slugs(self.products)

    def agreed(self) -> Terms:
        """Return its terms; those without any conditions where it has none."""
        return _NO_TERMS if self.terms is None else _terms(self.terms)


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """A row of `subscriptions`."""

    id: int
    operator: str
    subscription: str
    rev: int
    address: int
    offer_id: int
    starts_at: int
    ends_at: int | None
    changed_at: float
    minimum_until: int | None = None
    protected: int = 0
    phase: int = 0
    due_at: int | None = None
    choice: str | None = None
    choice_changed_at: int | None = None

    def chosen(self) -> tuple[str, ...]:
        """Return the slugs that were chosen out of a mix, rising; nothing where there was no choice."""
        return () if self.choice is None else _slugs(self.choice)

    def opened(self, offer: OfferRow) -> tuple[str, ...]:
        """Return the slugs of what its offer, as it is now, opens for it: of a mix what was chosen and is listed."""
        if self.choice is None:
            return offer.slugs()
        listed = offer.slugs()
        return tuple([slug for slug in self.chosen() if slug in listed])

    def product_ids(self, offer: OfferRow, granted: Mapping[str, int]) -> list[int]:
        """Return the product_ids that its offer opens for it; a product that is not granted is none of them (I10)."""
        if offer.product_id is not None:
            return [offer.product_id]
        return [granted[slug] for slug in self.opened(offer) if slug in granted]

    def live(self, now: float) -> bool:
        """Return whether it opens something now or later."""
        return self.ends_at is None or (self.ends_at > now and self.ends_at > self.starts_at)

    def said(self, card_changed_at: float, now: float) -> bool:
        """Return whether the card's EMM may say it: what has ended stands there until the card changes again."""
        return self.live(now) or (self.live(card_changed_at) and self.changed_at <= card_changed_at)


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A row of `messages`: a message or fingerprint. `content` as `emm.notices` builds it, `recipients` as JSON."""

    id: int
    operator: str
    message: str
    rev: int
    number: int
    content: bytes
    recipients: str
    starts_at: int
    ends_at: int
    repeat_s: int
    changed_at: float
    withdrawn: int

    def active(self, now: float) -> bool:
        """Return whether it is sent now or will be."""
        return not self.withdrawn and self.ends_at > now

    def withdraw(self, rev: int, now: float) -> "MessageRow":
        """Return the row of a message that is sent no more."""
        return replace(self, rev=rev, withdrawn=1, changed_at=now)


@dataclass(frozen=True, slots=True)
class Answered:
    """A row of `commands`: an id that was answered before. `answer` is the reply as JSON."""

    seq: int
    operator: str
    id: str
    digest: bytes
    answer: str
    again: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """Something for the invoice, not numbered yet. `at` in Unix seconds; a fact about a service has its `service`."""

    address: int
    name: FactName
    at: int
    service: SubscriptionRow | None = None
    replacement: int | None = None
    previous: int | None = None
    until: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FactRow:
    """A row of `facts`. `payload` is the `InvoiceFact` as JSON."""

    operator: str
    number: int
    address: int
    fact: str
    payload: str
    made_at: float


@dataclass(frozen=True, slots=True)
class EventKey:
    """A row of `event_keys`."""

    product_id: int
    epoch: int
    offer_id: int
    until: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What one command does and how it is answered; rows replace those of the same key.

    `also_cards` and `also_subscriptions` are further rows of a command that concerns two cards. `card_facts` are told
    for the invoice; what becomes of subscriptions is told by itself, unless they moved `with_card`. `replayed` is
    published again, and `resume_after` says where to go on.

    `touched`: cards whose content may have changed. `visible_from`: nothing can be seen before. `visible` False: the
    change makes nothing visible.
    """

    code: Code = Code.OK
    detail: str = ""
    card: int | None = None
    card_row: CardRow | None = None
    offer_row: OfferRow | None = None
    message_row: MessageRow | None = None
    subscription_row: SubscriptionRow | None = None
    touched: tuple[int, ...] = ()
    visible_from: int = 0
    visible: bool = True
    also_cards: tuple[CardRow, ...] = ()
    also_subscriptions: tuple[SubscriptionRow, ...] = ()
    card_facts: tuple[Fact, ...] = ()
    with_card: bool = False
    replayed: tuple[FactRow, ...] = ()
    next_change_at: int | None = None
    resume_after: int | None = None
    event_keys: tuple[EventKey, ...] = ()

    @property
    def card_rows(self) -> tuple[CardRow, ...]:
        """All cards that it puts."""
        return self.also_cards if self.card_row is None else (self.card_row, *self.also_cards)

    @property
    def subscription_rows(self) -> tuple[SubscriptionRow, ...]:
        """All subscriptions that it puts."""
        return (
            self.also_subscriptions
            if self.subscription_row is None
            else (self.subscription_row, *self.also_subscriptions)
        )


@dataclass(slots=True)
class WorkingSet:
    """Rows by key. `by_card` holds at least all subscriptions that the EMM of a card in `cards` may say.

    Where an event is put, all events that are not over are in `offers`, and `event_keys` has what they hold.
    """

    cards: dict[int, CardRow] = field(default_factory=dict)
    offers: dict[tuple[str, str], OfferRow] = field(default_factory=dict)
    offers_by_id: dict[int, OfferRow] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str], SubscriptionRow] = field(default_factory=dict)
    by_card: defaultdict[int, dict[int, SubscriptionRow]] = field(default_factory=lambda: defaultdict(dict))
    answered: dict[tuple[str, str], Answered] = field(default_factory=dict)
    replays: dict[tuple[str, str], tuple[FactRow, ...]] = field(default_factory=dict)
    event_keys: dict[tuple[int, int], EventKey] = field(default_factory=dict)
    messages: dict[tuple[str, str], MessageRow] = field(default_factory=dict)
    next_message_number: int = 1
    next_offer_id: int = 1
    next_subscription_id: int = 1

    def add_offer(self, row: OfferRow) -> None:
        """Put an offer in, in place of an older row."""
        self.offers[row.operator, row.offer] = row
        self.offers_by_id[row.id] = row
        self.next_offer_id = max(self.next_offer_id, row.id + 1)

    def add_subscription(self, row: SubscriptionRow) -> None:
        """Put a subscription in, in place of an older row, which may have been another card's."""
        before = self.subscriptions.get((row.operator, row.subscription))
        if before is not None and before.address != row.address:
            self.by_card[before.address].pop(before.id, None)
        self.subscriptions[row.operator, row.subscription] = row
        self.by_card[row.address][row.id] = row
        self.next_subscription_id = max(self.next_subscription_id, row.id + 1)

    def add_message(self, row: MessageRow) -> None:
        """Put a message in, in place of an older row."""
        self.messages[row.operator, row.message] = row
        self.next_message_number = max(self.next_message_number, row.number + 1)

    def active_messages(self, operator: str, now: float) -> int:
        """Return how many messages an operator has on the air, or ordered for later."""
        return sum(row.operator == operator and row.active(now) for row in self.messages.values())

    def apply(self, cards: Iterable[CardRow], offer: OfferRow | None, subscriptions: Iterable[SubscriptionRow]) -> None:
        """Take the rows that a decision puts."""
        for card in cards:
            self.cards[card.address] = card
        if offer is not None:
            self.add_offer(offer)
        for subscription in subscriptions:
            self.add_subscription(subscription)

    def add_event_keys(self, keys: Iterable[EventKey]) -> None:
        """Put in which event has which key."""
        self.event_keys.update({(key.product_id, key.epoch): key for key in keys})

    def cards_with(self, offer_id: int, now: float) -> tuple[int, ...]:
        """Return the cards whose EMM may say a subscription to an offer, rising."""
        found = {
            address
            for address, rows in self.by_card.items()
            if any(row.offer_id == offer_id and self.is_said(row, now) for row in rows.values())
        }
        return tuple(sorted(found))

    def is_said(self, row: SubscriptionRow, now: float) -> bool:
        """Return whether its card's EMM may say a subscription."""
        card = self.cards.get(row.address)
        return row.live(now) if card is None else row.said(card.changed_at, now)

    def live_on(self, address: int, now: float) -> list[SubscriptionRow]:
        """Return the live subscriptions of a card."""
        return [row for row in self.by_card[address].values() if row.live(now)] if address in self.by_card else []

    def rights(self, address: int, products: Mapping[str, int], now: float) -> tuple[Right, ...]:
        """Return what a card may open; `products` are those granted to its operator."""
        rights = rights_of(self.live_on(address, now), self.offers_by_id, products)
        card = self.cards.get(address)
        return tuple(rights if card is None else until(rights, card.open_until))

    def bump(self, address: int, change_seq: int, at: float, floor: int = 0) -> CardRow:
        """Raise a card's revision, above `floor`, and return its row.

        Raises OverflowError when there is no higher revision.
        """
        row = self.cards[address]
        if row.revision >= REVISION_MAX:
            raise OverflowError(f"card {address} has used up its revisions")
        raised = replace(row, revision=max(row.revision, floor) + 1, change_seq=change_seq, changed_at=at)
        self.cards[address] = raised
        return raised


def traits_of(receiver: str | None, parental: int, pin_reset: int, region: int) -> Traits:
    """Return what an EMM says besides rights, from the columns of a card."""
    return Traits(
        None if receiver is None else int(receiver, 16), parental=parental, pin_reset=pin_reset, region=region
    )


def rights_of(
    rows: Iterable[SubscriptionRow], offers: Mapping[int, OfferRow], products: Mapping[str, int]
) -> list[Right]:
    """Return the rights that subscriptions give; a product that is not granted gives none (I10)."""
    return [
        Right(product_id, row.starts_at, row.ends_at)
        for row in rows
        for product_id in row.product_ids(offers[row.offer_id], products)
    ]


def until(rights: list[Right], end: int | None) -> list[Right]:
    """Return rights that end at `end` at the latest; those that would begin later are left out."""
    if end is None:
        return rights
    return [
        replace(right, end=end if right.end is None else min(right.end, end)) for right in rights if right.start < end
    ]
