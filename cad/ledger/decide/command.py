"""Which decision belongs to which command."""

from cad.ledger.decide import cards, choosing, household, invoice, messages, offers, replacing, subscriptions
from cad.ledger.decide.common import Context
from cad.ledger.records import Decision
from cad.ledger.working import WorkingSet
from protocol.portal.commands.cards import (
    CardAssign,
    CardBlacklist,
    CardPair,
    CardParental,
    CardPinReset,
    CardRefresh,
    CardRegion,
    CardRelease,
    CardReopen,
    CardReplace,
    CardReport,
    CardReturn,
    CardSuspend,
    CardUnpair,
)
from protocol.portal.commands.invoice import InvoiceReplay
from protocol.portal.commands.messages import CardFingerprint, CardMessage, MessagePut, MessageWithdraw
from protocol.portal.commands.offers import OfferPut, OfferWithdraw
from protocol.portal.commands.parsing import AnyCommand
from protocol.portal.commands.snapshot import SnapshotCommand
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut

CardCommand = (
    CardAssign
    | CardBlacklist
    | CardPair
    | CardParental
    | CardPinReset
    | CardRefresh
    | CardRegion
    | CardRelease
    | CardReopen
    | CardReplace
    | CardReport
    | CardReturn
    | CardSuspend
    | CardUnpair
)


def decide(command: AnyCommand, state: WorkingSet, context: Context) -> Decision:
    """Decide on one command. Changes nothing; the same arguments give the same decision."""
    match command:
        case SubscriptionPut():
            return choosing.dated(subscriptions.put_subscription(command, state, context), command, state, context)
        case SubscriptionEnd():
            return choosing.dated(subscriptions.end_subscription(command, state, context), command, state, context)
        case OfferPut():
            return offers.put_offer(command, state, context)
        case OfferWithdraw():
            return offers.withdraw_offer(command, state, context)
        case MessagePut() | CardMessage() | CardFingerprint():
            return messages.put_message(command, state, context)
        case MessageWithdraw():
            return messages.withdraw_message(command, state, context)
        case InvoiceReplay():
            return invoice.replay(command, context.operator, state)
        case SnapshotCommand():
            return Decision(detail="it only asks: nothing was changed")
        case _:
            return _card(command, state, context)


def _card(command: CardCommand, state: WorkingSet, context: Context) -> Decision:
    match command:
        case CardAssign():
            return cards.assign(command, state, context)
        case CardSuspend():
            return cards.suspend(command, state, context)
        case CardReopen():
            return cards.reopen(command, state, context)
        case CardRegion():
            return household.place(command, state, context)
        case CardReport():
            return cards.report(command, state, context)
        case CardReplace():
            return replacing.replace_card(command, state, context)
        case CardReturn() | CardRelease():
            return cards.give_back(command, state, context)
        case CardBlacklist():
            return cards.blacklist(command, state, context)
        case CardPair() | CardUnpair():
            return household.pair(command, state, context)
        case CardPinReset():
            return household.reset_pin(command, state, context)
        case CardParental():
            return household.set_parental_level(command, state, context)
        case CardRefresh():
            return cards.refresh(command, state, context)
