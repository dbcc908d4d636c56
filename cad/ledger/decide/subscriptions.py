"""Decisions on subscriptions."""

from dataclasses import replace

from cad.ledger.decide import choosing, contract
from cad.ledger.decide.common import NOTHING_TO_SEND, Context, full, not_granted, own_card, stale, unknown_card
from cad.ledger.decide.events import window_of
from cad.ledger.decide.lifecycle import IN_HANDS, Move, go, legal
from cad.ledger.model import BLACKLISTED, REPLACED, RETURNED, STOCK, SUSPENDED
from cad.ledger.records import CardRow, Decision, SubscriptionRow
from cad.ledger.working import WorkingSet, rights_of
from protocol.card_number import spell
from protocol.portal.codes import Code, text
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut


def put_subscription(command: SubscriptionPut, state: WorkingSet, context: Context) -> Decision:
    """State which offer a card has, from when to when."""
    row = state.subscriptions.get((context.operator, command.subscription))
    if row is not None and (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    card = own_card(command.card, state, context)
    if card is None:
        return unknown_card(command.card)
    if card.state not in IN_HANDS:
        return _not_in_hands(card)
    offer = state.offers.get((context.operator, command.offer))
    if offer is None:
        return Decision(Code.UNKNOWN_OFFER, f"you have no offer named {command.offer}", card=command.card)
    if offer.withdrawn_at is not None and not (row is not None and row.offer_id == offer.id and row.live(context.now)):
        return Decision(Code.OFFER_WITHDRAWN, text(Code.OFFER_WITHDRAWN), card=command.card)
    chosen = choosing.choose(command, row, offer, state, context)
    if isinstance(chosen, Decision):
        return chosen
    opened = offer.slugs() if command.choice is None else command.choice
    if (refused := not_granted(opened, context.grant.products)) is not None:
        return replace(refused, card=command.card)
    window: tuple[int, int | None] | Decision = (_start(command, row, context.now), command.ends_at)
    if offer.event:
        window = window_of(command, offer, context)
    if isinstance(window, Decision):
        return window
    new = SubscriptionRow(
        id=row.id if row is not None else state.next_subscription_id,
        operator=context.operator,
        subscription=command.subscription,
        rev=command.rev,
        address=command.card,
        offer_id=offer.id,
        starts_at=window[0],
        ends_at=window[1],
        changed_at=context.now,
        choice=chosen.choice,
        choice_changed_at=chosen.changed_at,
    )
    agreed = contract.agree(command, row, new, offer, state, context)
    if isinstance(agreed, Decision):
        return agreed
    return _put(row, agreed, card, state, context)


def _put(
    row: SubscriptionRow | None, new: SubscriptionRow, card: CardRow, state: WorkingSet, context: Context
) -> Decision:
    if new.ends_at is not None and new.ends_at <= new.starts_at:
        return Decision(Code.INVALID, "ends_at: it must be later than the start", card=card.address)
    touched = _touched(row, new, state, context.now)
    if not touched:
        return Decision(detail=NOTHING_TO_SEND, card=card.address, subscription_row=_same(row, new))
    others = [one for one in state.live_on(card.address, context.now) if one.id != new.id]
    rights = rights_of([*others, new], state.offers_by_id, context.grant.products)
    if (too_full := full(rights, context.now, card.address)) is not None:
        return too_full
    suspended = card.state == SUSPENDED
    used = legal(Move.ORDER, card.state) and new.live(context.now)
    return Decision(
        detail="the card is suspended: it opens nothing until it is reopened" if suspended else "",
        card=card.address,
        card_row=replace(card, state=go(Move.ORDER, card.state)) if used else None,
        subscription_row=new,
        touched=touched,
        visible_from=new.starts_at if new.starts_at > context.now else 0,
        visible=not suspended,
    )


def end_subscription(command: SubscriptionEnd, state: WorkingSet, context: Context) -> Decision:
    """End a subscription now, later, or as it ends already."""
    row = state.subscriptions.get((context.operator, command.subscription))
    if row is None:
        return Decision(Code.UNKNOWN_SUBSCRIPTION, f"you have no subscription named {command.subscription}")
    if (old := stale(command.rev, row.rev, row.address)) is not None:
        return old
    at = int(context.now) if command.at is None else command.at
    detail = ""
    if row.ends_at is not None and row.ends_at <= at:
        at, detail = row.ends_at, "it ends earlier already; an end never makes a subscription longer"
    elif (refused := contract.refuse_end(row, at, command.authority, context)) is not None:
        return refused
    new = replace(row, rev=command.rev, ends_at=max(at, row.starts_at), changed_at=context.now)
    touched = _touched(row, new, state, context.now)
    if not touched:
        return Decision(detail=detail or NOTHING_TO_SEND, card=row.address, subscription_row=_same(row, new))
    # A window that covered many others leaves them apart when it ends.
    others = [one for one in state.live_on(row.address, context.now) if one.id != new.id]
    rights = rights_of([*others, new], state.offers_by_id, context.grant.products)
    if (too_full := full(rights, context.now, row.address)) is not None:
        return too_full
    return Decision(detail=detail, card=row.address, subscription_row=new, touched=touched)


def _not_in_hands(card: CardRow) -> Decision:
    if card.state in (STOCK, RETURNED):
        return Decision(Code.CARD_NOT_ASSIGNED, text(Code.CARD_NOT_ASSIGNED), card=card.address)
    if card.state == BLACKLISTED:
        return Decision(Code.CARD_BLACKLISTED, text(Code.CARD_BLACKLISTED), card=card.address)
    if card.state == REPLACED and card.replaced_by is not None:
        detail = f"the card was replaced by {spell(card.replaced_by)}; order for that card"
    else:
        detail = f"the card is {card.state}; replace it, then order for the new card"
    return Decision(Code.CARD_STATE, detail, card=card.address)


def _start(command: SubscriptionPut, row: SubscriptionRow | None, now: float) -> int:
    """Return when it starts: as said; else now, unless it runs already, then as before."""
    if command.starts_at is not None:
        return command.starts_at
    if row is not None and row.starts_at <= now and row.live(now):
        return row.starts_at
    return int(now)


def _touched(before: SubscriptionRow | None, after: SubscriptionRow, state: WorkingSet, now: float) -> tuple[int, ...]:
    """Return the cards whose EMM says another thing with one row in place of the other."""
    if before is None:
        return (after.address,) if after.live(now) else ()
    if _window(before) == _window(after) or not (state.is_said(before, now) or after.live(now)):
        return ()
    return (after.address,) if before.address == after.address else (after.address, before.address)


def _same(before: SubscriptionRow | None, after: SubscriptionRow) -> SubscriptionRow:
    """Return `after` as unchanged since `before` where it gives the same: an EMM that says it says it still."""
    if before is None or _window(before) != _window(after):
        return after
    return replace(after, changed_at=before.changed_at)


def _window(row: SubscriptionRow) -> tuple[int, int, str | None, int, int | None]:
    return row.address, row.offer_id, row.choice, row.starts_at, row.ends_at
