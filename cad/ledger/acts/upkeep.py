"""Acts on the ledger that no command asks for: grants, restores, guards against falling versions, pruning."""

import json
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, case, delete, insert, select, update

from cad.ledger import rollout
from cad.ledger.batch import Batch
from cad.ledger.errors import VersionWouldFall
from cad.ledger.model import CardChange, Grants
from cad.ledger.tables import rows, schema
from cad.ledger.working import REVISION_MAX

PRUNE_STEP: Final = 2_000
COUNTED_FROM: Final = 1_577_836_800
"""2020-01-01: seconds since then fit into a revision until 2156."""

_meta, _commands, _changes = schema.meta.c, schema.commands.c, schema.changes.c
_KEYS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)


def get_meta(connection: Connection, key: str) -> str | None:
    """Return a value kept by name."""
    found: str | None = connection.execute(select(_meta.value).where(_meta.key == key)).scalar()
    return found


def put_meta(connection: Connection, key: str, value: str) -> None:
    """Keep a value by name, in place of an older one."""
    if connection.execute(update(schema.meta).where(_meta.key == key).values(value=value)).rowcount == 0:
        connection.execute(insert(schema.meta).values(key=key, value=value))


def spell_grants(grants: Grants) -> str:
    """Spell which products each operator may sell, in one way."""
    return json.dumps({name: dict(grant.products) for name, grant in grants.operators.items()}, sort_keys=True)


def regrant(batch: Batch, connection: Connection, stored: str | None, spelt: str) -> tuple[list[CardChange], int]:
    """Have each card that gains or loses a product because the settings changed follow.

    Returns the cards that have followed already, and how many are left for later.
    """
    before: Mapping[str, Mapping[str, int]] = json.loads(stored or "{}")
    changed = [
        rollout.of_grants(batch, offer, before.get(offer.operator, {}))
        for offer in rows.all_offers(connection)
        if any(
            before.get(offer.operator, {}).get(slug) != batch.grants.products(offer.operator).get(slug)
            for slug in offer.slugs()
        )
    ]
    batch.connection = connection
    changes, later = rollout.begin(batch, connection, changed)
    batch.note("grants", {"products": json.loads(spelt), "cards": len(changes) + later})
    batch.flush(connection)
    put_meta(connection, "grants", spelt)
    return changes, later


def jump(batch: Batch, connection: Connection, kind: str, facts: Mapping[str, Any], margin: int) -> None:
    """Raise every card's revision beyond what the cards may have seen before (D2, I3); new cards begin there too.

    So does the number of the next message. By the margin at least, and to the seconds since COUNTED_FROM: the same copy
    put back twice, and cards that the copy does not know, must not fall behind what went on the air meanwhile.
    """
    floor = min(max(batch.counters.revision_floor + margin, int(batch.now) - COUNTED_FROM), REVISION_MAX - margin)
    column = schema.cards.c.revision
    raised = case((column + margin > floor, column + margin), else_=floor)
    connection.execute(update(schema.cards).where(column <= REVISION_MAX - margin).values(revision=raised))
    batch.counters.revision_floor = floor
    put_meta(connection, "revision_floor", str(floor))
    number = max(batch.counters.message_number + margin, int(batch.now) - COUNTED_FROM)
    batch.counters.message_number = number
    put_meta(connection, "message_number", str(number))
    note(batch, connection, kind, {**facts, "margin": margin, "floor": floor})


def note(batch: Batch, connection: Connection, kind: str, facts: Mapping[str, Any]) -> None:
    """Put an act into the audit chain."""
    batch.note(kind, facts)
    batch.flush(connection)


def changes_from(batch: Batch, connection: Connection, first_seq: int) -> list[CardChange]:
    """Return the changes stored with this seq or a higher one, as they were told or should have been."""
    statement = select(schema.changes).where(_changes.seq >= first_seq).order_by(_changes.seq)
    found = connection.execute(statement).fetchall()
    rows.load_cards(connection, batch.state, {row.address for row in found}, batch.now)
    return [
        batch.tell(batch.state.cards[row.address], row.seq, row.at, row.command_id)
        for row in found
        if batch.state.cards[row.address].change_seq == row.seq
    ]


def guard_period(connection: Connection, period: int, calendar: Mapping[str, int]) -> None:
    """Note the period that goes on the air now, and with which calendar. Raises VersionWouldFall for a lower one."""
    highest = int(get_meta(connection, "period") or 0)
    if period < highest:
        raise VersionWouldFall(
            f"period {period} would go on the air, but cards have seen period {highest} and ignore lower ones."
            f" The calendar was {get_meta(connection, 'calendar')} and is now {spell_calendar(calendar)}:"
            " put [calendar] back as it was, and check the machine's clock"
        )
    if period > highest or get_meta(connection, "calendar") != spell_calendar(calendar):
        put_meta(connection, "period", str(period))
        put_meta(connection, "calendar", spell_calendar(calendar))


def spell_calendar(calendar: Mapping[str, int]) -> str:
    """Spell calendar settings in one way."""
    return ", ".join(f"{key} = {value}" for key, value in sorted(calendar.items()))


def prune_commands(connection: Connection, before: float) -> bool:
    """Forget some command ids answered before a time, the oldest first; return whether there may be more."""
    oldest = select(_commands.seq, _commands.at).order_by(_commands.seq).limit(PRUNE_STEP)
    old = [row.seq for row in connection.execute(oldest) if row.at < before]
    if old:
        connection.execute(delete(schema.commands).where(_commands.seq.in_(_KEYS)), {"keys": old})
    return len(old) == PRUNE_STEP


def prune_changes(connection: Connection, before: float, after: int) -> int | None:
    """Forget finished changes from before a time that are no card's newest, among the next ones above the seq `after`.

    Returns the seq to go on after, None at the end.
    """
    window = (
        select(_changes.seq, _changes.at, _changes.done_at, schema.cards.c.change_seq)
        .join(schema.cards, schema.cards.c.address == _changes.address)
        .where(_changes.seq > after)
        .order_by(_changes.seq)
        .limit(PRUNE_STEP)
    )
    found = connection.execute(window).fetchall()
    old = [row.seq for row in found if row.at < before and row.done_at is not None and row.change_seq != row.seq]
    if old:
        connection.execute(delete(schema.airs).where(schema.airs.c.change_seq.in_(_KEYS)), {"keys": old})
        connection.execute(delete(schema.changes).where(_changes.seq.in_(_KEYS)), {"keys": old})
    if len(found) < PRUNE_STEP or found[-1].at >= before:
        return None
    return int(found[-1].seq)
