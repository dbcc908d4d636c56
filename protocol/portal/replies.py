"""Answers to commands, and what is said of messages that cannot be answered."""

from enum import StrEnum, unique
from typing import Annotated, Literal

from pydantic import Field

from protocol.portal.codes import Code
from protocol.portal.errors import FieldError
from protocol.portal.fields import Card, CommandId, Message, Moment, Text


@unique
class Status(StrEnum):
    """What became of a command. `duplicate`: it was answered before, and the rest of the reply says how."""

    COMMITTED = "committed"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Reply(Message):
    """The answer to one command, on the response topic. A time that cannot be told is null, and `detail` says why.

    `starts_at` and `ends_at` are those of the subscription, also where the terms of its offer set them.
    `next_change_at`: from then on the choice of a mix can be changed; the time of the answer, where it can be now.
    """

    id: CommandId
    status: Status
    code: Code
    detail: str
    errors: tuple[FieldError, ...] = ()
    retryable: bool = False
    card: Card | None = None
    on_air_by: Moment | None = None
    visible_by: Moment | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    next_change_at: Moment | None = None
    resume_after: Annotated[int, Field(ge=0)] | None = None


class Reject(Message):
    """What is published on `rej` about a message that could not be understood. `hash` is the SHA-256 of its payload."""

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    code: Code
    reason: str
    resource: str = ""
    verb: str = ""
    id: CommandId | None = None
    received_at: Moment


class NodeState(Message):
    """Retained on the node's own topic; the broker publishes `online` false when the daemon is gone.

    `schemas` are the versions of these messages that the node serves, one for each major version.
    """

    online: bool
    role: Literal["active", "standby", "none"]
    version: Text
    schemas: tuple[Annotated[str, Field(pattern=r"^[1-9][0-9]*\.[0-9]+$")], ...] = ()
    since: Moment | None = None
