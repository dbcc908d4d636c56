"""Commands about what cards have shown on the screen: messages and fingerprints (C6)."""

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protocol.portal.commands.base import Command
from protocol.portal.fields import Card, Language, Message, Moment, Reference, Rev, Slug

CARDS_MAX: Final = 100
LANGUAGES_MAX: Final = 4
TEXT_MAX: Final = 800
TEXT_BYTES_MAX: Final = 2_000
"""Of all texts of a message together, in UTF-8."""
REPEAT_S: Final = 300
MAILBOX: Final = "mailbox"
FORCED: Final = "forced"

ScreenText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=TEXT_MAX,
        pattern=r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]+$",
        description="Any letters; line feeds, but no other control characters",
    ),
]


def _sorted(texts: dict[str, str]) -> dict[str, str]:
    if sum(len(text.encode()) for text in texts.values()) > TEXT_BYTES_MAX:
        raise ValueError(f"all texts together have at most {TEXT_BYTES_MAX} bytes in UTF-8")
    return dict(sorted(texts.items()))


ScreenTexts = Annotated[
    dict[Language, ScreenText], Field(min_length=1, max_length=LANGUAGES_MAX), AfterValidator(_sorted)
]
"""The same text in several languages; the receiver shows one."""
RepeatS = Annotated[int, Field(ge=30, le=3600, description="Seconds between two transmissions")]


class Recipients(Message):
    """Who is to see it: these cards, all with an offer or in a region, or all of the operator. Just one."""

    cards: Annotated[tuple[Card, ...], Field(strict=False, min_length=1, max_length=CARDS_MAX)] | None = None
    offer: Slug | None = None
    region: Slug | None = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(each is not None for each in (self.cards, self.offer, self.region, self.all)) != 1:
            raise ValueError("name just one of: cards, offer, region, all")
        if self.cards is not None and len(set(self.cards)) != len(self.cards):
            raise ValueError("cards: name each card once")
        return self


class MessagePut(Command):
    """These cards are to have this message, while it lasts also those that join them later."""

    resource: ClassVar[str] = "message"
    verb: ClassVar[str] = "put"

    message: Reference
    rev: Rev
    to: Recipients
    text: ScreenTexts
    mode: Literal["mailbox", "forced"] = MAILBOX
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    repeat_s: RepeatS = REPEAT_S


class MessageWithdraw(Command):
    """The message, or fingerprint, is not to be sent any more. What a card has taken stays on it."""

    resource: ClassVar[str] = "message"
    verb: ClassVar[str] = "withdraw"

    message: Reference
    rev: Rev


class CardMessage(Command):
    """This card is to have this message; `message put` with one card."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "message"

    card: Card
    message: Reference
    rev: Rev
    text: ScreenTexts
    mode: Literal["mailbox", "forced"] = MAILBOX
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    repeat_s: RepeatS = REPEAT_S


class CardFingerprint(Command):
    """These cards are to show their number once for some seconds; with `service` only where that is watched."""

    resource: ClassVar[str] = "card"
    verb: ClassVar[str] = "fingerprint"

    message: Reference
    rev: Rev
    to: Recipients
    service: Slug | None = None
    position: Literal["random", "top-left", "top-right", "centre", "bottom-left", "bottom-right"] = "random"
    duration_s: Annotated[int, Field(ge=1, le=600)] = 10
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    repeat_s: RepeatS = 30


AnyMessage = MessagePut | CardMessage | CardFingerprint
