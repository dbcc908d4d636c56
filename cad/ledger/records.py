"""The rows of the ledger as the program holds them, and what a command decides of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from emm.traits import Traits
from protocol.portal.codes import Code
from protocol.portal.commands.invoice import FactName
from protocol.portal.commands.offers import EVENT
from protocol.portal.commands.terms import Terms

SAID_S: Final = 32 * 86_400
"""Longer than any period: an EMM says nothing that ended before that."""


@lru_cache(maxsize=4096)
def _slugs(products: str) -> tuple[str, ...]:
    return tuple(json.loads(products))


@lru_cache(maxsize=4096)
def _listed(listed: str) -> Mapping[str, int]:
    found: dict[str, int] = json.loads(listed)
    return found


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

    def product_ids(self, listed: Mapping[str, int]) -> list[int]:
        """Return the product_ids that its offer opens for it, of those that the offer lists (`OfferRow.listed`)."""
        if self.choice is None:
            return list(listed.values())
        return [listed[slug] for slug in self.chosen() if slug in listed]

    def live(self, now: float) -> bool:
        """Return whether it opens something now or later."""
        return self.ends_at is None or (self.ends_at > now and self.ends_at > self.starts_at)

    def said(self, card_changed_at: float, now: float) -> bool:
        """Return whether the card's EMM may say it: what has ended stands there until the card changes again."""
        return self.live(now) or (self.live(card_changed_at) and self.changed_at <= card_changed_at)


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A row of `messages`: a message or fingerprint. `content` as `emm.notices` builds it, `recipients` as JSON.

    `on_air_at`: when it had been sent once to all that it was for.
    """

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
    on_air_at: float | None = None

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
class Rollout:
    """A row of `rollouts`: an offer has changed, and cards that have it still say what it was before.

    Those are the cards whose newest change is older than `since_seq`. `listed`: the product_ids by slug that the offer
    listed before, `slugs`: those that are others now (None: whoever has it is concerned), both in JSON. `starts_at` and
    `ends_at`: the window that an event had. `after`: the subscriptions up to this row number have been looked at.
    `cards_left`: how many cards, about. The moments are those that the answer promised.
    """

    offer_id: int
    since_seq: int
    operator: str
    command_id: str
    at: float
    listed: str
    slugs: str | None
    starts_at: int | None
    ends_at: int | None
    after: int
    cards_left: int
    on_air_by: int | None = None
    visible_by: int | None = None

    def before(self) -> Mapping[str, int]:
        """Return what the offer listed before."""
        return _listed(self.listed)

    def changed(self) -> tuple[str, ...] | None:
        """Return the slugs whose products are others now; None where everybody who has the offer is concerned."""
        return None if self.slugs is None else _slugs(self.slugs)

    def concerns(self, row: "SubscriptionRow") -> bool:
        """Return whether a subscription opens something else because the offer changed."""
        if row.offer_id != self.offer_id:
            return False
        return self.slugs is None or row.choice is None or not set(_slugs(self.slugs)).isdisjoint(row.chosen())


@dataclass(frozen=True, slots=True)
class Decision:
    """What one command does and how it is answered; rows replace those of the same key.

    `also_cards` and `also_subscriptions` are further rows of a command that concerns two cards. `card_facts` are told
    for the invoice; what becomes of subscriptions is told by itself, unless they moved `with_card`. `replayed` is
    published again, and `resume_after` says where to go on.

    `touched`: cards whose content may have changed. `was`: what the offer was before, where the cards that have it are
    to follow; then the detail begins with their number. `visible_from`: nothing can be seen before. `visible` False:
    the change makes nothing visible. `shows`: the message is to be sent, as if it were new.
    """

    code: Code = Code.OK
    detail: str = ""
    card: int | None = None
    card_row: CardRow | None = None
    offer_row: OfferRow | None = None
    message_row: MessageRow | None = None
    subscription_row: SubscriptionRow | None = None
    touched: tuple[int, ...] = ()
    was: OfferRow | None = None
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
    shows: bool = False

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


def traits_of(receiver: str | None, parental: int, pin_reset: int, region: int) -> Traits:
    """Return what an EMM says besides rights, from the columns of a card."""
    return Traits(
        None if receiver is None else int(receiver, 16), parental=parental, pin_reset=pin_reset, region=region
    )
