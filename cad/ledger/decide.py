"""What a command does: pure decisions from the loaded part of the ledger and the command, nothing else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cad.ledger.model import ACTIVE, SUSPENDED, OperatorGrant
from cad.ledger.working import CardRow, Decision, OfferRow, SubscriptionRow, WorkingSet, rights_of
from emm.errors import PlanError
from emm.plan import WINDOWS_MAX, Right, ensure_fits
from protocol.portal.codes import Code
from protocol.portal.commands import (
    AnyCommand,
    CardAssign,
    CardRefresh,
    CardReopen,
    CardSuspend,
    OfferPut,
    SubscriptionEnd,
    SubscriptionPut,
)

NOTHING_TO_SEND = "it was so already; there is nothing to send"


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, what the headend grants him, and when (Unix seconds)."""

    operator: str
    grant: OperatorGrant
    now: float


def decide(command: AnyCommand, state: WorkingSet, context: Context) -> Decision:
    """Decide on one command. Changes nothing; the same arguments give the same decision."""
    match command:
        case SubscriptionPut():
            return _subscription_put(command, state, context)
        case SubscriptionEnd():
            return _subscription_end(command, state, context)
        case CardAssign():
            return _card_assign(command, state, context)
        case CardSuspend() | CardReopen():
            return _card_state(command, state, context)
        case CardRefresh():
            return _card_refresh(command, state, context)
        case OfferPut():
            return _offer_put(command, state, context)


def _card_assign(command: CardAssign, state: WorkingSet, context: Context) -> Decision:
    row = state.cards.get(command.card)
    if row is None:
        if not context.grant.covers(command.card):
            return Decision(Code.UNKNOWN_CARD, "the card does not lie in your card ranges", card=command.card)
        new = CardRow(
            address=command.card,
            operator=context.operator,
            state=ACTIVE,
            reason=None,
            subscriber=command.subscriber,
            key_version=1,
            revision=0,
            rev=command.rev,
            change_seq=0,
            assigned_at=context.now,
            changed_at=context.now,
        )
        return Decision(card=command.card, card_row=new, touched=(command.card,))
    if row.operator != context.operator:
        return Decision(Code.UNKNOWN_CARD, "the card does not lie in your card ranges", card=command.card)
    if (stale := _stale(command.rev, row.rev, command.card)) is not None:
        return stale
    if row.subscriber != command.subscriber:
        return Decision(Code.CARD_IN_USE, "the card is assigned to another subscriber", card=command.card)
    detail = "it was so already; the card stays suspended" if row.state == SUSPENDED else NOTHING_TO_SEND
    return Decision(detail=detail, card=command.card, card_row=replace(row, rev=command.rev))


def _card_state(command: CardSuspend | CardReopen, state: WorkingSet, context: Context) -> Decision:
    row = _own_card(command.card, state, context)
    if row is None:
        return _unknown_card(command.card)
    if (stale := _stale(command.rev, row.rev, command.card)) is not None:
        return stale
    wanted = SUSPENDED if isinstance(command, CardSuspend) else ACTIVE
    reason = command.reason if isinstance(command, CardSuspend) else None
    new = replace(row, state=wanted, reason=reason, rev=command.rev)
    if row.state == wanted:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    return Decision(card=command.card, card_row=new, touched=(command.card,))


def _card_refresh(command: CardRefresh, state: WorkingSet, context: Context) -> Decision:
    if _own_card(command.card, state, context) is None:
        return _unknown_card(command.card)
    return Decision(card=command.card, touched=(command.card,))


def _offer_put(command: OfferPut, state: WorkingSet, context: Context) -> Decision:
    row = state.offers.get((context.operator, command.offer))
    if row is not None and (stale := _stale(command.rev, row.rev, None)) is not None:
        return stale
    if (refused := _not_granted(command.products, context.grant.products)) is not None:
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
    )
    if row is None or set(row.slugs()) == set(command.products):
        return Decision(offer_row=new)
    offers = {**state.offers_by_id, new.id: new}
    touched = state.cards_with(new.id, context.now)
    for address in touched:
        rights = rights_of(state.live_on(address, context.now), offers, context.grant.products)
        if (full := _full(rights, context.now, address)) is not None:
            return full
    return Decision(detail=f"{len(touched)} cards are sent their new content", offer_row=new, touched=touched)


