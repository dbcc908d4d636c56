"""What each card could open since when (C11): one row for each change of its content, kept for two years at least.

A row holds from its `at` to that of the card's next one. `opens` is JSON: windows of offers, and windows of products,
each as [number, start, end or null] in Unix seconds; empty lists while the card is closed.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_

from cad.ledger.model import HEADEND, OPEN_STATES, Grants
from cad.ledger.records import CardRow
from cad.ledger.tables import rows, schema
from cad.ledger.working import WorkingSet
from emm.plan import Right

STEP: Final = 1_000
Place = tuple[str, int, int]
"""Operator, card and change of a row."""
FIRST: Final[Place | None] = ("", -1, -1)
_history, _cards = schema.history.c, schema.cards.c
_NEXT: Final = (
    select(schema.history)
    .where(
        _history.operator == bindparam("of_operator"),
        tuple_(_history.address, _history.seq) > tuple_(bindparam("address"), bindparam("seq")),
    )
    .order_by(_history.address, _history.seq)
    .limit(STEP)
)
_PLACE: Final = ("operator", "address", "seq")
_NEXT_OF_ALL: Final = (
    select(_history.operator, _history.address, _history.seq, _history.at)
    .where(tuple_(*(_history[name] for name in _PLACE)) > tuple_(*(bindparam(name) for name in _PLACE)))
    .order_by(_history.operator, _history.address, _history.seq)
    .limit(STEP)
)
_FORGET: Final = delete(schema.history).where(*(_history[name] == bindparam(f"of_{name}") for name in _PLACE))
_CARDS: Final = select(_cards.address).where(_cards.address > bindparam("after")).order_by(_cards.address).limit(STEP)


def row(
    card: CardRow, seq: int, at: float, command_id: str, rights: Iterable[Right], state: WorkingSet
) -> tuple[Any, ...]:
    """Return the row of a card whose content is now this; `rights` are without regard to its state."""
    offers: list[list[int | None]] = []
    products: list[list[int | None]] = []
    if card.state in OPEN_STATES:
        for one in state.live_on(card.address, at):
            if card.open_until is None or one.starts_at < card.open_until:
                offers.append([one.offer_id, one.starts_at, _earlier(one.ends_at, card.open_until)])
        products = [[right.product_id, right.start, right.end] for right in rights]
    opens = json.dumps([offers, products], separators=(",", ":"))
    return (card.operator, card.address, seq, at, command_id, card.state, opens)


def begin(connection: Connection, grants: Grants, now: float) -> bool:
    """Note what all cards open now; return whether there were any: the ledger is older than its history."""
    after = -1
    while addresses := list(connection.execute(_CARDS, {"after": after}).scalars()):
        state = WorkingSet()
        rows.load_cards(connection, state, addresses, now)
        made = []
        for address in addresses:
            card = state.cards[address]
            rights = state.rights(address, grants.products(card.operator), now)
            made.append(row(card, card.change_seq, now, HEADEND, rights, state))
        names = [column.name for column in schema.history.columns]
        connection.execute(insert(schema.history), [dict(zip(names, one, strict=True)) for one in made])
        after = addresses[-1]
    return after >= 0


def block(connection: Connection, operator: str, address: int, seq: int) -> list[Any]:
    """Return the next rows of an operator after those of a card and its change, by card and in order."""
    found = connection.execute(_NEXT, {"of_operator": operator, "address": address, "seq": seq})
    return list(found.fetchall())


def prune(connection: Connection, before: float, place: Place) -> Place | None:
    """Forget rows that ended before a time, among the next ones; return where to go on, None at the end."""
    found = connection.execute(_NEXT_OF_ALL, dict(zip(_PLACE, place, strict=True))).fetchall()
    old = [
        {"of_operator": one.operator, "of_address": one.address, "of_seq": one.seq}
        for one, following in pairwise(found)
        if (one.operator, one.address) == (following.operator, following.address) and following.at < before
    ]
    if old:
        connection.execute(_FORGET, old)
    return (found[-2].operator, found[-2].address, found[-2].seq) if len(found) == STEP else None


def offers(connection: Connection, operator: str) -> Mapping[int, tuple[str, str | None]]:
    """Return the slug of each offer by its number, and the service of an event."""
    wanted = select(schema.offers.c.id, schema.offers.c.offer, schema.offers.c.service)
    found = connection.execute(wanted.where(schema.offers.c.operator == operator))
    return {one.id: (one.offer, one.service) for one in found}


def _earlier(end: int | None, until: int | None) -> int | None:
    return until if end is None or (until is not None and until < end) else end
