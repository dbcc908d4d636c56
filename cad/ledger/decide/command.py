"""Which decision belongs to which command."""

from cad.ledger.decide import cards, offers, subscriptions
from cad.ledger.decide.common import Context
from cad.ledger.working import Decision, WorkingSet
from protocol.portal.card_commands import CardAssign, CardRefresh, CardReopen, CardSuspend
from protocol.portal.commands import AnyCommand
from protocol.portal.offer_commands import OfferPut
from protocol.portal.subscription_commands import SubscriptionEnd, SubscriptionPut


def decide(command: AnyCommand, state: WorkingSet, context: Context) -> Decision:
    """Decide on one command. Changes nothing; the same arguments give the same decision."""
    match command:
        case SubscriptionPut():
            return subscriptions.put_subscription(command, state, context)
        case SubscriptionEnd():
            return subscriptions.end_subscription(command, state, context)
        case CardAssign():
            return cards.assign(command, state, context)
        case CardSuspend() | CardReopen():
            return cards.change_state(command, state, context)
        case CardRefresh():
            return cards.refresh(command, state, context)
        case OfferPut():
            return offers.put_offer(command, state, context)
