"""What comes from the headend, as a portal sees it: the models, but tolerant of what later versions add."""

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, ValidationError

from cad.orders.broker import Received
from protocol.portal.codes import Code
from protocol.portal.events import EVENTS
from protocol.portal.fields import Message
from protocol.portal.replies import NodeState, Reject, Reply, Status

_OPEN = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


class Answer(Reply):
    """What became of a command. `code` equals a member of `Code`, or is one that came later."""

    model_config = _OPEN

    code: str  # type: ignore[assignment]

    @property
    def ok(self) -> bool:
        """Whether the command was carried out, now or when it was first sent."""
        return self.code == Code.OK


class HeadendState(NodeState):
    """What a node of the headend last said of itself."""

    model_config = _OPEN

    role: str  # type: ignore[assignment]

    def serves(self, version: str) -> bool:
        """Return whether the node takes messages of this schema version, as "1.2"."""
        major, minor = _version(version)
        return any(_version(one)[0] == major and _version(one)[1] >= minor for one in self.schemas)


class Rejected(Reject):
    """What the headend could not understand; `hash` is the SHA-256 of the payload."""

    model_config = _OPEN

    code: str  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event. `fact` is its model where we know it, else None; `data` is the payload as it came.

    `id` is the CloudEvents id: a fact that the headend publishes again comes to you once.
    """

    id: str
    resource: str
    name: str
    fact: Message | None
    data: dict[str, Any] = field(repr=False)
    seq: int = 0


def read_answer(payload: bytes) -> Answer | None:
    """Read a reply; None for what is none."""
    try:
        return Answer.model_validate_json(payload)
    except ValidationError:
        return None


def read_reject(payload: bytes) -> Rejected | None:
    """Read a message on `rej`; None for what is none."""
    try:
        return Rejected.model_validate_json(payload)
    except ValidationError:
        return None


def refusal(command_id: str, reject: Rejected) -> Answer:
    """Return what `rej` said of a command as an answer to it."""
    return Answer.model_validate(
        {"id": command_id, "status": Status.REJECTED, "code": reject.code, "detail": reject.reason}
    )


def read_state(payload: bytes) -> HeadendState | None:
    """Read a node's retained state; None for what is none."""
    try:
        return HeadendState.model_validate_json(payload)
    except ValidationError:
        return None


def event_id(received: Received) -> str:
    """Return the CloudEvents id of a message; without one its topic and payload stand for it."""
    found = [value for name, value in received.user_properties if name == "id"]
    return found[0] if found else f"{received.topic} {received.payload.hex()}"


def read_fact(seq: int, identity: str, topic: str, payload: bytes) -> Fact:
    """Read an event; what is no JSON object is given as an empty one."""
    resource, name = topic.split("/")[-2:]
    try:
        data = json.loads(payload)
    except ValueError:
        data = {}
    model = EVENTS.get((resource, name))
    fact = None
    if model is not None:
        try:
            fact = model.model_validate_json(payload, extra="ignore")
        except ValidationError:
            fact = None
    return Fact(identity, resource, name, fact, data if isinstance(data, dict) else {}, seq)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
