"""Decisions on offers."""

from dataclasses import replace
from typing import Final

from cad.ledger.decide.common import NOTHING_TO_SEND, Context, not_granted, overfull, spell_offer, stale
from cad.ledger.decide.events import put_event
from cad.ledger.records import Decision
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code
from protocol.portal.commands.offers import EVENT, MIX, OfferPut, OfferWithdraw

FIXED_KINDS: Final = frozenset({MIX, EVENT})
"""Kinds that no offer turns into or from: its subscriptions hold what only this kind has."""


def put_offer(command: OfferPut, state: WorkingSet, context: Context) -> Decision:
    """State what an offer is."""
    row = state.offers.get((context.operator, command.offer))
    if row is not None and (old := stale(command.rev, row.rev, None)) is not None:
        return old
    if (refused := not_granted(command.products, context.grant.products)) is not None:
        return refused
    if row is not None and row.kind != command.kind and FIXED_KINDS & {row.kind, command.kind}:
        return Decision(Code.KIND_FIXED, f"{command.offer} is a {row.kind}; put the {command.kind} under another name")
    if command.kind == EVENT:
        return put_event(command, row, state, context)
    new = spell_offer(command, row, state, context)
    if row is None or set(row.slugs()) == set(command.products):
        return Decision(offer_row=new)
    if (too_full := overfull(new, state, context)) is not None:
        return too_full
    return Decision(detail="cards are sent their new content", offer_row=new, was=row)


def withdraw_offer(command: OfferWithdraw, state: WorkingSet, context: Context) -> Decision:
    """Sell an offer no more; who has it keeps it."""
    row = state.offers.get((context.operator, command.offer))
    if row is None:
        return Decision(Code.UNKNOWN_OFFER, f"you have no offer named {command.offer}")
    if (old := stale(command.rev, row.rev, None)) is not None:
        return old
    if row.withdrawn_at is not None:
        return Decision(detail=NOTHING_TO_SEND, offer_row=replace(row, rev=command.rev))
    detail = "it is not sold any more; subscriptions to it go on"
    return Decision(detail=detail, offer_row=replace(row, rev=command.rev, withdrawn_at=context.now))
