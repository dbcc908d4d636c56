"""Decisions on messages and fingerprints (C6): what cards have shown, and for how long it is sent."""

import json
from dataclasses import replace
from typing import Final

from cad.ledger.decide.common import NOTHING_TO_SEND, Context, own_card, stale, unknown_card, unknown_region
from cad.ledger.model import BLACKLISTED, DAY_S, RETURNED, STOCK
from cad.ledger.records import Decision, MessageRow
from cad.ledger.working import WorkingSet
from emm.notices.content import Fingerprint, Message, Notice, Position, build_content
from protocol.portal.codes import Code, text
from protocol.portal.commands.messages import (
    FORCED,
    AnyMessage,
    CardFingerprint,
    CardMessage,
    MessageWithdraw,
    Recipients,
)
from protocol.portal.fields import spell_moment

ACTIVE_MAX: Final = 100
"""Messages that one operator may have on the air, or ordered for later, at a time."""
LASTS_MAX_S: Final = 92 * DAY_S
MAILBOX_S: Final = 7 * DAY_S
FORCED_S: Final = DAY_S
FINGERPRINT_S: Final = 900
"""How long each is sent when the command does not say."""


def put_message(command: AnyMessage, state: WorkingSet, context: Context) -> Decision:
    """State what a message or fingerprint says, to whom, and from when to when."""
    row = state.messages.get((context.operator, command.message))
    card = command.card if isinstance(command, CardMessage) else None
    if row is not None and (old := stale(command.rev, row.rev, card)) is not None:
        return old
    to = Recipients(cards=(command.card,)) if isinstance(command, CardMessage) else command.to
    if (refused := _refuse(to, command, state, context)) is not None:
        return refused
    lives = row is not None and row.active(context.now)
    start = command.starts_at if command.starts_at is not None else int(context.now)
    end = command.ends_at
    if row is not None and lives and command.starts_at is None:
        start = row.starts_at
        end = row.ends_at if end is None else end
    end = start + _usual_s(command) if end is None else end
    if (fault := _fault_of_window(start, end, context.now)) is not None:
        return Decision(Code.INVALID, fault, card=card)
    if not lives and state.active_messages(context.operator, context.now) >= ACTIVE_MAX:
        return Decision(Code.MESSAGES_FULL, text(Code.MESSAGES_FULL), card=card)
    content = build_content(_notice(command, start, end, context))
    recipients = _spell(to, state, context)
    # A card takes a number once: what says something else, or is to be shown anew, needs another.
    number = row.number if row is not None and lives and row.content == content else state.next_message_number
    new = MessageRow(
        id=state.next_message_number if row is None else row.id,
        operator=context.operator,
        message=command.message,
        rev=command.rev,
        number=number,
        content=content,
        recipients=recipients,
        starts_at=start,
        ends_at=end,
        repeat_s=command.repeat_s,
        changed_at=max([context.now, *(state.cards[address].assigned_at for address in to.cards or ())]),
        withdrawn=0,
    )
    if row is not None and (row.number, row.recipients, row.repeat_s) == (number, recipients, new.repeat_s):
        return Decision(detail=NOTHING_TO_SEND, card=card, message_row=replace(new, on_air_at=row.on_air_at))
    detail = f"sent from {spell_moment(start)} to {spell_moment(end)}"
    return Decision(detail=detail, card=card, message_row=new, shows=True)


def withdraw_message(command: MessageWithdraw, state: WorkingSet, context: Context) -> Decision:
    """Send a message no more."""
    row = state.messages.get((context.operator, command.message))
    if row is None:
        return Decision(Code.UNKNOWN_MESSAGE, f"you have no message named {command.message}")
    if (old := stale(command.rev, row.rev, None)) is not None:
        return old
    detail = "cards that have it keep it" if row.active(context.now) else NOTHING_TO_SEND
    return Decision(detail=detail, message_row=row.withdraw(command.rev, context.now))


def _refuse(to: Recipients, command: AnyMessage, state: WorkingSet, context: Context) -> Decision | None:
    """Refuse recipients that are not the operator's, and services that are not in its products (I10)."""
    for address in to.cards or ():
        row = own_card(address, state, context)
        if row is None:
            return unknown_card(address)
        if row.state in (STOCK, RETURNED):
            return Decision(Code.CARD_NOT_ASSIGNED, text(Code.CARD_NOT_ASSIGNED), card=address)
        if row.state == BLACKLISTED:
            return Decision(Code.CARD_BLACKLISTED, text(Code.CARD_BLACKLISTED), card=address)
    if to.offer is not None and (context.operator, to.offer) not in state.offers:
        return Decision(Code.UNKNOWN_OFFER, f"you have no offer named {to.offer}")
    if to.region is not None and to.region not in context.grant.regions:
        return unknown_region(to.region, context)
    service = command.service if isinstance(command, CardFingerprint) else None
    if service is not None and service not in context.grant.services:
        return Decision(Code.UNKNOWN_SERVICE, f"no product of yours has a service named {service}")
    return None


def _usual_s(command: AnyMessage) -> int:
    if isinstance(command, CardFingerprint):
        return FINGERPRINT_S
    return FORCED_S if command.mode == FORCED else MAILBOX_S


def _fault_of_window(start: int, end: int, now: float) -> str | None:
    if end <= now:
        return "ends_at: it must lie in the future"
    if end <= start:
        return "ends_at: it must lie after starts_at"
    if start - now > LASTS_MAX_S:
        return f"starts_at: it must lie within {LASTS_MAX_S // DAY_S} days from now"
    if end - start > LASTS_MAX_S:
        return f"ends_at: a message is sent for {LASTS_MAX_S // DAY_S} days at most"
    return None


def _notice(command: AnyMessage, start: int, end: int, context: Context) -> Notice:
    if isinstance(command, CardFingerprint):
        position = Position[command.position.upper().replace("-", "_")]
        service_id = 0 if command.service is None else context.grant.services[command.service]
        return Fingerprint(start, end, command.duration_s, position, service_id)
    return Message(command.mode == FORCED, start, end, tuple(command.text.items()))


def _spell(to: Recipients, state: WorkingSet, context: Context) -> str:
    """Spell recipients in one way: an offer by its row number, which stays when it is put anew, a region by its own."""
    if to.cards is not None:
        return json.dumps({"cards": sorted(to.cards)})
    if to.offer is not None:
        return json.dumps({"offer": state.offers[context.operator, to.offer].id})
    if to.region is not None:
        return json.dumps({"region": context.grant.regions[to.region]})
    return json.dumps({"all": True})
