"""Commands about cards."""

from typing import ClassVar

from protocol.portal.command import Command
from protocol.portal.fields import Card, Reference, Rev, Text


class CardAssign(Command):
    """The card is to belong to this subscriber."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "assign"

    card: Card
    rev: Rev
    subscriber: Reference


class CardSuspend(Command):
    """The card is to open nothing; its subscriptions stay as they are."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "suspend"

    card: Card
    rev: Rev
    reason: Text | None = None


class CardReopen(Command):
    """The card is to open again what its subscriptions allow."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "reopen"

    card: Card
    rev: Rev


class CardRefresh(Command):
    """What the card should hold is to be sent again at once."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "refresh"

    card: Card
