"""The terms of offers, held against orders: fixed and minimum terms, who may end, what is presupposed (S6, S9, S19)."""

from dataclasses import replace

from cad.ledger.decide.civil import add_months, spell_local
from cad.ledger.decide.common import Context
from cad.ledger.records import Decision, OfferRow, SubscriptionRow
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code, text
from protocol.portal.commands.subscriptions import SubscriptionPut
from protocol.portal.commands.terms import Authority

CUSTOMER_SERVICE: Authority = "customer-service"


def agree(
    command: SubscriptionPut,
    row: SubscriptionRow | None,
    new: SubscriptionRow,
    offer: OfferRow,
    state: WorkingSet,
    context: Context,
) -> SubscriptionRow | Decision:
    """Return the new row with what it agrees to, or why it cannot be so.

    An order that stands keeps the terms it was made under. One that changes to another offer takes that one's terms
    and keeps what it was bound to before, so that nobody leaves a minimum term by way of a change.
    """
    runs_on = row is not None and row.live(context.now)
    if row is not None and runs_on and row.offer_id == offer.id and row.starts_at == new.starts_at:
        agreed = _same_terms(row, new, offer, command)
    else:
        agreed = _new_terms(row if runs_on else None, new, offer, context)
    if isinstance(agreed, Decision):
        return agreed
    if (missing := _missing(agreed, offer, state)) is not None:
        return missing
    if command.authority == CUSTOMER_SERVICE:
        return agreed
    if row is not None and runs_on and (at := _cut_short(row, agreed, context)) is not None:
        refused = refuse_end(row, at, command.authority, context)
        if refused is not None:
            return refused
    if agreed.minimum_until is not None and agreed.ends_at is not None and agreed.ends_at < agreed.minimum_until:
        return _too_early(agreed, agreed.minimum_until, context)
    return agreed


def refuse_end(row: SubscriptionRow, at: int, authority: Authority, context: Context) -> Decision | None:
    """Refuse an end that the customer cannot ask for; None when it may be."""
    if authority == CUSTOMER_SERVICE:
        return None
    if row.protected:
        return Decision(Code.NEEDS_AUTHORITY, text(Code.NEEDS_AUTHORITY), card=row.address)
    if row.minimum_until is not None and at < row.minimum_until:
        return _too_early(row, row.minimum_until, context)
    return None


def _same_terms(
    row: SubscriptionRow, new: SubscriptionRow, offer: OfferRow, command: SubscriptionPut
) -> SubscriptionRow | Decision:
    ends_at = new.ends_at
    if offer.agreed().fixed_months is not None and command.ends_at is None:
        ends_at = row.ends_at
    return replace(new, ends_at=ends_at, minimum_until=row.minimum_until, protected=row.protected)


def _new_terms(
    bound: SubscriptionRow | None, new: SubscriptionRow, offer: OfferRow, context: Context
) -> SubscriptionRow | Decision:
    if offer.terms is None and bound is None:
        return new
    terms, zone = offer.agreed(), context.grant.zone
    ends_at, minimum_until = new.ends_at, bound.minimum_until if bound is not None else None
    if terms.fixed_months is not None:
        fixed = add_months(new.starts_at, terms.fixed_months, zone)
        if ends_at not in (None, fixed):
            detail = f"it ends at {spell_local(fixed, zone)}; leave ends_at out"
            return Decision(Code.FIXED_TERM, detail, card=new.address)
        ends_at = fixed
        minimum_until = max(minimum_until or 0, fixed)
    elif terms.minimum_months is not None:
        minimum_until = max(minimum_until or 0, add_months(new.starts_at, terms.minimum_months, zone))
    protected = int(terms.ended_by == CUSTOMER_SERVICE or (bound is not None and bool(bound.protected)))
    return replace(new, ends_at=ends_at, minimum_until=minimum_until, protected=protected)


def _missing(new: SubscriptionRow, offer: OfferRow, state: WorkingSet) -> Decision | None:
    wanted = offer.agreed().requires
    if not wanted:
        return None
    for one in state.by_card.get(new.address, {}).values():
        if one.id == new.id or state.offers_by_id[one.offer_id].offer not in wanted:
            continue
        if one.starts_at <= new.starts_at and (one.ends_at is None or one.ends_at > new.starts_at):
            return None
    return Decision(
        Code.PRECONDITION_MISSING, f"the card needs one of these first: {', '.join(wanted)}", card=new.address
    )


def _cut_short(row: SubscriptionRow, new: SubscriptionRow, context: Context) -> int | None:
    """Return when what runs would stop earlier than agreed, by the new end or that of another offer; else None."""
    if row.starts_at <= context.now < new.starts_at:
        return int(context.now)
    if new.ends_at is not None and (row.ends_at is None or new.ends_at < row.ends_at):
        return new.ends_at
    return None


def _too_early(row: SubscriptionRow, earliest: int, context: Context) -> Decision:
    detail = f"it can end at {spell_local(earliest, context.grant.zone)} at the earliest"
    return Decision(Code.MINIMUM_TERM, detail, card=row.address)
