"""Commands about cards."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.portal.commands.base import Command
from protocol.portal.fields import Card, Moment, Receiver, Reference, Rev, Slug, Text

PARENTAL_AGE_MIN: Final = 4


def _parental_level(level: int) -> int:
    if 0 < level < PARENTAL_AGE_MIN:
        raise ValueError("write an age from 4 to 18, or 0 for no lock")
    return level


class CardAssign(Command):
    """The card is to belong to this subscriber; where a `region` is named, it stands there."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "assign"

    card: Card
    rev: Rev
    subscriber: Reference
    region: Slug | None = None


class CardSuspend(Command):
    """The card is to open nothing; its subscriptions stay as they are."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "suspend"

    card: Card
    rev: Rev
    reason: Text | None = None


class CardReopen(Command):
    """The card is to open again what its subscriptions allow; with `until` only so long, then it closes by itself."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "reopen"

    card: Card
    rev: Rev
    until: Moment | None = None


class CardRelease(Command):
    """The card is to go back into stock, to be given to anybody."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "release"

    card: Card
    rev: Rev


class CardReport(Command):
    """The card is lost, stolen or defective: it opens nothing from now on, its subscriptions wait for a new card."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "report"

    card: Card
    rev: Rev
    condition: Literal["lost", "stolen", "defective"]
    reason: Text | None = None


class CardReplace(Command):
    """All subscriptions of the card are to move to the card `replacement`; the old card dies."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "replace"

    card: Card
    rev: Rev
    replacement: Card
    reason: Text | None = None

    @model_validator(mode="after")
    def _two_cards(self) -> Self:
        if self.card == self.replacement:
            raise ValueError("replacement: it must be another card")
        return self


class CardRegion(Command):
    """The card stands in this region of the network; null: in none."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "region"

    card: Card
    rev: Rev
    region: Slug | None = None


class CardReturn(Command):
    """The card came back from its subscriber, and is not in use until it is released into stock."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "return"

    card: Card
    rev: Rev


class CardBlacklist(Command):
    """The card is to open nothing for ever; nothing undoes this."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "blacklist"

    card: Card
    rev: Rev
    reason: Text | None = None


class CardPair(Command):
    """The card is to serve this receiver alone: no other can use its control words."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "pair"

    card: Card
    rev: Rev
    receiver: Receiver


class CardUnpair(Command):
    """The card is to serve any receiver."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "unpair"

    card: Card
    rev: Rev


class CardPinReset(Command):
    """The subscriber's PIN on the card is to be the factory's, 0000, once; he may then change it."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "pin-reset"

    card: Card
    rev: Rev


class CardParental(Command):
    """The card is to ask for its PIN before what is rated for the age `level` or above; 0: before nothing."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "parental"

    card: Card
    rev: Rev
    level: Annotated[
        int, Field(ge=0, le=18, description="An age from 4 to 18; 0 for no lock"), AfterValidator(_parental_level)
    ]


class CardRefresh(Command):
    """What the card should hold is to be sent again at once."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "refresh"

    card: Card
