"""A card takes the place of another (S14, S15): everything moves in one commit, and the old card dies."""

from dataclasses import replace

from cad.ledger.decide.cards import given_at, illegal, new_card, outside, used
from cad.ledger.decide.common import Context, own_card, stale, unknown_card
from cad.ledger.decide.lifecycle import Move, go, legal
from cad.ledger.model import STOCK, SUSPENDED
from cad.ledger.records import CardRow, Decision, Fact
from cad.ledger.working import WorkingSet
from protocol.portal.codes import Code
from protocol.portal.commands.cards import CardReplace


def replace_card(command: CardReplace, state: WorkingSet, context: Context) -> Decision:
    """Move what the old card has to the new one.

    That is: subscriptions, pairing, region, parental level, block for default, time of a trust payment.
    """
    old = own_card(command.card, state, context)
    if old is None:
        return unknown_card(command.card)
    if (late := stale(command.rev, old.rev, command.card)) is not None:
        return late
    if not legal(Move.REPLACE, old.state):
        return illegal(old, Move.REPLACE)
    new = _stand_in(command.replacement, old, state, context)
    if isinstance(new, Decision):
        return new
    dead = replace(
        old,
        state=go(Move.REPLACE, old.state),
        reason=command.reason,
        replaced_by=new.address,
        blocked=0,
        open_until=None,
        receiver=None,
        parental=0,
        region=0,
        rev=command.rev,
    )
    moved = tuple(replace(one, address=new.address) for one in state.live_on(old.address, context.now))
    fact = Fact(
        old.address, "card-replaced", int(context.now), replacement=new.address, reason=command.reason or old.reason
    )
    return Decision(
        detail=f"{len(moved)} subscriptions moved; the old card opens nothing any more",
        card=new.address,
        card_row=dead,
        also_cards=(new,),
        also_subscriptions=moved,
        touched=(new.address, old.address),
        card_facts=(fact,),
        with_card=True,
        visible=not new.blocked,
    )


def _stand_in(address: int, old: CardRow, state: WorkingSet, context: Context) -> CardRow | Decision:
    row = state.cards.get(address)
    if row is None and context.grant.covers(address):
        row = new_card(address, context)
    if row is None or row.operator != context.operator:
        return outside(address)
    if not legal(Move.STAND_IN, row.state):
        return illegal(row, Move.STAND_IN)
    if row.state != STOCK and row.subscriber != old.subscriber:
        return Decision(Code.CARD_IN_USE, "the new card is assigned to another subscriber", card=address)
    if row.open_until is not None:
        return illegal(row, Move.STAND_IN)
    to = SUSPENDED if old.blocked else used(old.address, state, context)
    return replace(
        row,
        state=go(Move.STAND_IN, row.state, to),
        subscriber=old.subscriber,
        reason=old.reason if old.blocked else None,
        blocked=old.blocked,
        open_until=old.open_until,
        # The home stays the same, unless the new card was set up for another already. Each card has a PIN of its own.
        receiver=row.receiver or old.receiver,
        parental=row.parental or old.parental,
        region=row.region or old.region,
        assigned_at=given_at(row, context) if row.state == STOCK else row.assigned_at,
    )