def _subscription_put(command: SubscriptionPut, state: WorkingSet, context: Context) -> Decision:
    row = state.subscriptions.get((context.operator, command.subscription))
    if row is not None and (stale := _stale(command.rev, row.rev, command.card)) is not None:
        return stale
    card = _own_card(command.card, state, context)
    if card is None:
        return _unknown_card(command.card)
    offer = state.offers.get((context.operator, command.offer))
    if offer is None:
        return Decision(Code.UNKNOWN_OFFER, f"you have no offer named {command.offer}", card=command.card)
    if (refused := _not_granted(offer.slugs(), context.grant.products)) is not None:
        return replace(refused, card=command.card)
    starts_at = _start(command, row, context.now)
    if command.ends_at is not None and command.ends_at <= starts_at:
        return Decision(Code.INVALID, "ends_at: it must be later than the start", card=command.card)
    new = SubscriptionRow(
        id=row.id if row is not None else state.next_subscription_id,
        operator=context.operator,
        subscription=command.subscription,
        rev=command.rev,
        address=command.card,
        offer_id=offer.id,
        starts_at=starts_at,
        ends_at=command.ends_at,
        changed_at=context.now,
    )
    touched = _touched(row, new, context.now)
    if not touched:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, subscription_row=new)
    others = [one for one in state.live_on(command.card, context.now) if one.id != new.id]
    rights = rights_of([*others, new], state.offers_by_id, context.grant.products)
    if (full := _full(rights, context.now, command.card)) is not None:
        return full
    suspended = card.state == SUSPENDED
    return Decision(
        detail="the card is suspended: it opens nothing until it is reopened" if suspended else "",
        card=command.card,
        subscription_row=new,
        touched=touched,
        visible_from=starts_at if starts_at > context.now else 0,
        visible=not suspended,
    )


def _subscription_end(command: SubscriptionEnd, state: WorkingSet, context: Context) -> Decision:
    row = state.subscriptions.get((context.operator, command.subscription))
    if row is None:
        return Decision(Code.UNKNOWN_SUBSCRIPTION, f"you have no subscription named {command.subscription}")
    if (stale := _stale(command.rev, row.rev, row.address)) is not None:
        return stale
    at = int(context.now) if command.at is None else command.at
    detail = ""
    if row.ends_at is not None and row.ends_at <= at:
        at, detail = row.ends_at, "it ends earlier already; an end never makes a subscription longer"
    new = replace(row, rev=command.rev, ends_at=max(at, row.starts_at), changed_at=context.now)
    touched = _touched(row, new, context.now)
    if not touched:
        return Decision(detail=detail or NOTHING_TO_SEND, card=row.address, subscription_row=new)
    # A window that covered many others leaves them apart when it ends.
    others = [one for one in state.live_on(row.address, context.now) if one.id != new.id]
    rights = rights_of([*others, new], state.offers_by_id, context.grant.products)
    if (full := _full(rights, context.now, row.address)) is not None:
        return full
    return Decision(detail=detail, card=row.address, subscription_row=new, touched=touched)


def _own_card(address: int, state: WorkingSet, context: Context) -> CardRow | None:
    row = state.cards.get(address)
    return row if row is not None and row.operator == context.operator else None


def _unknown_card(address: int) -> Decision:
    return Decision(Code.UNKNOWN_CARD, "no card of yours has this number; assign it first", card=address)


def _stale(rev: int, newest: int, card: int | None) -> Decision | None:
    if rev > newest:
        return None
    return Decision(Code.STALE_REV, f"rev {rev} is not above {newest}, which has been taken already", card=card)


def _not_granted(slugs: tuple[str, ...], products: Mapping[str, int]) -> Decision | None:
    missing = [slug for slug in slugs if slug not in products]
    return Decision(Code.NOT_GRANTED, f"not granted to you: {', '.join(missing)}") if missing else None


def _full(rights: list[Right], now: float, address: int) -> Decision | None:
    if len(rights) <= WINDOWS_MAX:
        return None
    try:
        ensure_fits(rights, now)
    except PlanError as error:
        return Decision(Code.CARD_FULL, str(error), card=address)
    return None


def _start(command: SubscriptionPut, row: SubscriptionRow | None, now: float) -> int:
    """Return when it starts: as said; else now, unless it runs already, then as before."""
    if command.starts_at is not None:
        return command.starts_at
    if row is not None and row.starts_at <= now and row.live(now):
        return row.starts_at
    return int(now)


def _touched(before: SubscriptionRow | None, after: SubscriptionRow, now: float) -> tuple[int, ...]:
    """Return the cards for which one row in place of the other makes a difference from now on."""
    if before is None:
        return (after.address,) if after.live(now) else ()
    if _window(before) == _window(after) or not (before.live(now) or after.live(now)):
        return ()
    return (after.address,) if before.address == after.address else (after.address, before.address)


def _window(row: SubscriptionRow) -> tuple[int, int, int, int | None]:
    return row.address, row.offer_id, row.starts_at, row.ends_at


def _text(texts: Mapping[str, str]) -> str:
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
