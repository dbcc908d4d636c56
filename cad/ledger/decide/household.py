"""Decisions on how a card is set up for the home that it serves (C6, S18)."""

from dataclasses import replace

from cad.ledger.decide.cards import ready, region_of
from cad.ledger.decide.common import NOTHING_TO_SEND, Context
from cad.ledger.decide.lifecycle import Move
from cad.ledger.records import Decision
from cad.ledger.working import WorkingSet
from protocol import receiver_number
from protocol.portal.commands.cards import CardPair, CardParental, CardPinReset, CardRegion, CardUnpair


def pair(command: CardPair | CardUnpair, state: WorkingSet, context: Context) -> Decision:
    """Let a card serve one receiver alone, or any."""
    row = ready(command.card, command.rev, Move.SET_UP, state, context)
    if isinstance(row, Decision):
        return row
    receiver = receiver_number.spell(command.receiver) if isinstance(command, CardPair) else None
    new = replace(row, receiver=receiver, rev=command.rev)
    if row.receiver == receiver:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    return Decision(card=command.card, card_row=new, touched=(command.card,))


def reset_pin(command: CardPinReset, state: WorkingSet, context: Context) -> Decision:
    """Let a card set its PIN back once: the revision of this very change tells this reset from all others."""
    row = ready(command.card, command.rev, Move.SET_UP, state, context)
    if isinstance(row, Decision):
        return row
    new = replace(row, pin_reset=row.revision + 1, rev=command.rev)
    return Decision(card=command.card, card_row=new, touched=(command.card,))


def set_parental_level(command: CardParental, state: WorkingSet, context: Context) -> Decision:
    """Let a card ask for its PIN before what is rated for an age or above."""
    row = ready(command.card, command.rev, Move.SET_UP, state, context)
    if isinstance(row, Decision):
        return row
    new = replace(row, parental=command.level, rev=command.rev)
    if row.parental == command.level:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    return Decision(card=command.card, card_row=new, touched=(command.card,))


def place(command: CardRegion, state: WorkingSet, context: Context) -> Decision:
    """Say in which region a card stands (C8)."""
    row = ready(command.card, command.rev, Move.SET_UP, state, context)
    if isinstance(row, Decision):
        return row
    region = region_of(command, context)
    if isinstance(region, Decision):
        return region
    new = replace(row, region=region or 0, rev=command.rev)
    if row.region == new.region:
        return Decision(detail=NOTHING_TO_SEND, card=command.card, card_row=new)
    return Decision(card=command.card, card_row=new, touched=(command.card,))
