"""Offers that changed, and the cards that have them: who follows next, how many, and who might become too full."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, delete, distinct, func, insert, or_, select

from cad.ledger.records import SAID_S, Rollout
from cad.ledger.tables import schema
from emm.plan import WINDOWS_MAX

_subscriptions, _offers = schema.subscriptions.c, schema.offers.c

# A card's rights are at most the products of its subscriptions: those of a mix are what was chosen.
_mine, _held = schema.subscriptions.alias("mine"), schema.subscriptions.alias("held")
_listed = func.json_array_length(func.coalesce(_held.c.choice, _offers.products))
_rights = case(
    (_held.c.offer_id == bindparam("of_offer"), bindparam("products")),
    (_offers.product_id.is_not(None), 1),
    else_=_listed,
)
_CROWDED: Final = (
    select(_held.c.address)
    .select_from(
        _mine.join(_held, _held.c.address == _mine.c.address).join(schema.offers, _offers.id == _held.c.offer_id)
    )
    .where(
        _mine.c.offer_id == bindparam("of_offer"),
        *(or_(one.c.ends_at.is_(None), one.c.ends_at > bindparam("now")) for one in (_mine, _held)),
    )
    .group_by(_held.c.address)
    .having(func.sum(_rights) > WINDOWS_MAX)
)


def held(connection: Connection) -> tuple[Rollout, ...]:
    """Return all rollouts, the oldest first."""
    found = connection.execute(
        select(schema.rollouts).order_by(schema.rollouts.c.since_seq, schema.rollouts.c.offer_id)
    )
    return tuple(Rollout(*row) for row in found)


def keep(connection: Connection, rollouts: Iterable[Rollout]) -> None:
    """Keep these, and no others: there are few."""
    connection.execute(delete(schema.rollouts))
    names = [column.name for column in schema.rollouts.columns]
    if values := [{name: getattr(one, name) for name in names} for one in rollouts]:
        connection.execute(insert(schema.rollouts), values)


def following(connection: Connection, one: Rollout, now: float, limit: int) -> tuple[list[int], int | None]:
    """Return the next cards that may have to follow, and the row number to go on after; None when there are no more."""
    statement = (
        select(_subscriptions.id, _subscriptions.address)
        .where(_concerned(one, now))
        .order_by(_subscriptions.id)
        .limit(limit)
    )
    found = connection.execute(statement).fetchall()
    return list(dict.fromkeys(row.address for row in found)), found[-1].id if len(found) == limit else None


def count(connection: Connection, one: Rollout, now: float) -> int:
    """Return how many cards may still have to follow. Reads all of them."""
    statement = select(func.count(distinct(_subscriptions.address))).where(_concerned(one, now))
    return int(connection.execute(statement).scalar_one())


def behind(connection: Connection, one: Rollout) -> list[int]:
    """Return the cards with this offer that have not followed it yet, and those it does not concern."""
    statement = (
        select(_subscriptions.address)
        .join(schema.cards, schema.cards.c.address == _subscriptions.address)
        .where(_subscriptions.offer_id == one.offer_id, schema.cards.c.change_seq < one.since_seq)
    )
    return list(connection.execute(statement).scalars())


def crowded(connection: Connection, offer_id: int, products: int, now: float) -> list[int]:
    """Return cards that may hold more rights than fit when an offer lists so many products, and perhaps some more."""
    values = {"of_offer": offer_id, "products": products, "now": now}
    return list(connection.execute(_CROWDED, values).scalars())


def _concerned(one: Rollout, now: float) -> ColumnElement[bool]:
    """Choose the subscriptions that open something else since; what ended not long ago may still be said by an EMM."""
    found = and_(
        _subscriptions.offer_id == one.offer_id,
        _subscriptions.id > one.after,
        or_(_subscriptions.ends_at.is_(None), _subscriptions.ends_at > now - SAID_S),
    )
    if (changed := one.changed()) is None:
        return found
    chosen = (_subscriptions.choice.contains(f'"{slug}"', autoescape=True) for slug in changed)
    return and_(found, or_(_subscriptions.choice.is_(None), *chosen))
