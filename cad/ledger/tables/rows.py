"""Between the tables and the working set: batched loads by key, batched writes of what was changed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    or_,
    select,
)

from cad.ledger.model import Order
from cad.ledger.records import SAID_S, Answered, CardRow, EventKey, FactRow, OfferRow, SubscriptionRow
from cad.ledger.tables import messages, rollouts, schema
from cad.ledger.tables.many import Many, insert_all, update_some
from cad.ledger.working import WorkingSet
from protocol.portal.commands.cards import CardReplace
from protocol.portal.commands.invoice import InvoiceReplay
from protocol.portal.commands.messages import CardFingerprint, CardMessage, MessagePut, MessageWithdraw
from protocol.portal.commands.offers import EVENT, OfferPut, OfferWithdraw
from protocol.portal.commands.snapshot import SnapshotCommand
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut

KEYS_MAX: Final = 10_000
"""Keys in one IN (…); SQLite takes 32,766 variables in a statement."""

_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_NOW: Final[BindParameter[Any]] = bindparam("now")
_OPERATOR: Final[BindParameter[Any]] = bindparam("of_operator")
_cards, _offers, _subscriptions = schema.cards.c, schema.offers.c, schema.subscriptions.c
_facts = schema.facts.c

_LIVE: Final[ColumnElement[bool]] = or_(_subscriptions.ends_at.is_(None), _subscriptions.ends_at > _NOW)
# Also what ended not long ago: an EMM may say it still.
_SAID: Final[ColumnElement[bool]] = or_(_subscriptions.ends_at.is_(None), _subscriptions.ends_at > _NOW - SAID_S)
_CARDS: Final = select(schema.cards).where(_cards.address.in_(_KEYS))
_OFFERS_BY_NAME: Final = select(schema.offers).where(_offers.operator == _OPERATOR, _offers.offer.in_(_KEYS))
_OFFERS_BY_ID: Final = select(schema.offers).where(_offers.id.in_(_KEYS))
_SUBSCRIPTIONS_BY_NAME: Final = select(schema.subscriptions).where(
    _subscriptions.operator == _OPERATOR, _subscriptions.subscription.in_(_KEYS)
)
_SAID_BY_CARD: Final = select(schema.subscriptions).where(
    _subscriptions.address.in_(_KEYS), or_(_SAID, _subscriptions.due_at <= _NOW)
)
_DUE_CARDS: Final = (
    select(_cards.address).where(_cards.open_until <= _NOW).order_by(_cards.open_until).limit(bindparam("limit"))
)
_DUE_SUBSCRIPTIONS: Final = (
    select(_subscriptions.address)
    .where(_subscriptions.due_at <= _NOW)
    .order_by(_subscriptions.due_at)
    .limit(bindparam("limit"))
)
_ANSWERED: Final = select(
    schema.commands.c.seq,
    schema.commands.c.operator,
    schema.commands.c.id,
    schema.commands.c.digest,
    schema.commands.c.answer,
    schema.commands.c.again,
).where(schema.commands.c.operator == _OPERATOR, schema.commands.c.id.in_(_KEYS))


@dataclass(slots=True)
class Needs:
    """Keys that a batch names, by operator."""

    ids: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    offers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    subscriptions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    cards: set[int] = field(default_factory=set)
    messages: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    replays: list[Order] = field(default_factory=list)

    def add(self, order: Order) -> None:
        """Note what one order names."""
        command = order.command
        self.ids[order.operator].add(command.id)
        match command:
            case OfferPut() | OfferWithdraw():
                self.offers[order.operator].add(command.offer)
            case SubscriptionPut():
                self.offers[order.operator].add(command.offer)
                self.subscriptions[order.operator].add(command.subscription)
                self.cards.add(command.card)
            case SubscriptionEnd():
                self.subscriptions[order.operator].add(command.subscription)
            case CardReplace():
                self.cards.update((command.card, command.replacement))
            case InvoiceReplay():
                self.replays.append(order)
            case SnapshotCommand():
                pass
            case MessagePut() | CardFingerprint():
                self.messages[order.operator].add(command.message)
                self.cards.update(command.to.cards or ())
                if command.to.offer is not None:
                    self.offers[order.operator].add(command.to.offer)
            case CardMessage():
                self.messages[order.operator].add(command.message)
                self.cards.add(command.card)
            case MessageWithdraw():
                self.messages[order.operator].add(command.message)
            case _:
                self.cards.add(command.card)


def load(connection: Connection, orders: Sequence[Order], now: float) -> WorkingSet:
    """Return the part of the ledger that these orders need, and whatever their effects reach."""
    needs, state = Needs(), WorkingSet()
    for order in orders:
        needs.add(order)
    for operator, ids in needs.ids.items():
        for row in by_keys(connection, _ANSWERED, ids, of_operator=operator):
            state.answered[operator, row[2]] = Answered(row[0], row[1], row[2], row[3], row[4], bool(row[5]))
    for operator, names in needs.subscriptions.items():
        for row in by_keys(connection, _SUBSCRIPTIONS_BY_NAME, names, of_operator=operator):
            state.add_subscription(SubscriptionRow(*row))
            needs.cards.add(row.address)
    for operator, names in needs.offers.items():
        for row in by_keys(connection, _OFFERS_BY_NAME, names, of_operator=operator):
            state.add_offer(_offer(row))
    if any(isinstance(order.command, OfferPut) and order.command.kind == EVENT for order in orders):
        load_events(connection, state, now)
    for operator, names in needs.messages.items():
        messages.load(connection, state, operator, sorted(names), now)
    needs.cards.update(_crowded(connection, orders, state, now))
    load_cards(connection, state, needs.cards, now)
    for order in needs.replays:
        state.replays[order.operator, order.command.id] = facts_again(connection, order)
    return state


def load_events(connection: Connection, state: WorkingSet, now: float) -> None:
    """Add all events that are not over, and which keys events have in epochs that are not over."""
    for offer in events(connection, now):
        state.add_offer(offer)
    table = schema.event_keys
    state.add_event_keys(EventKey(*row) for row in connection.execute(select(table).where(table.c.until > now)))


def events(connection: Connection, now: float) -> list[OfferRow]:
    """Return all events of all operators that are not over."""
    return [_offer(row) for row in connection.execute(select(schema.offers).where(_offers.ends_at > now))]


def facts_again(connection: Connection, order: Order) -> tuple[FactRow, ...]:
    """Return the facts that a replay asks for, and one more where there are more."""
    command = order.command
    if not isinstance(command, InvoiceReplay):
        return ()
    statement = (
        select(schema.facts)
        .where(_facts.operator == order.operator, _facts.number > command.after, _facts.made_at >= command.since)
        .order_by(_facts.number)
        .limit(command.limit + 1)
    )
    return tuple(FactRow(*row) for row in connection.execute(statement))


def last_fact(connection: Connection, operator: str) -> int:
    """Return the number of the operator's newest fact; 0 before the first."""
    found = connection.execute(select(func.max(_facts.number)).where(_facts.operator == operator)).scalar()
    return int(found or 0)


