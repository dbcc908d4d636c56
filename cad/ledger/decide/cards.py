"""Decisions on cards."""

from dataclasses import replace

from cad.ledger.decide.common import NOTHING_TO_SEND, Context, own_card, stale, unknown_card
from cad.ledger.model import ACTIVE, SUSPENDED
from cad.ledger.working import CardRow, Decision, WorkingSet
from protocol.portal.card_commands import CardAssign, CardRefresh, CardReopen, CardSuspend
from protocol.portal.codes import Code


def assign(command: CardAssign, state: WorkingSet, context: Context) -> Decision:
    """Give a card to a subscriber."""
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
    if (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    if row.subscriber != command.subscriber:
        return Decision(Code.CARD_IN_USE, "the card is assigned to another subscriber", card=command.card)
    detail = "it was so already; the card stays suspended" if row.state == SUSPENDED else NOTHING_TO_SEND
    return Decision(detail=detail, card=command.card, card_row=replace(row, rev=command.rev))


def change_state(command: CardSuspend | CardReopen, state: WorkingSet, context: Context) -> Decision:
    """Suspend or reopen a card."""
    row = own_card(command.card, state, context)
    if row is None:
        return unknown_card(command.card)
    if (old := stale(command.rev, row.rev, command.card)) is not None:
        return old
    wanted = SUSPENDED if isinstance(command, CardSuspend) else ACTIVE
    reason = command.reason if isinstance(command, CardSuspend) else None
    new = replace(row, state=wanted, reason=reason, rev=command.rev)
    if row.state == wanted:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    return Decision(card=command.card, card_row=new, touched=(command.card,))


def refresh(command: CardRefresh, state: WorkingSet, context: Context) -> Decision:
    """Send a card's content again."""
    if own_card(command.card, state, context) is None:
        return unknown_card(command.card)
    return Decision(card=command.card, touched=(command.card,))
