"""All rows of one operator as of one moment, read in short steps between the commits.

One connection does everything (SQLite before 3.51.3 must not have two), so nothing may hold it for long, and there is
no snapshot of it beside the writer. Instead a watch notes which rows commits change meanwhile; they are read again at
the end, and the last of them in the step that names the moment.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, func, select

from cad.ledger.errors import CopyBroken
from cad.ledger.tables import rows, schema

if TYPE_CHECKING:
    from cad.ledger.model import Grants
    from cad.ledger.working import WorkingSet

STEP: Final = 1_000
"""Rows read at a time: a few milliseconds."""
ROUNDS_MAX: Final = 1_000

_cards, _offers, _subscriptions = schema.cards.c, schema.offers.c, schema.subscriptions.c
_KEYS: Final[Any] = bindparam("keys", expanding=True)
T = TypeVar("T")
_AFTER: Final[Any] = bindparam("after")
_UPTO: Final[Any] = bindparam("upto")
_OPERATOR: Final[Any] = bindparam("of_operator")

_ALL_SUBSCRIPTIONS: Final = select(schema.subscriptions, _offers.offer).join(
    schema.offers, _offers.id == _subscriptions.offer_id
)
_next_cards = select(_cards.address).where(_cards.address > _AFTER).order_by(_cards.address).limit(STEP).subquery()
_next_ids = select(_subscriptions.id).where(_subscriptions.id > _AFTER).order_by(_subscriptions.id).limit(STEP)
_next_subscriptions = _next_ids.subquery()
_END_OF_CARDS: Final = select(func.max(_next_cards.c.address))
_END_OF_SUBSCRIPTIONS: Final = select(func.max(_next_subscriptions.c.id))
# Operators without their index: it would lead through the whole table at each step.
_CARDS: Final = select(schema.cards).where(
    _cards.address > _AFTER, _cards.address <= _UPTO, func.coalesce(_cards.operator, "") == _OPERATOR
)
_SUBSCRIPTIONS: Final = _ALL_SUBSCRIPTIONS.where(
    _subscriptions.id > _AFTER, _subscriptions.id <= _UPTO, func.coalesce(_subscriptions.operator, "") == _OPERATOR
)
_SOME_CARDS: Final = select(schema.cards).where(_cards.address.in_(_KEYS), _cards.operator == _OPERATOR)
_SOME_SUBSCRIPTIONS: Final = _ALL_SUBSCRIPTIONS.where(
    _subscriptions.operator == _OPERATOR, _subscriptions.subscription.in_(_KEYS)
)
_OFFERS: Final = select(schema.offers).where(_offers.operator == _OPERATOR)


@dataclass(slots=True)
class Watch:
    """Notes which rows of an operator commits change. `broken`: commits may have escaped it."""

    operator: str
    cards: set[int] = field(default_factory=set)
    subscriptions: set[str] = field(default_factory=set)
    offers: bool = False
    broken: bool = False

    def note(self, writes: rows.Writes, state: WorkingSet) -> None:
        """Take the rows of a commit."""
        mine = self.operator
        self.cards |= {one for one in writes.cards | writes.new_cards if state.cards[one].operator == mine}
        self.subscriptions |= {name for of, name in writes.subscriptions | writes.new_subscriptions if of == mine}
        self.offers = self.offers or any(of == mine for of, _ in writes.offers | writes.new_offers)

    def __len__(self) -> int:
        return len(self.cards) + len(self.subscriptions)


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of `cards`, `offers`, and `subscriptions` with the slug of their offer (`offer`).

    `regions`: what their numbers in the cards mean.

    `as_of` (Unix seconds) stands in the last block: all blocks together show that moment.
    """

    cards: Sequence[Any] = ()
    offers: Sequence[Any] = ()
    subscriptions: Sequence[Any] = ()
    as_of: float | None = None
    regions: Mapping[int, str] = field(default_factory=dict)


class Watched(Protocol):
    """The store, as far as it is watched. `highest_time`: no commit was later."""

    grants: Grants
    highest_time: float
    watches: tuple[Watch, ...]


class Reader(Protocol):
    """Runs a query in the ledger's thread."""

    def __call__(self, query: Callable[[Connection], T], /) -> Awaitable[T]: ...


async def copy(store: Watched, read: Reader, operator: str, now: Callable[[], float]) -> AsyncGenerator[Copied, None]:
    """Yield the rows of an operator. Raises CopyBroken."""
    watch = Watch(operator)
    grant = store.grants.operators.get(operator)
    regions = {} if grant is None else {number: name for name, number in grant.regions.items()}
    store.watches = (*store.watches, watch)
    try:
        for step in (_card_step, _subscription_step):
            after: int | None = -1
            while after is not None:
                copied, after = await read(partial(step, operator=operator, after=after))
                yield replace(copied, regions=regions)
        yield await read(lambda held: Copied(offers=held.execute(_OFFERS, {"of_operator": operator}).fetchall()))
        for _ in range(ROUNDS_MAX):
            copied = await read(partial(_changed, watch=watch, store=store, now=now()))
            yield replace(copied, regions=regions)
            if copied.as_of is not None:
                return
        raise CopyBroken("rows change faster than they can be read; try again when there is less to do")
    finally:
        store.watches = tuple(one for one in store.watches if one is not watch)


def _card_step(connection: Connection, operator: str, after: int) -> tuple[Copied, int | None]:
    upto = connection.execute(_END_OF_CARDS, {"after": after}).scalar()
    found = connection.execute(_CARDS, {"after": after, "upto": upto, "of_operator": operator})
    return Copied(cards=found.fetchall()), upto


def _subscription_step(connection: Connection, operator: str, after: int) -> tuple[Copied, int | None]:
    upto = connection.execute(_END_OF_SUBSCRIPTIONS, {"after": after}).scalar()
    found = connection.execute(_SUBSCRIPTIONS, {"after": after, "upto": upto, "of_operator": operator})
    return Copied(subscriptions=found.fetchall()), upto


def _changed(connection: Connection, watch: Watch, store: Watched, now: float) -> Copied:
    """Read again what was changed; when that is all of it, nothing comes in between, and this is the moment."""
    if watch.broken:
        raise CopyBroken("the ledger failed while it was copied; try again")
    cards = [watch.cards.pop() for _ in range(min(STEP, len(watch.cards)))]
    subscriptions = [watch.subscriptions.pop() for _ in range(min(STEP, len(watch.subscriptions)))]
    offers, watch.offers = watch.offers, False
    mine = {"of_operator": watch.operator}
    return Copied(
        cards=list(rows.by_keys(connection, _SOME_CARDS, cards, **mine)),
        offers=connection.execute(_OFFERS, mine).fetchall() if offers else (),
        subscriptions=list(rows.by_keys(connection, _SOME_SUBSCRIPTIONS, subscriptions, **mine)),
        as_of=None if len(watch) else max(now, store.highest_time),
    )