def load_due(connection: Connection, state: WorkingSet, now: float, limit: int) -> bool:
    """Add cards and subscriptions for which a moment has come, the earliest first; return whether there may be more."""
    cards = list(connection.execute(_DUE_CARDS, {"now": now, "limit": limit}).scalars())
    subscriptions = connection.execute(_DUE_SUBSCRIPTIONS, {"now": now, "limit": limit}).fetchall()
    if cards or subscriptions:
        load_cards(connection, state, {*cards, *(row.address for row in subscriptions)}, now)
    return limit in (len(cards), len(subscriptions))


def by_keys(connection: Connection, statement: Any, keys: Iterable[Any], **values: Any) -> Iterator[Any]:
    """Run a statement that has `keys` in an IN (…), in parts that the database takes, and return the rows."""
    listed = list(keys)
    for start in range(0, len(listed), KEYS_MAX):
        yield from connection.execute(statement, {"keys": listed[start : start + KEYS_MAX], **values}).fetchall()


def load_cards(connection: Connection, state: WorkingSet, addresses: Iterable[int], now: float) -> None:
    """Add cards with the subscriptions that their EMMs may say, and the offers of those."""
    keys = list(addresses)
    for row in by_keys(connection, _CARDS, keys):
        state.cards[row.address] = CardRow(*row)
    for row in by_keys(connection, _SAID_BY_CARD, keys, now=now):
        state.add_subscription(SubscriptionRow(*row))
    load_offers(connection, state)


