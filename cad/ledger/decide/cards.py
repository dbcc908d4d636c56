"""Decisions on the life of one card; `replacing` has the one that takes two."""

import math
from dataclasses import replace

from cad.ledger.decide.common import NOTHING_TO_SEND, Context, own_card, stale, unknown_card, unknown_region
from cad.ledger.decide.lifecycle import IN_HANDS, Move, go, legal
from cad.ledger.model import ACTIVE, ASSIGNED, BLACKLISTED, LOST, OPEN_STATES, RETURNED, STOCK
from cad.ledger.records import CardRow, Decision, Fact
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code, text
from protocol.portal.commands.cards import (
    CardAssign,
    CardBlacklist,
    CardRefresh,
    CardRegion,
    CardRelease,
    CardReopen,
    CardReport,
    CardReturn,
    CardSuspend,
)

_REPORTS = {"lost": Move.LOST, "stolen": Move.STOLEN, "defective": Move.DEFECTIVE}


def assign(command: CardAssign, state: WorkingSet, context: Context) -> Decision:
    """Give a card to a subscriber."""
    row = state.cards.get(command.card)
    if row is not None and row.operator != context.operator:
        return outside(command.card)
    if row is not None and (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    if isinstance(region := region_of(command, context), Decision):
        return region
    if row is None or row.state == STOCK:
        if not context.grant.covers(command.card):
            return outside(command.card)
        taken = replace(row or new_card(command.card, context), state=ASSIGNED, subscriber=command.subscriber)
        taken = replace(taken, region=region or 0)
        new = replace(taken, rev=command.rev, assigned_at=given_at(taken, context))
        issued = Fact(command.card, "card-issued", int(context.now))
        return Decision(card=command.card, card_row=new, touched=(command.card,), card_facts=(issued,))
    if row.state in (BLACKLISTED, RETURNED):
        return illegal(row, Move.ASSIGN)
    if row.subscriber != command.subscriber:
        return Decision(Code.CARD_IN_USE, "the card is assigned to another subscriber", card=command.card)
    if region is not None and region != row.region:
        moved = replace(row, region=region, rev=command.rev)
        return Decision(card=command.card, card_row=moved, touched=(command.card,))
    detail = NOTHING_TO_SEND if row.state in OPEN_STATES else f"it was so already; the card stays {row.state}"
    return Decision(detail=detail, card=command.card, card_row=replace(row, rev=command.rev))


def region_of(command: CardAssign | CardRegion, context: Context) -> int | Decision | None:
    """Return the number of the region that a command names, None where it names none, or why there is no such."""
    if command.region is None:
        return None
    number = context.grant.regions.get(command.region)
    return unknown_region(command.region, context, command.card) if number is None else number


def suspend(command: CardSuspend, state: WorkingSet, context: Context) -> Decision:
    """Block a card for default; a lost card too, so that its replacement is blocked."""
    row = ready(command.card, command.rev, Move.SUSPEND, state, context)
    if isinstance(row, Decision):
        return row
    to = go(Move.SUSPEND, row.state)
    new = replace(row, state=to, blocked=1, open_until=None, reason=command.reason, rev=command.rev)
    if row.state not in OPEN_STATES:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    fact = Fact(command.card, "service-suspended", int(context.now), reason=command.reason)
    return Decision(card=command.card, card_row=new, touched=(command.card,), card_facts=(fact,))


def reopen(command: CardReopen, state: WorkingSet, context: Context) -> Decision:
    """Open a card again, for good or until a moment."""
    row = ready(command.card, command.rev, Move.REOPEN, state, context)
    if isinstance(row, Decision):
        return row
    if command.until is not None:
        if command.until <= context.now:
            return Decision(Code.INVALID, "until: it must lie in the future", card=command.card)
        if not row.blocked and row.open_until is None:
            return Decision(Code.NOT_SUSPENDED, text(Code.NOT_SUSPENDED), card=command.card)
    in_use = row.state if row.state in OPEN_STATES else used(command.card, state, context)
    to = go(Move.REOPEN, row.state, in_use if row.state in (*IN_HANDS, LOST) else row.state)
    new = replace(row, state=to, blocked=0, open_until=command.until, reason=None, rev=command.rev)
    if (to, command.until) == (row.state, row.open_until) or to not in OPEN_STATES:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    facts = (Fact(command.card, "service-reopened", int(context.now), until=command.until),)
    return Decision(card=command.card, card_row=new, touched=(command.card,), card_facts=facts)


def report(command: CardReport, state: WorkingSet, context: Context) -> Decision:
    """Close a card that is lost, stolen or defective; its subscriptions wait for the card that replaces it."""
    row = ready(command.card, command.rev, _REPORTS[command.condition], state, context)
    if isinstance(row, Decision):
        return row
    to = go(_REPORTS[command.condition], row.state)
    # Why it is blocked is not forgotten over a loss: its replacement is blocked for the same reason.
    reason = command.reason or (row.reason if row.blocked else None)
    new = replace(row, state=to, reason=reason, rev=command.rev)
    if row.state == to:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    fact = Fact(command.card, "card-reported", int(context.now), reason=command.condition)
    return Decision(card=command.card, card_row=new, touched=(command.card,), card_facts=(fact,))


def give_back(command: CardReturn | CardRelease, state: WorkingSet, context: Context) -> Decision:
    """Take a card from its subscriber: returned to be looked at, or released into stock."""
    move = Move.RETURN if isinstance(command, CardReturn) else Move.RELEASE
    row = own_card(command.card, state, context)
    if row is None:
        return unknown_card(command.card)
    if (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    if row.state == (RETURNED if move is Move.RETURN else STOCK):
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=replace(row, rev=command.rev))
    if not legal(move, row.state):
        return illegal(row, move)
    if held := sorted(one.subscription for one in state.live_on(command.card, context.now)):
        detail = f"the card has {len(held)} subscriptions, such as {held[0]}; end them or move them to another card"
        return Decision(Code.CARD_HAS_SUBSCRIPTIONS, detail, card=command.card)
    home = row.without_a_home()
    new = replace(home, state=go(move, row.state), blocked=0, open_until=None, reason=None, rev=command.rev)
    facts = () if row.state == RETURNED else (Fact(command.card, "card-returned", int(context.now)),)
    if move is Move.RELEASE:
        new = replace(new, subscriber="")
    return Decision(card=command.card, card_row=new, touched=(command.card,), card_facts=facts, visible=False)


def blacklist(command: CardBlacklist, state: WorkingSet, context: Context) -> Decision:
    """Close a card for ever; also one in stock that was never assigned."""
    row = state.cards.get(command.card)
    if row is None and context.grant.covers(command.card):
        row = new_card(command.card, context)
    if row is None or row.operator != context.operator:
        return outside(command.card)
    if (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    if row.state == BLACKLISTED:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=replace(row, rev=command.rev))
    new = replace(row, state=go(Move.BLACKLIST, row.state), open_until=None, reason=command.reason, rev=command.rev)
    return Decision(card=command.card, card_row=new, touched=(command.card,), visible=False)


def refresh(command: CardRefresh, state: WorkingSet, context: Context) -> Decision:
    """Send a card's content again."""
    if own_card(command.card, state, context) is None:
        return unknown_card(command.card)
    return Decision(card=command.card, touched=(command.card,))


def new_card(address: int, context: Context) -> CardRow:
    """Return the row of a card in stock that the ledger has not seen; any `rev` may come first."""
    return CardRow(
        address=address,
        operator=context.operator,
        state=STOCK,
        reason=None,
        subscriber="",
        key_version=1,
        revision=0,
        rev=-1,
        change_seq=0,
        assigned_at=context.now,
        changed_at=context.now,
    )


def given_at(row: CardRow, context: Context) -> float:
    """Return the moment at which a card is given to somebody: now, and after all that was its former holder's.

    What was written to that one is not for this one, also where the clock stands still.
    """
    return max(context.now, math.nextafter(max(row.changed_at, row.assigned_at), math.inf))


def used(address: int, state: WorkingSet, context: Context) -> str:
    """Return the state of a card that may be used: active once something is ordered for it."""
    return ACTIVE if state.live_on(address, context.now) else ASSIGNED


def illegal(row: CardRow, move: Move) -> Decision:
    """Refuse a move that the card's state does not allow, and say what would."""
    if row.state == BLACKLISTED:
        return Decision(Code.CARD_BLACKLISTED, text(Code.CARD_BLACKLISTED), card=row.address)
    if row.state == STOCK:
        return Decision(Code.CARD_NOT_ASSIGNED, text(Code.CARD_NOT_ASSIGNED), card=row.address)
    advice = {RETURNED: "; release it into stock first"}.get(row.state, "")
    return Decision(Code.CARD_STATE, f"the card is {row.state}: it cannot {move}{advice}", card=row.address)


def outside(address: int) -> Decision:
    """Refuse a card that is another operator's, or nobody's."""
    return Decision(Code.UNKNOWN_CARD, "the card does not lie in your card ranges", card=address)


def ready(address: int, rev: int, move: Move, state: WorkingSet, context: Context) -> CardRow | Decision:
    """Return the operator's own card where it may make the move, else why not."""
    row = own_card(address, state, context)
    if row is None:
        return unknown_card(address)
    if (old := stale(rev, row.rev, address)) is not None:
        return old
    return row if legal(move, row.state) else illegal(row, move)
