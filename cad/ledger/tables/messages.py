"""Messages and fingerprints in the ledger: those a batch needs, and what is to be on the air at a moment."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal_column, or_, select, update

from cad.ledger.model import RETURNED, STOCK
from cad.ledger.records import MessageRow
from cad.ledger.tables import schema
from cad.ledger.working import WorkingSet

_messages, _cards, _subscriptions = schema.messages.c, schema.cards.c, schema.subscriptions.c
_CARD = (_cards.address, _cards.key_version)
# The index of cards that stand in a region serves a query only where this says that they do.
_SOMEWHERE = _cards.region > literal_column("0")


@dataclass(frozen=True, slots=True)
class OnAirMessage:
    """A message of the ledger that is sent now, or will be. `content` as `emm.notices` builds it. Unix seconds.

    It is for `cards` (addresses), for those with the offer `offer_id`, for those that stand in the region of the number
    `region`, or where all three are None for all of the operator. `on_air_at`: when it, as it is now, had been sent to
    all that it was for; None before.
    """

    operator: str
    message: str
    number: int
    content: bytes
    starts_at: int
    ends_at: int
    repeat_s: int
    changed_at: float
    cards: tuple[int, ...] | None
    offer_id: int | None
    region: int | None = None
    rev: int = 0
    on_air_at: float | None = None

    @property
    def everyone(self) -> bool:
        """Whether it is for all cards of the operator."""
        return self.cards is None and self.offer_id is None and self.region is None


def load(connection: Connection, state: WorkingSet, operator: str, names: Sequence[str], now: float) -> None:
    """Add the messages of these names, and all that the operator has on the air or ordered for later."""
    statement = select(schema.messages).where(
        _messages.operator == operator, or_(_messages.message.in_(names), _active(now))
    )
    for row in connection.execute(statement):
        state.add_message(MessageRow(*row))


def active(connection: Connection, operators: Sequence[str], now: float) -> list[OnAirMessage]:
    """Return what these operators have on the air, or ordered for later, by number."""
    statement = select(schema.messages).where(_messages.operator.in_(operators), _active(now))
    return [read(MessageRow(*row)) for row in connection.execute(statement.order_by(_messages.number))]


def named(connection: Connection, message: OnAirMessage) -> list[tuple[int, int]]:
    """Return (address, key version) of the named cards that a message is for, rising by address."""
    # Whoever was given the card since then is not whom it was written to.
    wanted = and_(_cards.address.in_(message.cards or ()), _cards.assigned_at <= message.changed_at)
    found = connection.execute(_mine(message).where(wanted).order_by(_cards.address))
    return [(address, key_version) for address, key_version in found]


def next_cards(
    connection: Connection, message: OnAirMessage, now: float, after: int, limit: int
) -> list[tuple[int, int, int]]:
    """Return (place, address, key version) of the next cards that a message to an offer or a region is for at present.

    In the order of places, those above `after`, which begins below 0. A card comes once for each of its subscriptions.
    """
    if message.region is not None:
        return _standing(connection, message, after, limit)
    return _holders(connection, message, now, after, limit)


def _standing(connection: Connection, message: OnAirMessage, after: int, limit: int) -> list[tuple[int, int, int]]:
    """Return (address, address, key version) of cards that stand in the message's region, above an address."""
    statement = _mine(message).where(_cards.region == message.region, _SOMEWHERE, _cards.address > after)
    found = connection.execute(statement.order_by(_cards.address).limit(limit))
    return [(address, address, key_version) for address, key_version in found]


def _holders(
    connection: Connection, message: OnAirMessage, now: float, after: int, limit: int
) -> list[tuple[int, int, int]]:
    """Return (row number of the subscription, address, key version) of cards that have the message's offer."""
    live = and_(
        _subscriptions.offer_id == message.offer_id,
        _subscriptions.id > after,
        _subscriptions.starts_at <= now,
        or_(_subscriptions.ends_at.is_(None), _subscriptions.ends_at > now),
    )
    statement = _mine(message).join(schema.subscriptions, _subscriptions.address == _cards.address).where(live)
    found = connection.execute(
        statement.with_only_columns(_subscriptions.id, *_CARD).order_by(_subscriptions.id).limit(limit)
    )
    return [(row, address, key_version) for row, address, key_version in found]


def cards_of(blocks: Iterable[Sequence[tuple[int, int, int]]]) -> list[tuple[int, int]]:
    """Return (address, key version) of the cards in blocks of `next_cards`, each once, rising by address."""
    keys = [np.array([address << 8 | key_version for _, address, key_version in block], np.int64) for block in blocks]
    return [divmod(key, 256) for key in np.unique(np.concatenate(keys)).tolist()] if keys else []


def count(connection: Connection, message: OnAirMessage, limit: int) -> int | None:
    """Return how many cards a message to an offer or a region is for, at the most, counted up to `limit`.

    None of other messages. Reads index entries alone, so cards of ended subscriptions count too.
    """
    if message.offer_id is not None:
        found = select(_subscriptions.offer_id).where(_subscriptions.offer_id == message.offer_id)
    elif message.region is not None:
        found = select(_cards.region).where(
            _cards.operator == message.operator, _cards.region == message.region, _SOMEWHERE
        )
    else:
        return None
    return connection.execute(select(func.count()).select_from(found.limit(limit).subquery())).scalar_one()


def note_on_air(connection: Connection, message: OnAirMessage, at: float) -> bool:
    """Note when a message had been sent to all; return False where it is another by now, or where that is known."""
    unchanged = and_(
        _messages.operator == message.operator,
        _messages.message == message.message,
        _messages.rev == message.rev,
        _messages.withdrawn == 0,
        _messages.on_air_at.is_(None),
    )
    return connection.execute(update(schema.messages).where(unchanged).values(on_air_at=at)).rowcount == 1


def _mine(message: OnAirMessage) -> Select[Any]:
    """Cards of the message's operator that are in somebody's hands."""
    return select(*_CARD).where(_cards.operator == message.operator, _cards.state.not_in((STOCK, RETURNED)))


def _active(now: float) -> ColumnElement[bool]:
    return and_(_messages.ends_at > now, _messages.withdrawn == 0)


def read(row: MessageRow) -> OnAirMessage:
    """Return a message as those see it who send it."""
    to = json.loads(row.recipients)
    return OnAirMessage(
        operator=row.operator,
        message=row.message,
        number=row.number,
        content=row.content,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        repeat_s=row.repeat_s,
        changed_at=row.changed_at,
        cards=tuple(to["cards"]) if "cards" in to else None,
        offer_id=to.get("offer"),
        region=to.get("region"),
        rev=row.rev,
        on_air_at=row.on_air_at,
    )
