"""Facts that an invoice needs (S10), and the command that has them published again."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from protocol.portal.commands.base import Command
from protocol.portal.fields import Card, CommandId, Message, Moment, Reference, Slug, Text

REPLAY_MAX: Final = 1000
FactName = Literal[
    "card-issued",
    "card-reported",
    "card-replaced",
    "card-returned",
    "service-started",
    "service-ended",
    "service-moved",
    "service-suspended",
    "service-reopened",
    "programme-bought",
]
FactNumber = Annotated[int, Field(ge=0, le=2**53 - 1)]


class InvoiceFact(Message):
    """Something that an invoice may charge. `number` rises by one with each fact of the operator: a gap is a loss.

    `at` is when it took effect, which for a start or end is the moment that was ordered. `command` is the command that
    did it; null where a moment had come. `replacement` is the new card, `previous` the card a service was moved from.
    """

    number: FactNumber
    fact: FactName
    card: Card
    at: Moment
    subscriber: Reference | None = None
    subscription: Reference | None = None
    offer: Slug | None = None
    price: Text | None = None
    ends_at: Moment | None = None
    replacement: Card | None = None
    previous: Card | None = None
    until: Moment | None = None
    reason: Text | None = None
    command: CommandId | None = None


class InvoiceReplay(Command):
    """Facts made at `since` or later, and with numbers above `after`, are to be published again, `limit` at a time.

    They come on their own topics with their own event ids. The reply's `resume_after` is the number to go on after;
    null when there are no more.
    """

    resource: ClassVar[str] = "invoice"
    verb: ClassVar[str] = "replay"

    since: Moment = 0
    after: FactNumber = 0
    limit: Annotated[int, Field(ge=1, le=REPLAY_MAX)] = REPLAY_MAX
