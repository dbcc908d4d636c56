"""The portal's commands: each states what should be (D10), carries an id, and mostly a rising `rev`."""

import hashlib
import re
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from protocol.portal.codes import Code
from protocol.portal.errors import FieldError, InvalidError, UnreadableError
from protocol.portal.fields import (
    ID_PATTERN,
    Card,
    ClientName,
    CommandId,
    Message,
    Moment,
    Reference,
    Rev,
    Slug,
    Text,
    Texts,
)

PAYLOAD_MAX: Final = 16_384
"""Bytes of the largest command."""
PRODUCTS_MAX: Final = 64
_ERRORS_MAX: Final = 20
_ENVELOPE: Final = {"id": True, "reply_to": True}
_ID: Final = re.compile(ID_PATTERN[:-1] + r"\Z")


class Command(Message):
    """What all commands have. With MQTT 5, `id` may be a user property and `reply_to` the response topic instead."""

    resource: ClassVar[str]
    verb: ClassVar[str]

    id: CommandId = ""
    reply_to: ClientName | None = None

    def body(self) -> bytes:
        """Return the content as canonical JSON: all but id and way of reply, one spelling for one content."""
        return self.model_dump_json(exclude=_ENVELOPE, exclude_defaults=True).encode()


class OfferPut(Command):
    """An offer is to be so: what it is called, and which products it opens."""

    resource: ClassVar[str] = "offer"
    verb: ClassVar[str] = "put"

    offer: Slug
    rev: Rev
    kind: Literal["channel", "package"]
    names: Texts
    heading: Texts | None = None
    products: Annotated[tuple[Slug, ...], Field(strict=False, min_length=1, max_length=PRODUCTS_MAX)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.products)) != len(self.products):
            raise ValueError("products: name each product once")
        return self


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


class SubscriptionPut(Command):
    """The card is to have the offer from `starts_at` (null: now) until before `ends_at` (null: no end)."""

    resource: ClassVar[str] = "subscription"
    verb: ClassVar[str] = "put"

    subscription: Reference
    rev: Rev
    card: Card
    offer: Slug
    starts_at: Moment | None = None
    ends_at: Moment | None = None

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("ends_at: it must be later than starts_at")
        return self


class SubscriptionEnd(Command):
    """The subscription is to end at `at` (null: now), or earlier where it ends earlier already."""

    resource: ClassVar[str] = "subscription"
    verb: ClassVar[str] = "end"

    subscription: Reference
    rev: Rev
    at: Moment | None = None


AnyCommand = OfferPut | CardAssign | CardSuspend | CardReopen | CardRefresh | SubscriptionPut | SubscriptionEnd
COMMANDS: Final[dict[tuple[str, str], type[AnyCommand]]] = {
    (model.resource, model.verb): model
    for model in (OfferPut, CardAssign, CardSuspend, CardReopen, CardRefresh, SubscriptionPut, SubscriptionEnd)
}


def parse(resource: str, verb: str, payload: bytes, id_property: str | None = None) -> AnyCommand:
    """Read one command; `id_property` is the CloudEvents user property `id`, where the client sent one.

    The command returned always has its id. Raises InvalidError for what can be answered, else UnreadableError.
    """
    model = COMMANDS.get((resource, verb))
    if model is None:
        offered = ", ".join(" ".join(name) for name in COMMANDS)
        raise UnreadableError(Code.UNKNOWN_COMMAND, f"there is no such command; there are: {offered}")
    if len(payload) > PAYLOAD_MAX:
        raise UnreadableError(
            Code.TOO_LARGE, f"a command has at most {PAYLOAD_MAX} bytes, this message has {len(payload)}"
        )
    try:
        command = model.model_validate_json(payload)
    except ValidationError as error:
        raise _explain(payload, error, id_property) from None
    command_id = _choose_id(command.id or None, id_property)
    return command if command.id else command.model_copy(update={"id": command_id})


def digest(command: AnyCommand, body: bytes) -> bytes:
    """Return the SHA-256 of what a command says without its id; `body` is `command.body()`."""
    return hashlib.sha256(f"{command.resource} {command.verb} ".encode() + body).digest()


def _choose_id(in_payload: str | None, id_property: str | None) -> str:
    if id_property is not None and not _is_id(id_property):
        raise UnreadableError(Code.BAD_ID, "the user property `id` must have 1 to 128 visible ASCII characters")
    if in_payload and id_property is not None and in_payload != id_property:
        raise UnreadableError(Code.BAD_ID, "the payload's `id` and the user property `id` are not the same")
    chosen = in_payload or id_property
    if chosen is None:
        raise UnreadableError(Code.BAD_ID, "the command has no id: put `id` into the payload or into a user property")
    return chosen


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.match(value) is not None


def _explain(payload: bytes, error: ValidationError, id_property: str | None) -> UnreadableError | InvalidError:
    """Turn what pydantic found into an answer, if there is an id to answer to."""
    try:
        raw = from_json(payload)
    except ValueError:
        return UnreadableError(Code.UNREADABLE, "the payload is not JSON in UTF-8")
    if not isinstance(raw, dict):
        return UnreadableError(Code.UNREADABLE, "the payload is JSON, but not an object")
    in_payload = raw.get("id")
    if in_payload is not None and not _is_id(in_payload):
        return UnreadableError(Code.BAD_ID, "the payload's `id` must have 1 to 128 visible ASCII characters")
    try:
        command_id = _choose_id(in_payload, id_property)
    except UnreadableError as unusable:
        return unusable
    reply_to = raw.get("reply_to")
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return InvalidError(
        command_id,
        tuple(_field_error(details) for details in found[:_ERRORS_MAX]),
        reply_to if isinstance(reply_to, str) else None,
    )


def _field_error(details: ErrorDetails) -> FieldError:
    field = ".".join(str(part)[:64] for part in details["loc"] if part != "[key]")
    text = details["msg"].removeprefix("Value error, ")
    if not field and ": " in text:
        field, text = text.split(": ", 1)
    return FieldError(field, text[:300])
