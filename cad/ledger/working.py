"""The part of the ledger that one batch needs, in memory: read by decisions, changed only by `WorkingSet.apply`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cad.ledger.records import (
    Answered,
    CardRow,
    EventKey,
    FactRow,
    MessageRow,
    OfferRow,
    Rollout,
    SubscriptionRow,
)
from emm.plan import Right

REVISION_MAX: Final = 0xFFFF_FFFF
_NOTHING: Final[Mapping[int, Mapping[str, int]]] = {}


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

    def rights(
        self, address: int, products: Mapping[str, int], now: float, rollouts: Sequence[Rollout] = ()
    ) -> tuple[Right, ...]:
        """Return what a card may open; `products` are those granted to its operator, `rollouts` all there are."""
        card = self.cards.get(address)
        if card is None:
            return tuple(rights_of(self.live_on(address, now), self.offers_by_id, products))
        before = listed_before(rollouts, card.change_seq)
        rights = rights_of(self.live_on(address, now), self.offers_by_id, products, before)
        return tuple(until(rights, card.open_until))

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


def rights_of(
    rows: Iterable[SubscriptionRow],
    offers: Mapping[int, OfferRow],
    products: Mapping[str, int],
    before: Mapping[int, Mapping[str, int]] = _NOTHING,
) -> list[Right]:
    """Return the rights that subscriptions give; a product that is not granted gives none (I10).

    `before`: what offers, by row number, list for this card in place of what they list now.
    """
    return [
        Right(product_id, row.starts_at, row.ends_at)
        for row in rows
        for product_id in row.product_ids(
            before[row.offer_id] if row.offer_id in before else offers[row.offer_id].listed(products)
        )
    ]


def pending_for(rollouts: Iterable[Rollout], change_seq: int) -> dict[int, Rollout]:
    """Return which changes of offers a card has not followed yet, given its newest change: the first of each offer."""
    found: dict[int, Rollout] = {}
    for one in rollouts:
        held = found.get(one.offer_id)
        if change_seq < one.since_seq and (held is None or one.since_seq < held.since_seq):
            found[one.offer_id] = one
    return found


def listed_before(rollouts: Iterable[Rollout], change_seq: int) -> Mapping[int, Mapping[str, int]]:
    """Return what offers list for a card that has not followed their changes: one version has one content (I3)."""
    return {offer_id: one.before() for offer_id, one in pending_for(rollouts, change_seq).items()} or _NOTHING


def until(rights: list[Right], end: int | None) -> list[Right]:
    """Return rights that end at `end` at the latest; those that would begin later are left out."""
    if end is None:
        return rights
    return [
        replace(right, end=end if right.end is None else min(right.end, end)) for right in rights if right.start < end
    ]
