"""Choosing out of a mix (S7): as many as the offer says, and changed once in a calendar month of the operator's place.

A change is to give up something that was chosen and is still to be had. So it is no change to choose for the first
time, to choose anew before the start, to take more, or to replace what the list does not have any more.
"""

import json
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from cad.ledger.decide.civil import next_month, spell_local
from cad.ledger.decide.common import Context
from cad.ledger.decide.contract import CUSTOMER_SERVICE
from cad.ledger.records import Decision, OfferRow, SubscriptionRow
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code, text
from protocol.portal.commands.offers import MIX
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a subscription has chosen, as its row keeps it, and when that was last changed (Unix seconds)."""

    choice: str | None
    changed_at: int | None


def choose(
    command: SubscriptionPut, row: SubscriptionRow | None, offer: OfferRow, state: WorkingSet, context: Context
) -> Chosen | Decision:
    """Return what the subscription has chosen from now on, or why it cannot be so."""
    running = row if row is not None and row.starts_at <= context.now and row.live(context.now) else None
    changed_at = None if running is None else running.choice_changed_at
    if offer.kind != MIX:
        if command.choice is not None:
            return Decision(Code.CHOICE_NOT_OFFERED, text(Code.CHOICE_NOT_OFFERED), card=command.card)
        # Leaving a mix uses up the change of the month, so that nobody changes by way of another offer and back.
        left = running is not None and running.choice is not None
        return Chosen(None, int(context.now) if left else changed_at)
    if (refused := _unfit(command, row, offer, context)) is not None:
        return refused
    chosen = Chosen(json.dumps(command.choice), changed_at)
    if running is None:
        return chosen
    had = set(running.opened(state.offers_by_id[running.offer_id])) & context.grant.products.keys()
    changes = not had <= set(command.choice or ()) if running.choice is not None else changed_at is not None
    if not changes:
        return chosen
    if (
        command.authority != CUSTOMER_SERVICE
        and (at := _locked_until(changed_at, context.now, context.grant.zone)) is not None
    ):
        detail = f"it was changed this month already; it can be changed again at {spell_local(at, context.grant.zone)}"
        return Decision(Code.CHOICE_LOCKED, detail, card=command.card, next_change_at=at)
    return replace(chosen, changed_at=int(context.now)) if running.choice is not None else chosen


def dated(
    decision: Decision, command: SubscriptionPut | SubscriptionEnd, state: WorkingSet, context: Context
) -> Decision:
    """Return the decision with the moment from which on the choice can be changed, where it is about a mix."""
    row = decision.subscription_row or state.subscriptions.get((context.operator, command.subscription))
    if decision.next_change_at is not None or row is None:
        return decision
    return replace(decision, next_change_at=next_change(row, context.now, context.grant.zone))


def next_change(row: SubscriptionRow, now: float, zone: ZoneInfo) -> int | None:
    """Return from when on the choice can be changed, which may be now; None where there is none, or it has ended."""
    if row.choice is None or not row.live(now):
        return None
    changed_at = row.choice_changed_at if row.starts_at <= now else None
    return _locked_until(changed_at, now, zone) or int(now)


def _unfit(command: SubscriptionPut, row: SubscriptionRow | None, offer: OfferRow, context: Context) -> Decision | None:
    """Refuse a choice that is not the offer's. What stands may be said again, though the offer has changed since."""
    choice = command.choice
    if choice is None:
        return Decision(Code.CHOICE_NEEDED, f"choose {offer.choose} of the list", card=command.card)
    if row is not None and row.live(context.now) and row.offer_id == offer.id and row.chosen() == choice:
        return None
    if len(choice) != offer.choose:
        return Decision(Code.CHOICE_COUNT, f"choose {offer.choose}, not {len(choice)}", card=command.card)
    if unlisted := [slug for slug in choice if slug not in offer.slugs()]:
        return Decision(Code.CHOICE_NOT_LISTED, f"not on the list: {', '.join(unlisted)}", card=command.card)
    return None


def _locked_until(changed_at: int | None, now: float, zone: ZoneInfo) -> int | None:
    if changed_at is None:
        return None
    at = next_month(changed_at, zone)
    return at if now < at else None
