"""What comes by the clock alone: trust that runs out (S12), subscriptions that start and end (S10).

Whatever is due for a card is done before a command about it is looked at, so that a daemon that was down at the moment,
or busy, decides as if it had been there.
"""

import heapq
from dataclasses import replace
from typing import Final

import structlog
from sqlalchemy import Connection

from cad.ledger import facts, rollout
from cad.ledger.batch import Batch
from cad.ledger.model import HEADEND, OPEN_STATES, SUSPENDED, CardChange
from cad.ledger.records import CardRow, Fact
from cad.ledger.tables import rows

log = structlog.get_logger(__name__)

LIMIT: Final = 1_000
"""Moments dealt with in one transaction."""
PROMISE_BROKEN: Final = "the time it was reopened for is over"


def run(batch: Batch, connection: Connection) -> tuple[list[CardChange], bool]:
    """Do what is due; return the cards that closed, and whether there may be more to do."""
    more = rows.load_due(connection, batch.state, batch.now, LIMIT)
    batch.connection = connection
    closed = catch_up(batch)
    batch.flush(connection)
    return closed, more


def catch_up(batch: Batch) -> list[CardChange]:
    """Do what is due for the cards and subscriptions of the working set, in the order of the moments.

    Before it cards follow what their offers became. Returns the cards that changed.
    """
    state, now = batch.state, batch.now
    closed = rollout.catch_up(batch)
    moments: list[tuple[int, int, int | tuple[str, str]]] = [
        (row.open_until, 0, address)
        for address, row in state.cards.items()
        if row.open_until is not None and row.open_until <= now
    ]
    for name, one in state.subscriptions.items():
        if one.due_at is not None and one.due_at <= now:
            moments.append((one.due_at, 1, name))
    heapq.heapify(moments)
    while moments:
        _, _, key = heapq.heappop(moments)
        if isinstance(key, int):
            closed += _close(batch, state.cards[key])
            continue
        row, fact = facts.come(state.subscriptions[key])
        state.add_subscription(row)
        batch.writes.subscriptions.add(key)
        batch.tell_fact(row.operator, fact, HEADEND)
        if row.due_at is not None and row.due_at <= now:
            heapq.heappush(moments, (row.due_at, 1, key))
    batch.publish_facts()
    return closed


def _close(batch: Batch, row: CardRow) -> list[CardChange]:
    """Block a card that was open for a time only."""
    at = row.open_until or 0
    was_open = row.state in OPEN_STATES
    state = SUSPENDED if was_open else row.state
    batch.state.cards[row.address] = replace(row, state=state, blocked=1, open_until=None, reason=PROMISE_BROKEN)
    batch.writes.cards.add(row.address)
    if not was_open:
        return []
    batch.note("closed", {"operator": row.operator, "address": row.address, "until": at})
    fact = Fact(row.address, "service-suspended", at, reason=PROMISE_BROKEN)
    batch.tell_fact(row.operator, fact, HEADEND)
    try:
        return [batch.change(row.address, HEADEND)]
    except OverflowError:
        # It opens nothing either way: its EMM ended at that moment. It must not keep others from closing (I7).
        log.exception("card cannot be told that it is suspended", address=row.address)
        return []