def load_offers(connection: Connection, state: WorkingSet) -> None:
    """Add the offers of the subscriptions that are there."""
    missing = {row.offer_id for row in state.subscriptions.values()} - state.offers_by_id.keys()
    for offer in offers_by_id(connection, missing):
        state.add_offer(offer)


def offers_by_id(connection: Connection, offer_ids: Iterable[int]) -> list[OfferRow]:
    """Return offers by their row numbers."""
    return [_offer(row) for row in by_keys(connection, _OFFERS_BY_ID, offer_ids)]


def all_offers(connection: Connection) -> list[OfferRow]:
    """Return every offer of every operator."""
    return [_offer(row) for row in connection.execute(select(schema.offers))]


def offers_of(connection: Connection, operator: str) -> list[OfferRow]:
    """Return every offer of one operator by its name, also withdrawn ones."""
    statement = select(schema.offers).where(_offers.operator == operator).order_by(_offers.offer)
    return [_offer(row) for row in connection.execute(statement)]


def count_live(connection: Connection, operator: str, now: float) -> dict[int, int]:
    """Return how many live subscriptions each offer of an operator has, by its row number. Reads all of them."""
    statement = (
        select(_subscriptions.offer_id, func.count())
        .where(_subscriptions.operator == operator, _LIVE)
        .group_by(_subscriptions.offer_id)
    )
    return {row[0]: row[1] for row in connection.execute(statement, {"now": now})}


def _crowded(connection: Connection, orders: Sequence[Order], state: WorkingSet, now: float) -> set[int]:
    """Return the cards that may become too full by an offer that gets products; the others need no look."""
    found: set[int] = set()
    for order in orders:
        if isinstance(command := order.command, OfferPut):
            row = state.offers.get((order.operator, command.offer))
            if row is not None and (row.event or not set(command.products) <= set(row.slugs())):
                products = 1 if row.event else command.choose or len(command.products)
                found.update(rollouts.crowded(connection, row.id, products, now))
    return found


def _all_of(table: Table) -> Callable[[Any], tuple[Any, ...]]:
    return attrgetter(*(column.name for column in table.columns))


def _offer(row: Any) -> OfferRow:
    return OfferRow(
        row.id,
        row.operator,
        row.offer,
        row.rev,
        row.kind,
        row.names,
        row.heading,
        row.products,
        row.changed_at,
        row.terms,
        row.choose,
        row.withdrawn_at,
        row.service,
        row.starts_at,
        row.ends_at,
        row.product_id,
    )


