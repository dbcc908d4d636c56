"""Kinds of values that the portal's messages are made of."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from protocol import card_number, receiver_number
from protocol.errors import CardNumberError, ReceiverNumberError
from protocol.portal.topics import CLIENT_PATTERN, SLUG_PATTERN

MOMENT_MAX: Final = 0xFFFF_FFFF
REV_MAX: Final = 2**53 - 1  # what every JSON implementation keeps exact
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)\Z", re.ASCII)

ID_PATTERN: Final = r"^[!-~]{1,128}$"


def _card(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and info.mode == "python" and 0 <= value <= card_number.ADDRESS_MAX:
        return value
    if not isinstance(value, str):
        raise ValueError("write the card number as a string of twelve digits")
    try:
        return card_number.parse(value)
    except CardNumberError as error:
        raise ValueError(str(error)) from None


def _receiver(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and info.mode == "python" and receiver_number.is_number(value):
        return value
    if not isinstance(value, str):
        raise ValueError(f"write the receiver number as a string of {receiver_number.DIGITS} hexadecimal digits")
    try:
        return receiver_number.parse(value)
    except ReceiverNumberError as error:
        raise ValueError(str(error)) from None


def _moment(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and info.mode == "python" and 0 <= value <= MOMENT_MAX:
        return value
    if not (isinstance(value, str) and _MOMENT.match(value)):
        raise ValueError("write the time as 2026-12-01T18:00:00+02:00 or …Z: with offset, in whole seconds (RFC 3339)")
    try:
        at = int(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError):
        raise ValueError("there is no such day or time of day") from None
    if not 0 <= at <= MOMENT_MAX:
        raise ValueError("the time must lie between 1970 and 2106")
    return at


def _sorted(texts: dict[str, str]) -> dict[str, str]:
    return dict(sorted(texts.items()))


@lru_cache(maxsize=1024)
def spell_moment(at: int) -> str:
    """Return Unix seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CommandId = Annotated[str, Field(pattern=ID_PATTERN, description="The command's own id, 1 to 128 visible characters")]
ClientName = Annotated[str, Field(pattern=CLIENT_PATTERN)]
Slug = Annotated[str, Field(pattern=SLUG_PATTERN)]
Rev = Annotated[int, Field(ge=0, le=REV_MAX, description="Rises with each command on the same resource")]
Reference = Annotated[
    str, Field(pattern=r"^[!-~]{1,64}$", description="The portal's own name for something; 1 to 64 visible characters")
]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$", description="BCP 47")]
Texts = Annotated[dict[Language, Text], Field(min_length=1, max_length=20), AfterValidator(_sorted)]
"""The same text in several languages, by rising language tag."""
Card = Annotated[
    int,
    BeforeValidator(_card),
    PlainSerializer(card_number.spell, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": "^[0-9][0-9 -]*$", "description": "The twelve digits printed on the card"}
    ),
]
"""A card's address; as text the number printed on the card."""
Receiver = Annotated[
    int,
    BeforeValidator(_receiver),
    PlainSerializer(receiver_number.spell, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9A-Fa-f][0-9A-Fa-f :-]*$",
            "description": "The sixteen hexadecimal digits printed on the receiver",
        }
    ),
]
"""A receiver's number."""
Moment = Annotated[
    int,
    BeforeValidator(_moment),
    PlainSerializer(spell_moment, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339 with offset, whole seconds"}),
]
"""Unix seconds; as text RFC 3339."""


class Message(BaseModel):
    """What every message has in common: frozen, strict, unknown fields refused, values never in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)
