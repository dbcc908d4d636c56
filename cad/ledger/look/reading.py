"""What is read from the ledger: whole networks in arrays at the start, single cards for a person."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from sqlalchemy import BindParameter, ColumnElement, Connection, CursorResult, and_, bindparam, func, or_, select

from cad.air.rights import NO_END
from cad.air.roster import CardBlock, RightBlock
from cad.ledger.decide.choosing import next_change
from cad.ledger.look.views import CardView, ChangeView, SubscriptionView
from cad.ledger.model import OPEN_STATES, EventWindow, Grants, OpenChange, OutboxMessage
from cad.ledger.records import SAID_S, OfferRow, SubscriptionRow, traits_of
from cad.ledger.tables import rollouts, rows, schema
from cad.ledger.working import pending_for, rights_of, until

BLOCK: Final = 50_000
CHANGES_SHOWN: Final = 20
AUDIT_STEP: Final = 2_000

_cards, _subscriptions, _changes, _airs = schema.cards.c, schema.subscriptions.c, schema.changes.c, schema.airs.c
_OPERATORS: Final[BindParameter[Any]] = bindparam("operators", expanding=True)


def _of(operator: ColumnElement[str]) -> ColumnElement[bool]:
    """Choose operators without their index: it would lead through the whole table for each block."""
    return func.coalesce(operator, "").in_(_OPERATORS)


_CARDS: Final = (
    select(
        _cards.address,
        _cards.revision,
        _cards.key_version,
        _cards.state,
        _cards.receiver,
        _cards.parental,
        _cards.pin_reset,
        _cards.region,
    )
    .where(_of(_cards.operator), _cards.address > bindparam("after"))
    .order_by(_cards.address)
    .limit(BLOCK)
)
# What ended after its card's last change stands in the card's EMM until the next one (`SubscriptionRow.said`).
_ENDED_SINCE: Final = (
    select(_cards.address)
    .where(
        _cards.address == _subscriptions.address,
        _cards.changed_at >= _subscriptions.changed_at,
        _cards.changed_at < _subscriptions.ends_at,
    )
    .exists()
)
_SAID: Final = select(
    _subscriptions.address,
    _subscriptions.offer_id,
    _subscriptions.starts_at,
    func.coalesce(_subscriptions.ends_at, NO_END),
    _subscriptions.choice,
).where(
    _subscriptions.id > bindparam("after"),
    _subscriptions.id <= bindparam("upto"),
    _of(_subscriptions.operator),
    or_(
        _subscriptions.ends_at.is_(None),
        _subscriptions.ends_at > bindparam("now"),
        and_(_subscriptions.ends_at > bindparam("now") - SAID_S, _ENDED_SINCE),
    ),
)
_CLOSINGS: Final = (
    select(_cards.address, _cards.open_until).where(_cards.open_until.is_not(None)).order_by(_cards.address)
)


def card_block(connection: Connection, operators: Sequence[str], after: int) -> CardBlock:
    """Return the next cards of these operators above an address, rising; an empty block at the end."""
    found = _plain(connection.execute(_CARDS, {"operators": operators, "after": after}))
    columns = zip(*found, strict=True) if found else ((),) * 8
    addresses, revisions, key_versions, states, receivers, parental, pin_resets, regions = columns
    return CardBlock(
        np.array(addresses, np.uint64),
        np.array(revisions, np.uint32),
        np.array(key_versions, np.uint8),
        np.array([state not in OPEN_STATES for state in states], np.bool_),
        np.array([0 if receiver is None else int(receiver, 16) for receiver in receivers], np.uint64),
        np.array(parental, np.uint8),
        np.array(pin_resets, np.uint32),
        np.array(regions, np.uint16),
    )


class Products:
    """The granted products of every offer, and the cards that close by themselves, laid out in arrays.

    So a million subscriptions become rights in a few steps. Cards that have not followed what an offer became stand
    beside it, with what it listed before, as if they had another offer.
    """

    def __init__(self, connection: Connection, grants: Grants) -> None:
        self._per_offer: dict[int, dict[str, int]] = {}
        for offer in rows.all_offers(connection):
            self._per_offer[offer.id] = offer.listed(grants.products(offer.operator))
        self._behind: list[tuple[int, int, npt.NDArray[np.uint64]]] = []
        # The first change that a card has not followed counts, so it is looked for last.
        for one in reversed(rollouts.held(connection)):
            stand_in = max(self._per_offer) + 1
            self._per_offer[stand_in] = dict(one.before())
            self._behind.append((one.offer_id, stand_in, np.array(rollouts.behind(connection, one), np.uint64)))
        size = max(self._per_offer, default=0) + 1
        self._counts = np.zeros(size, np.int64)
        self._first = np.zeros(size, np.int64)
        flat: list[int] = []
        for offer_id, granted in self._per_offer.items():
            self._first[offer_id] = len(flat)
            self._counts[offer_id] = len(granted)
            flat += granted.values()
        self._flat = np.array(flat, np.uint16)
        closings = connection.execute(_CLOSINGS).fetchall()
        self._closing = np.array([row.address for row in closings], np.uint64)
        self._closes_at = np.array([row.open_until for row in closings], np.uint32)

    def close(self, addresses: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Return the ends of rights, not later than the moment at which their card closes by itself."""
        if not len(self._closing):
            return ends
        places = np.minimum(np.searchsorted(self._closing, addresses), len(self._closing) - 1)
        return np.where(self._closing[places] == addresses, np.minimum(ends, self._closes_at[places]), ends)

    def said(self, offer_ids: npt.NDArray[np.int64], addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the offers in the form that the cards' EMMs say, for each row of a subscription."""
        found = offer_ids
        for offer_id, stand_in, behind in self._behind:
            found = np.where((offer_ids == offer_id) & np.isin(addresses, behind), stand_in, found)
        return found

    def spread(
        self, offer_ids: npt.NDArray[np.int64], choices: Sequence[str | None]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
        """Return for each product of each row the row's place, and the product_id; of a mix those that were chosen."""
        counts = self._counts[offer_ids]
        mixed: dict[int, list[int]] = {}
        for place, choice in enumerate(choices):
            if choice is not None:
                counts[place] = 0
                mixed.setdefault(int(offer_ids[place]), []).append(place)
        places = np.repeat(np.arange(len(offer_ids), dtype=np.int64), counts)
        begins = np.repeat(np.cumsum(counts) - counts, counts)
        within = np.arange(len(places), dtype=np.int64) - begins
        found = [(places, self._flat[self._first[offer_ids][places] + within])]
        found += [
            self._chosen(offer_id, rows_of, [choices[place] or "" for place in rows_of])
            for offer_id, rows_of in mixed.items()
        ]
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])

    def _chosen(
        self, offer_id: int, places: list[int], choices: list[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
        """Return the same for rows of one mix; what is not listed or not granted is left out."""
        listed = self._per_offer[offer_id]
        chosen: list[list[str]] = json.loads(f"[{','.join(choices)}]")
        spread = np.repeat(np.array(places, np.int64), [len(one) for one in chosen])
        ids = np.fromiter((listed.get(slug, 0) for slug in chain.from_iterable(chosen)), np.uint16, len(spread))
        return spread[ids > 0], ids[ids > 0]


def _plain(result: CursorResult[Any]) -> list[tuple[Any, ...]]:
    """Return rows of a large result as the driver gives them: half the time."""
    if result.cursor is None:
        raise AssertionError("a query has a cursor")
    return list(result.cursor.fetchall())


def last_subscription(connection: Connection) -> int:
    """Return the highest row number of a subscription."""
    return int(connection.execute(select(func.coalesce(func.max(_subscriptions.id), 0))).scalar_one())


def right_block(
    connection: Connection, operators: Sequence[str], after: int, upto: int, products: Products, now: float
) -> RightBlock:
    """Return the rights that EMMs say at `now`, of subscriptions with row numbers above `after` and up to `upto`.

    In the order of the rows on the disk: by card would mean to look for each of them.
    """
    found = _plain(connection.execute(_SAID, {"operators": operators, "after": after, "upto": upto, "now": now}))
    *columns, choices = zip(*found, strict=True) if found else ((), (), (), (), ())
    addresses, offer_ids, starts, ends = (np.array(column, np.int64) for column in columns)
    places, product_ids = products.spread(products.said(offer_ids, addresses.astype(np.uint64)), choices)
    cards = addresses.astype(np.uint64)[places]
    return RightBlock(
        cards, product_ids, starts.astype(np.uint32)[places], products.close(cards, ends.astype(np.uint32)[places])
    )


def open_changes(connection: Connection, since: float, after: int, limit: int) -> tuple[list[OpenChange], int | None]:
    """Return changes above the seq `after` that are the newest of their card, and recent or not yet sent everywhere.

    With them the seq to go on after, None at the end.
    """
    recent = connection.execute(select(func.min(_changes.seq)).where(_changes.at >= since)).scalar()
    newest = schema.changes.join(schema.cards, _cards.change_seq == _changes.seq)
    wanted: ColumnElement[bool] = _changes.done_at.is_(None)
    if recent is not None:
        wanted = or_(wanted, _changes.seq >= recent)
    statement = (
        select(_changes.seq, _changes.address, _changes.operator, _changes.at)
        .select_from(newest)
        .where(wanted, _changes.seq > after)
        .order_by(_changes.seq)
        .limit(limit)
    )
    found = connection.execute(statement).fetchall()
    aired = _airs_of(connection, [row.seq for row in found])
    changes = [OpenChange(row.address, row.operator, row.seq, row.at, aired.get(row.seq, {})) for row in found]
    return changes, found[-1].seq if len(found) == limit else None


def card_view(connection: Connection, address: int, grants: Grants, now: float) -> CardView | None:
    """Return all that is known of a card, None when it was never assigned."""
    card = connection.execute(select(schema.cards).where(_cards.address == address)).first()
    if card is None:
        return None
    statement = (
        select(schema.subscriptions)
        .where(_subscriptions.address == address)
        .order_by(_subscriptions.starts_at, _subscriptions.id)
    )
    found = [SubscriptionRow(*row) for row in connection.execute(statement)]
    history = connection.execute(
        select(_changes.seq, _changes.revision, _changes.command_id, _changes.at)
        .where(_changes.address == address)
        .order_by(_changes.seq.desc())
        .limit(CHANGES_SHOWN)
    ).fetchall()
    aired = _airs_of(connection, [row.seq for row in history])
    live = [row for row in found if row.said(card.changed_at, now)]
    offers = {offer.id: offer for offer in rows.offers_by_id(connection, {row.offer_id for row in found})}
    zone = grants.zone(card.operator)
    pending = pending_for(rollouts.held(connection), card.change_seq)
    before = {offer_id: one.before() for offer_id, one in pending.items()}
    return CardView(
        address=card.address,
        operator=card.operator,
        state=card.state,
        reason=card.reason,
        subscriber=card.subscriber,
        key_version=card.key_version,
        revision=card.revision,
        rev=card.rev,
        assigned_at=card.assigned_at,
        changed_at=card.changed_at,
        rights=tuple(until(rights_of(live, offers, grants.products(card.operator), before), card.open_until)),
        subscriptions=tuple(_subscription_view(row, offers[row.offer_id], now, zone) for row in found),
        changes=tuple(
            ChangeView(row.seq, row.revision, row.command_id, row.at, aired.get(row.seq, {})) for row in history
        ),
        open_until=card.open_until,
        replaced_by=card.replaced_by,
        traits=traits_of(card.receiver, card.parental, card.pin_reset, card.region),
        behind=tuple(
            sorted(
                offers[row.offer_id].offer for row in live if (one := pending.get(row.offer_id)) and one.concerns(row)
            )
        ),
    )


def event_windows(connection: Connection, grants: Grants, now: float) -> list[EventWindow]:
    """Return the events that are not over, as ECMs need them; without those on services that are not granted (I10)."""
    found = []
    for offer in rows.events(connection, now):
        grant = grants.operators.get(offer.operator)
        if grant is None or grant.events is None or offer.service not in grant.events.services:
            continue
        window = [value or 0 for value in (offer.product_id, offer.starts_at, offer.ends_at)]
        found.append(EventWindow(grant.network, offer.operator, offer.offer, offer.service, *window))
    return found


def find_cards(connection: Connection, operator: str, subscriber: str) -> list[int]:
    """Return the cards of one subscriber of an operator."""
    statement = select(_cards.address).where(_cards.operator == operator, _cards.subscriber == subscriber)
    return list(connection.execute(statement.order_by(_cards.address)).scalars())


def pending(connection: Connection, after: int, limit: int) -> list[OutboxMessage]:
    """Return what waits in the outbox above a seq, in order."""
    table = schema.outbox
    statement = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
    return [OutboxMessage(*row) for row in connection.execute(statement)]


def audit_rows(connection: Connection, after: int, limit: int = AUDIT_STEP) -> list[tuple[int, str, bytes]]:
    """Return records of the audit chain above a seq, in order."""
    table = schema.audit
    statement = select(table.c.seq, table.c.record, table.c.mac).where(table.c.seq > after)
    return [(row[0], row[1], row[2]) for row in connection.execute(statement.order_by(table.c.seq).limit(limit))]


def _airs_of(connection: Connection, change_seqs: Sequence[int]) -> Mapping[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    statement = select(schema.airs).where(_airs.change_seq.in_(bindparam("keys", expanding=True)))
    for row in rows.by_keys(connection, statement, change_seqs):
        found.setdefault(row.change_seq, {})[row.multiplex] = row.at
    return found


def _subscription_view(row: SubscriptionRow, offer: OfferRow, now: float, zone: ZoneInfo) -> SubscriptionView:
    return SubscriptionView(
        subscription=row.subscription,
        rev=row.rev,
        offer=offer.offer,
        offer_names=json.loads(offer.names),
        products=row.opened(offer),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        changed_at=row.changed_at,
        minimum_until=row.minimum_until,
        protected=bool(row.protected),
        choice=None if row.choice is None else row.chosen(),
        next_change_at=next_change(row, now, zone),
        service=offer.service,
        product_id=offer.product_id,
        listed=offer.slugs(),
    )
