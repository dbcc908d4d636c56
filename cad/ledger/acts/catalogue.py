"""An operator's offers as they stand, and a whole catalogue held against them: a rehearsal, which changes nothing."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from sqlalchemy import Connection

from cad.errors import NotFoundError
from cad.ledger import rollout
from cad.ledger.batch import Batch
from cad.ledger.decide.command import decide
from cad.ledger.decide.common import Context, spell_offer
from cad.ledger.model import Order, Outcome
from cad.ledger.records import Decision, OfferRow
from cad.ledger.tables import rollouts, rows
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code
from protocol.portal.commands import parsing
from protocol.portal.commands.catalogue import Catalogue
from protocol.portal.commands.offers import OfferPut, OfferWithdraw
from protocol.portal.fields import spell_moment

NEW: Final = "new"
CHANGED: Final = "changed"
WITHDRAWN: Final = "withdrawn"
UNCHANGED: Final = "unchanged"
_OWN: Final = frozenset({"id", "operator", "offer", "rev", "changed_at", "product_id"})
_AS_JSON: Final = frozenset({"names", "heading", "products", "terms"})
_MOMENTS: Final = frozenset({"starts_at", "ends_at"})


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of an offer, such as names.fi or terms.price, before and after; None where there is nothing."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class OfferChange:
    """What becomes of one offer. `cards` are sent new content. A `code` that is not ok says why it would be refused.

    `order` would do it; None where nothing is to be done.
    """

    offer: str
    change: str
    fields: tuple[FieldChange, ...] = ()
    order: Order | None = None
    cards: int = 0
    code: Code = Code.OK
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StandingOffer:
    """An offer as it stands: its fields by name, since when it is not sold any more, its live subscriptions."""

    offer: str
    rev: int
    fields: Mapping[str, Any]
    changed_at: float
    withdrawn_at: float | None
    subscriptions: int


def standing(batch: Batch, connection: Connection, operator: str | None) -> dict[str, list[StandingOffer]]:
    """Return the offers of one operator, or of all, by name. Raises NotFoundError for an unknown operator."""
    if operator is not None:
        return {operator: _standing(connection, _context(batch, operator))}
    return {name: _standing(connection, _context(batch, name)) for name in sorted(batch.grants.operators)}


def _standing(connection: Connection, context: Context) -> list[StandingOffer]:
    operator = context.operator
    counts = rows.count_live(connection, operator, context.now)
    return [
        StandingOffer(row.offer, row.rev, spell(row), row.changed_at, row.withdrawn_at, counts.get(row.id, 0))
        for row in rows.offers_of(connection, operator)
    ]


def compare(batch: Batch, connection: Connection, catalogue: Catalogue, by: str) -> list[OfferChange]:
    """Return what a catalogue changes: its offers in its order, then those withdrawn because it lacks them.

    `by` is who asks, for the audit. Raises NotFoundError for an operator that is not in the settings.
    """
    context = _context(batch, catalogue.operator)
    there = {row.offer: row for row in rows.offers_of(connection, context.operator)}
    found = [_put(command, there.get(command.offer), context, by) for command in catalogue.offers]
    kept = {command.offer for command in catalogue.offers}
    for row in there.values():
        if row.offer not in kept and row.withdrawn_at is None and not (row.event and (row.ends_at or 0) <= context.now):
            command = OfferWithdraw(offer=row.offer, rev=row.rev + 1)
            found.append(OfferChange(row.offer, WITHDRAWN, order=_order(command, context, by)))
    return _rehearse(batch, connection, found, there, kept, context)


def fingerprint(changes: Sequence[OfferChange]) -> str:
    """Return a text that is another when anything else would be done."""
    told = [(one.offer, one.change, None if one.order is None else one.order.digest.hex()) for one in changes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def done(change: OfferChange, outcome: Outcome) -> OfferChange:
    """Return a change as it came out."""
    refused = outcome.reply.detail if outcome.reply is not None and outcome.code is not Code.OK else ""
    return replace(change, cards=outcome.cards, code=outcome.code, detail=refused)


def spell(row: OfferRow) -> dict[str, Any]:
    """Return what an offer says, by field; what it does not say is left out."""
    found = {one.name: getattr(row, one.name) for one in fields(row) if one.name not in _OWN}
    withdrawn = found.pop("withdrawn_at") is not None
    read = {key: json.loads(value) if value and key in _AS_JSON else value for key, value in found.items()}
    read |= {key: spell_moment(read[key]) for key in _MOMENTS if read[key] is not None}
    if row.terms is not None:
        read["terms"] = row.agreed().model_dump(mode="json", exclude_defaults=True)
    said = {key: value for key, value in read.items() if value not in (None, [])}
    return said | ({"withdrawn": True} if withdrawn else {})


def _put(command: OfferPut, row: OfferRow | None, context: Context, by: str) -> OfferChange:
    before = {} if row is None else dict(_flat(spell(row)))
    after = dict(_flat(spell(_row(command, row, context))))
    changed = tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*after, *before])
        if before.get(name) != after.get(name)
    )
    if row is None:
        return OfferChange(command.offer, NEW, changed, _order(command, context, by))
    if not changed:
        return OfferChange(command.offer, UNCHANGED)
    raised = command.model_copy(update={"rev": row.rev + 1})
    return OfferChange(command.offer, CHANGED, changed, _order(raised, context, by))


def _row(command: OfferPut, row: OfferRow | None, context: Context) -> OfferRow:
    new = spell_offer(command, row, WorkingSet(), context)
    return replace(new, service=command.service, starts_at=command.starts_at, ends_at=command.ends_at)


def _order(command: OfferPut | OfferWithdraw, context: Context, by: str) -> Order:
    body = command.body()
    digest = parsing.digest(command, body)
    command_id = f"load-{int(context.now)}-{digest.hex()[:24]}"
    return Order(context.operator, command.model_copy(update={"id": command_id}), body, digest, by=by)


def _rehearse(
    batch: Batch,
    connection: Connection,
    found: list[OfferChange],
    there: Mapping[str, OfferRow],
    kept: set[str],
    context: Context,
) -> list[OfferChange]:
    """Decide on all orders one after the other, as it would be done, and note what comes of each."""
    orders = [one.order for one in found if one.order is not None]
    state = rows.load(connection, orders, context.now)
    for row in there.values():
        state.add_offer(row)
    rehearsed: list[OfferChange] = []
    for one in found:
        if one.order is None:
            rehearsed.append(one)
            continue
        command = one.order.command
        required = command.terms.requires if isinstance(command, OfferPut) and command.terms else ()
        if missing := [name for name in required if name not in kept and name not in there]:
            detail = f"terms.requires: you have no offer named {', '.join(missing)}"
            rehearsed.append(replace(one, code=Code.UNKNOWN_OFFER, detail=detail))
            continue
        decision = decide(command, state, context)
        state.apply(decision.card_rows, decision.offer_row, decision.subscription_rows)
        state.add_event_keys(decision.event_keys)
        refused = decision.detail if decision.code is not Code.OK else ""
        cards = _cards(batch, connection, decision)
        rehearsed.append(replace(one, cards=cards, code=decision.code, detail=refused))
    return rehearsed


def _cards(batch: Batch, connection: Connection, decision: Decision) -> int:
    """Return how many cards would follow what an offer becomes."""
    if decision.was is None or decision.offer_row is None:
        return len(decision.touched)
    return rollouts.count(connection, rollout.of_command(batch, decision.was, decision.offer_row, ""), batch.now)


def _context(batch: Batch, operator: str) -> Context:
    grant = batch.grants.operators.get(operator)
    if grant is None:
        known = ", ".join(sorted(batch.grants.operators)) or "none"
        raise NotFoundError(f"the settings have no operator {operator!r}; they have: {known}")
    return Context(operator, grant, batch.now)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value
