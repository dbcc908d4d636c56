"""Decisions on events (S16): programmes bought singly, each with a product that is its own while its keys live."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from cad.ledger.decide.common import Context, overfull, spell_offer
from cad.ledger.model import EventGrant
from cad.ledger.records import Decision, EventKey, OfferRow, SubscriptionRow
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code, text
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.subscriptions import SubscriptionPut


def put_event(command: OfferPut, row: OfferRow | None, state: WorkingSet, context: Context) -> Decision:
    """State what an event is; who has bought it gets its new window."""
    grant, now = context.grant.events, context.now
    if grant is None or command.service not in grant.services:
        return Decision(Code.NOT_GRANTED, f"events on service {command.service} are not granted to you")
    if (command.ends_at or 0) <= now or (row is not None and (row.ends_at or 0) <= now):
        return Decision(Code.EVENT_OVER, f"{text(Code.EVENT_OVER)} For another one take another name.")
    new = replace(
        spell_offer(command, row, state, context),
        service=command.service,
        starts_at=command.starts_at,
        ends_at=command.ends_at,
    )
    if (at := _crowded(new, state, grant)) is not None:
        when = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        return Decision(
            Code.TOO_MANY_EVENTS, f"{grant.at_once} events run on service {new.service} already at {when}; no more fit"
        )
    epochs = range(grant.calendar.epoch(max(_start(new), now)), grant.calendar.ecm_epoch(_end(new) - 1) + 1)
    number = _number(row, new.id, epochs, state, grant)
    if number is None:
        return Decision(Code.EVENT_NUMBERS_USED, text(Code.EVENT_NUMBERS_USED))
    new = replace(new, product_id=number)
    keys = [EventKey(number, epoch, new.id, grant.calendar.epoch_end(epoch)) for epoch in epochs]
    decision = Decision(
        offer_row=new, event_keys=tuple(key for key in keys if (key.product_id, key.epoch) not in state.event_keys)
    )
    same = row is not None and (row.starts_at, row.ends_at, row.product_id) == (new.starts_at, new.ends_at, number)
    if row is None or same:
        return decision
    if (too_full := overfull(new, state, context)) is not None:
        return too_full
    return replace(
        decision,
        detail="cards are sent the new window",
        was=row,
        visible_from=_start(new) if _start(new) > context.now else 0,
    )


def window_of(command: SubscriptionPut, offer: OfferRow, context: Context) -> tuple[int, int] | Decision:
    """Return the window of an order of an event, which is the event's own, or why it cannot be ordered."""
    if command.starts_at is not None or command.ends_at is not None:
        name = "starts_at" if command.starts_at is not None else "ends_at"
        return Decision(Code.INVALID, f"{name}: an event has its own window; leave it out", card=command.card)
    if _end(offer) <= context.now:
        return Decision(Code.EVENT_OVER, text(Code.EVENT_OVER), card=command.card)
    if context.grant.events is None or offer.service not in context.grant.events.services:
        return Decision(
            Code.NOT_GRANTED, f"events on service {offer.service} are not granted to you", card=command.card
        )
    return _start(offer), _end(offer)


def follow_window(one: SubscriptionRow, ended_at: int | None, new: OfferRow) -> SubscriptionRow:
    """Give an order of an event that ended at `ended_at` its new window; who ended his order earlier keeps his end."""
    whole = one.ends_at == ended_at or one.ends_at is None
    ends_at = _end(new) if whole else max(_start(new), min(one.ends_at or 0, _end(new)))
    return replace(one, starts_at=_start(new), ends_at=ends_at)


def _crowded(new: OfferRow, state: WorkingSet, grant: EventGrant) -> int | None:
    """Return a moment of the event at which its service has no room for it; None when there is none."""
    others = [
        one
        for one in state.offers_by_id.values()
        if one.event
        and one.id != new.id
        and one.service == new.service
        and one.operator in grant.sellers
        and _start(one) < _end(new)
        and _end(one) > _start(new)
    ]
    for at in _starts(new, others):
        if sum(_start(one) <= at < _end(one) for one in others) >= grant.at_once:
            return at
    return None


def _starts(new: OfferRow, others: list[OfferRow]) -> Iterator[int]:
    """Yield the moments of the event at which there may be more events than just before."""
    yield _start(new)
    yield from (_start(one) for one in others if _start(one) > _start(new))


def _number(row: OfferRow | None, offer_id: int, epochs: range, state: WorkingSet, grant: EventGrant) -> int | None:
    """Return a number whose keys of these epochs no other event has or had, its own if it may keep it."""

    def free(number: int) -> bool:
        held = (state.event_keys.get((number, epoch)) for epoch in epochs)
        return all(key is None or key.offer_id == offer_id for key in held)

    kept = row.product_id if row is not None else None
    if kept is not None and kept in grant.numbers and free(kept):
        return kept
    return next((number for number in grant.numbers if free(number)), None)


def _start(offer: OfferRow) -> int:
    return offer.starts_at or 0


def _end(offer: OfferRow) -> int:
    return offer.ends_at or 0