_CARD_COLUMNS: Final = (
    "state",
    "reason",
    "subscriber",
    "key_version",
    "revision",
    "rev",
    "change_seq",
    "assigned_at",
    "changed_at",
    "blocked",
    "open_until",
    "replaced_by",
    "receiver",
    "parental",
    "pin_reset",
    "region",
)
_OFFER_COLUMNS: Final = (
    "rev",
    "kind",
    "names",
    "heading",
    "products",
    "changed_at",
    "terms",
    "choose",
    "withdrawn_at",
    "service",
    "starts_at",
    "ends_at",
    "product_id",
)
_SUBSCRIPTION_COLUMNS: Final = (
    "rev",
    "address",
    "offer_id",
    "starts_at",
    "ends_at",
    "changed_at",
    "minimum_until",
    "protected",
    "phase",
    "due_at",
    "choice",
    "choice_changed_at",
)
_MESSAGE_COLUMNS: Final = (
    "rev",
    "number",
    "content",
    "recipients",
    "starts_at",
    "ends_at",
    "repeat_s",
    "changed_at",
    "withdrawn",
    "on_air_at",
)
_INSERTS: Final = {table.name: insert_all(table) for table in schema.metadata.sorted_tables}
_UPDATES: Final = {
    "cards": update_some(schema.cards, "address", _CARD_COLUMNS),
    "offers": update_some(schema.offers, "id", _OFFER_COLUMNS),
    "subscriptions": update_some(schema.subscriptions, "id", _SUBSCRIPTION_COLUMNS),
    "messages": update_some(schema.messages, "id", _MESSAGE_COLUMNS),
}
_GETTERS: Final[dict[str, tuple[Callable[[Any], tuple[Any, ...]], Callable[[Any], tuple[Any, ...]]]]] = {
    "cards": (_all_of(schema.cards), attrgetter(*_CARD_COLUMNS, "address")),
    "offers": (_all_of(schema.offers), attrgetter(*_OFFER_COLUMNS, "id")),
    "subscriptions": (_all_of(schema.subscriptions), attrgetter(*_SUBSCRIPTION_COLUMNS, "id")),
    "messages": (_all_of(schema.messages), attrgetter(*_MESSAGE_COLUMNS, "id")),
}
_FORGET: Final = Many(delete(schema.commands).where(schema.commands.c.seq == bindparam("of_key")), ["of_key"])
UNPUBLISH: Final = Many(delete(schema.outbox).where(schema.outbox.c.seq == bindparam("of_key")), ["of_key"])


@dataclass(slots=True)
class Writes:
    """Rows to write at the end of a batch: new and changed ones of the working set by key, others as they stand."""

    new_cards: set[int] = field(default_factory=set)
    cards: set[int] = field(default_factory=set)
    new_offers: set[tuple[str, str]] = field(default_factory=set)
    offers: set[tuple[str, str]] = field(default_factory=set)
    new_subscriptions: set[tuple[str, str]] = field(default_factory=set)
    subscriptions: set[tuple[str, str]] = field(default_factory=set)
    new_messages: set[tuple[str, str]] = field(default_factory=set)
    messages: set[tuple[str, str]] = field(default_factory=set)
    commands: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    forgotten: list[int] = field(default_factory=list)
    changes: list[tuple[Any, ...]] = field(default_factory=list)
    history: list[tuple[Any, ...]] = field(default_factory=list)
    outbox: list[tuple[Any, ...]] = field(default_factory=list)
    audit: list[tuple[Any, ...]] = field(default_factory=list)
    facts: list[tuple[Any, ...]] = field(default_factory=list)
    event_keys: list[tuple[Any, ...]] = field(default_factory=list)

    def flush(self, connection: Connection, state: WorkingSet) -> None:
        """Write all, parents before children."""
        _put(connection, "cards", state.cards, self.new_cards, self.cards)
        _put(connection, "offers", state.offers, self.new_offers, self.offers)
        _put(connection, "subscriptions", state.subscriptions, self.new_subscriptions, self.subscriptions)
        _put(connection, "messages", state.messages, self.new_messages, self.messages)
        _FORGET.run(connection, [(seq,) for seq in self.forgotten if self.commands.pop(seq, None) is None])
        _INSERTS["commands"].run(connection, list(self.commands.values()))
        for table in ("changes", "history", "outbox", "audit", "facts", "event_keys"):
            _INSERTS[table].run(connection, getattr(self, table))


def _put(connection: Connection, table: str, rows: Mapping[Any, Any], new: set[Any], changed: set[Any]) -> None:
    whole, part = _GETTERS[table]
    _INSERTS[table].run(connection, [whole(rows[key]) for key in new])
    _UPDATES[table].run(connection, [part(rows[key]) for key in changed - new])
