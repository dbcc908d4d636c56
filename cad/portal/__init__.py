"""The portal's end of the line: a client that keeps each command until its answer has come. No part of the daemon.

What a portal imports stands here: the client, its settings, all commands, the items of a snapshot, the events.
"""

from cad.portal.client import PortalClient
from cad.portal.settings import PortalSettings
from protocol import card_number, receiver_number
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
from protocol.portal.commands.invoice import InvoiceFact, InvoiceReplay
from protocol.portal.commands.messages import CardFingerprint, CardMessage, MessagePut, MessageWithdraw, Recipients
from protocol.portal.commands.offers import OfferPut, OfferWithdraw
from protocol.portal.commands.snapshot import (
    CardItem,
    OfferItem,
    SnapshotCompare,
    SnapshotRead,
    SnapshotRequest,
    SubscriptionItem,
)
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut
from protocol.portal.commands.terms import Terms
from protocol.portal.events import CardOnAir
from protocol.portal.replies import Reply

__all__ = [
    "CardAssign",
    "CardBlacklist",
    "CardFingerprint",
    "CardItem",
    "CardMessage",
    "CardOnAir",
    "CardPair",
    "CardParental",
    "CardPinReset",
    "CardRefresh",
    "CardRegion",
    "CardRelease",
    "CardReopen",
    "CardReplace",
    "CardReport",
    "CardReturn",
    "CardSuspend",
    "CardUnpair",
    "InvoiceFact",
    "InvoiceReplay",
    "MessagePut",
    "MessageWithdraw",
    "OfferItem",
    "OfferPut",
    "OfferWithdraw",
    "PortalClient",
    "PortalSettings",
    "Recipients",
    "Reply",
    "SnapshotCompare",
    "SnapshotRead",
    "SnapshotRequest",
    "SubscriptionEnd",
    "SubscriptionItem",
    "SubscriptionPut",
    "Terms",
    "card_number",
    "receiver_number",
]
