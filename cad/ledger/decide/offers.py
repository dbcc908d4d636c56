"""Decisions on offers."""

import json
from collections.abc import Mapping

from cad.ledger.decide.common import Context, full, not_granted, stale
from cad.ledger.working import Decision, OfferRow, WorkingSet, rights_of
from protocol.portal.offer_commands import OfferPut


def put_offer(command: OfferPut, state: WorkingSet, context: Context) -> Decision:
    """State what an offer is."""
    row = state.offers.get((context.operator, command.offer))
    if row is not None and (old := stale(command.rev, row.rev, None)) is not None:
        return old
    if (refused := not_granted(command.products, context.grant.products)) is not None:
        return refused
    new = OfferRow(
        id=row.id if row is not None else state.next_offer_id,
        operator=context.operator,
        offer=command.offer,
        rev=command.rev,
        kind=command.kind,
        names=_text(command.names),
        heading=None if command.heading is None else _text(command.heading),
        products=json.dumps(command.products),
        changed_at=context.now,
        terms=None if command.terms is None else command.terms.model_dump_json(),
    )
    if row is None or set(row.slugs()) == set(command.products):
        return Decision(offer_row=new)
    offers = {**state.offers_by_id, new.id: new}
    touched = state.cards_with(new.id, context.now)
    for address in touched:
        rights = rights_of(state.live_on(address, context.now), offers, context.grant.products)
        if (too_full := full(rights, context.now, address)) is not None:
            return too_full
    return Decision(detail=f"{len(touched)} cards are sent their new content", offer_row=new, touched=touched)


def _text(texts: Mapping[str, str]) -> str:
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
