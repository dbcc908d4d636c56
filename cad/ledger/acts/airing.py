"""First transmissions: what went on the air where, and the `on-air` events that tell of it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, insert, select, update

from cad.ledger.batch import Batch
from cad.ledger.model import FirstAir, Grants
from cad.ledger.tables import messages, rows, schema
from cad.ledger.tables.messages import OnAirMessage
from protocol.portal import topics
from protocol.portal.events import MESSAGE_ON_AIR_TYPE, ON_AIR_TYPE, CardOnAir, MessageOnAir

_changes, _airs = schema.changes.c, schema.airs.c
_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_BY_SEQ: Final = select(_changes.seq, _changes.address, _changes.revision).where(_changes.seq.in_(_KEYS))
_OPEN_OF_CARDS: Final = (
    select(_changes.seq, _changes.address, _changes.operator, _changes.command_id)
    .where(_changes.address.in_(_KEYS), _changes.done_at.is_(None))
    .order_by(_changes.seq)
)
_OPEN: Final = select(_changes.seq, _changes.operator).where(_changes.done_at.is_(None)).order_by(_changes.seq)
_AIRED: Final = select(_airs.change_seq, _airs.multiplex).where(_airs.change_seq.in_(_KEYS))
_DONE: Final = update(schema.changes).where(_changes.seq == bindparam("of_key")).values(done_at=bindparam("to_done_at"))


def record(connection: Connection, batch: Batch, items: Sequence[FirstAir]) -> None:
    """Store first transmissions and put an event for each into the outbox; what is known already changes nothing.

    A transmission also counts for older changes of the card that had not been sent there: it says all of them (D1).
    """
    known = {row.seq: row for row in rows.by_keys(connection, _BY_SEQ, {item.change_seq for item in items})}
    sent: dict[int, dict[str, tuple[int, float, int]]] = defaultdict(dict)
    for item in items:
        if (change := known.get(item.change_seq)) is not None:
            newest = sent[change.address].get(item.multiplex)
            if newest is None or newest[0] < change.seq:
                sent[change.address][item.multiplex] = (change.seq, item.at, change.revision)
    waiting = list(rows.by_keys(connection, _OPEN_OF_CARDS, sent))
    aired = aired_on(connection, [row.seq for row in waiting])
    new: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    for row in waiting:
        on = aired[row.seq]
        for multiplex, (seq, at, revision) in sent[row.address].items():
            if seq < row.seq or multiplex in on:
                continue
            on.add(multiplex)
            new.append({"change_seq": row.seq, "multiplex": multiplex, "at": at})
            remaining = tuple(one for one in batch.grants.multiplexes(row.operator) if one not in on)
            if not remaining:
                done.append({"of_key": row.seq, "to_done_at": at})
            if row.command_id:
                _publish(batch, row, multiplex, at, revision, remaining)
    if new:
        connection.execute(insert(schema.airs), new)
    if done:
        connection.execute(_DONE, done)
    batch.flush(connection)


def record_message(batch: Batch, connection: Connection, message: OnAirMessage, at: float) -> None:
    """Store when a message had been sent to all that it is for, and put the event into the outbox, once.

    Nothing is told of a message that was changed or withdrawn meanwhile.
    """
    if not messages.note_on_air(connection, message, at):
        return
    event = MessageOnAir(message=message.message, rev=message.rev, at=int(at))
    batch.publish(
        message.operator,
        MESSAGE_ON_AIR_TYPE,
        topics.event(message.operator, "message", "on-air"),
        event.model_dump_json(),
        event_id=f"{batch.ledger_id}-message.{message.number}.{message.rev}",
    )
    batch.flush(connection)


def settle(connection: Connection, grants: Grants, now: float) -> int:
    """Close changes that wait only for multiplexes that are no longer in the settings; return how many."""
    waiting = connection.execute(_OPEN).fetchall()
    aired = aired_on(connection, [row.seq for row in waiting])
    done = [
        {"of_key": row.seq, "to_done_at": now}
        for row in waiting
        if all(multiplex in aired[row.seq] for multiplex in grants.multiplexes(row.operator))
    ]
    if done:
        connection.execute(_DONE, done)
    return len(done)


def aired_on(connection: Connection, change_seqs: Iterable[int]) -> defaultdict[int, set[str]]:
    """Return on which multiplexes each change has been sent."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows.by_keys(connection, _AIRED, change_seqs):
        found[row.change_seq].add(row.multiplex)
    return found


def _publish(batch: Batch, row: Any, multiplex: str, at: float, revision: int, remaining: tuple[str, ...]) -> None:
    event = CardOnAir(
        card=row.address,
        command=row.command_id,
        multiplex=multiplex,
        at=int(at),
        revision=revision,
        remaining=remaining,
    )
    batch.publish(row.operator, ON_AIR_TYPE, topics.event(row.operator, "card", "on-air"), event.model_dump_json())
