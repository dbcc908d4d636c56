"""The portal's commands: each states what should be (D10), carries an id, and mostly a rising `rev`."""

import hashlib
import re
from typing import Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from protocol.portal.codes import Code
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
from protocol.portal.commands.snapshot import SnapshotCompare, SnapshotRead, SnapshotRequest
from protocol.portal.commands.subscriptions import SubscriptionEnd, SubscriptionPut
from protocol.portal.errors import FieldError, InvalidError, UnreadableError
from protocol.portal.fields import ID_PATTERN

PAYLOAD_MAX: Final = 16_384
"""Bytes of the largest command."""
_ERRORS_MAX: Final = 20
_ID: Final = re.compile(ID_PATTERN[:-1] + r"\Z")


AnyCommand = (
    OfferPut
    | OfferWithdraw
    | CardAssign
    | CardRelease
    | CardSuspend
    | CardReopen
    | CardReport
    | CardReplace
    | CardReturn
    | CardBlacklist
    | CardPair
    | CardRegion
    | CardUnpair
    | CardPinReset
    | CardParental
    | CardRefresh
    | SubscriptionPut
    | SubscriptionEnd
    | CardMessage
    | CardFingerprint
    | MessagePut
    | MessageWithdraw
    | InvoiceReplay
    | SnapshotRequest
    | SnapshotRead
    | SnapshotCompare
)
COMMANDS: Final[dict[tuple[str, str], type[AnyCommand]]] = {
    (model.resource, model.verb): model for model in get_args(AnyCommand)
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
        tuple(field_error(details) for details in found[:_ERRORS_MAX]),
        reply_to if isinstance(reply_to, str) else None,
    )


def field_error(details: ErrorDetails) -> FieldError:
    """Return what pydantic found as the field and what to do about it."""
    field = ".".join(str(part)[:64] for part in details["loc"] if part != "[key]")
    text = details["msg"].removeprefix("Value error, ")
    if not field and ": " in text:
        field, text = text.split(": ", 1)
    return FieldError(field, text[:300])
