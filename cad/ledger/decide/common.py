"""What all decisions share: who asks, and the refusals that any command may meet."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cad.ledger.model import OperatorGrant
from cad.ledger.records import CardRow, Decision, OfferRow
from cad.ledger.working import WorkingSet, rights_of
from emm.errors import PlanError
from emm.plan import WINDOWS_MAX, Right, ensure_fits
from protocol.portal.codes import Code
from protocol.portal.commands.offers import OfferPut

NOTHING_TO_SEND: Final = "it was so already; there is nothing to send"


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, what the headend grants him, and when (Unix seconds)."""

    operator: str
    grant: OperatorGrant
    now: float


def own_card(address: int, state: WorkingSet, context: Context) -> CardRow | None:
    """Return the operator's own card of this number, None for another's or none."""
    row = state.cards.get(address)
    return row if row is not None and row.operator == context.operator else None


def unknown_card(address: int) -> Decision:
    """Refuse a card that is not the operator's."""
    return Decision(Code.UNKNOWN_CARD, "no card of yours has this number; assign it first", card=address)


def unknown_region(slug: str, context: Context, card: int | None = None) -> Decision:
    """Refuse a region that the operator's network does not have."""
    known = ", ".join(context.grant.regions) or "none"
    return Decision(Code.UNKNOWN_REGION, f"there is no region {slug}; there is: {known}", card=card)


def stale(rev: int, newest: int, card: int | None) -> Decision | None:
    """Refuse a `rev` that is not above the newest one taken; None when it is."""
    if rev > newest:
        return None
    return Decision(Code.STALE_REV, f"rev {rev} is not above {newest}, which has been taken already", card=card)


def not_granted(slugs: tuple[str, ...], products: Mapping[str, int]) -> Decision | None:
    """Refuse products that the headend has not granted; None when all are (I10)."""
    missing = [slug for slug in slugs if slug not in products]
    return Decision(Code.NOT_GRANTED, f"not granted to you: {', '.join(missing)}") if missing else None


def full(rights: list[Right], now: float, address: int) -> Decision | None:
    """Refuse rights that outgrow a card's EMM; None when they fit."""
    if len(rights) <= WINDOWS_MAX:
        return None
    try:
        ensure_fits(rights, now)
    except PlanError as error:
        return Decision(Code.CARD_FULL, str(error), card=address)
    return None


def overfull(new: OfferRow, state: WorkingSet, context: Context) -> Decision | None:
    """Refuse a new form of an offer with which a card of the working set holds more than fits; None when all fit."""
    offers = {**state.offers_by_id, new.id: new}
    for address in state.cards_with(new.id, context.now):
        rights = rights_of(state.live_on(address, context.now), offers, context.grant.products)
        if (too_full := full(rights, context.now, address)) is not None:
            return too_full
    return None


def spell_offer(command: OfferPut, row: OfferRow | None, state: WorkingSet, context: Context) -> OfferRow:
    """Return the row of an offer as a command states it, but for what only an event has."""
    return OfferRow(
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
        choose=command.choose,
    )


def _text(texts: Mapping[str, str]) -> str:
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
