"""JSON Schemas (draft 2020-12) of every message, made from the models: one `Described` each, with an example.

What the headend takes is described strictly. What it publishes is described openly, for within a major version fields,
codes and values may be added: a portal ignores what it does not know.
"""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from protocol.portal import topics
from protocol.portal.codes import MEANINGS, Code
from protocol.portal.commands.parsing import COMMANDS
from protocol.portal.commands.snapshot import ANSWERS, answer_type
from protocol.portal.documents.samples import sample
from protocol.portal.events import EVENTS
from protocol.portal.fields import Message
from protocol.portal.replies import NodeState, Reject, Reply
from protocol.portal.version import MAJOR

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


@unique
class Kind(StrEnum):
    """Who publishes a message, and what for."""

    COMMAND = "command"
    REPLY = "reply"
    EVENT = "event"
    REJECT = "reject"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Described:
    """One message: its dotted name, the topic with its parameters in braces, its model and an example of its payload.

    `ce_type` is the CloudEvents attribute `type`, "" where the message carries none.
    """

    name: str
    kind: Kind
    topic: str
    model: type[Message]
    ce_type: str = ""

    @property
    def sent_by_portal(self) -> bool:
        """Whether portals publish it; else the headend does."""
        return self.kind is Kind.COMMAND

    @property
    def summary(self) -> str:
        """The first line of what the model says of itself."""
        return (self.model.__doc__ or self.name).strip().splitlines()[0]

    def example(self) -> dict[str, Any] | None:
        """Return a payload that the model takes; None where no example can be made up."""
        made = sample(self.schema(), whole=not self.sent_by_portal)
        if self.kind is Kind.REJECT:
            made |= {"code": Code.UNREADABLE.value, "reason": "the payload is not JSON in UTF-8", "id": None}
        try:
            self.model.model_validate_json(json.dumps(made))
        except ValidationError:
            return None
        return made

    def schema(self) -> Schema:
        """Return the schema as a document of its own, its definitions in `$defs`."""
        made, definitions = _made(self.model, self.sent_by_portal, "#/$defs/{model}")
        head = {"$schema": DIALECT, "$id": f"urn:cad:v{MAJOR}:{self.name.replace('.', ':')}"}
        body = definitions.pop(self.model.__name__, made)
        return head | body | ({"$defs": definitions} if definitions else {})


def messages() -> Iterator[Described]:
    """Return every message there is: commands, reply, events, reject, state of a node."""
    for (resource, verb), command in COMMANDS.items():
        topic = f"{topics.ROOT}/{{operator}}/cmd/{resource}/{verb}"
        yield Described(f"command.{resource}.{verb}", Kind.COMMAND, topic, command)
    yield Described("reply", Kind.REPLY, f"{topics.ROOT}/{{operator}}/rep/{{client}}", Reply, f"cad.v{MAJOR}.reply")
    for name, answer in ANSWERS.items():
        topic = f"{topics.ROOT}/{{operator}}/rep/{{client}}/{name}"
        yield Described(f"snapshot.{name}", Kind.REPLY, topic, answer, answer_type(name))
    for (resource, name), event in EVENTS.items():
        topic = f"{topics.ROOT}/{{operator}}/evt/{resource}/{name}"
        yield Described(f"event.{resource}.{name}", Kind.EVENT, topic, event, f"cad.v{MAJOR}.{resource}.{name}")
    yield Described("reject", Kind.REJECT, f"{topics.ROOT}/{{operator}}/rej", Reject, f"cad.v{MAJOR}.reject")
    yield Described("node-state", Kind.STATE, f"{topics.ROOT}/_node/{{node}}/state", NodeState)


def components() -> tuple[dict[str, Schema], dict[type[Message], str]]:
    """Return all schemas and definitions side by side, for `#/components/schemas/`, and each model's name there."""
    found: dict[str, Schema] = {}
    names: dict[type[Message], str] = {}
    for one in messages():
        made, definitions = _made(one.model, one.sent_by_portal, "#/components/schemas/{model}")
        names[one.model] = one.model.__name__
        found |= {one.model.__name__: definitions.pop(one.model.__name__, made), **definitions}
    return dict(sorted(found.items())), names


def _made(model: type[BaseModel], strict: bool, ref: str) -> tuple[Schema, dict[str, Schema]]:
    """Return the model's schema and its definitions, strict for what we take, open for what we publish."""
    mode = "validation" if strict else "serialization"
    _, made = models_json_schema([(model, mode)], ref_template=ref)  # type: ignore[list-item]
    definitions: dict[str, Schema] = made["$defs"]
    for each in definitions.values():
        _walk(each, _closed_maps)
        _walk(each, functools.partial(_tidy, strict=strict))
    if "Code" in definitions:
        definitions["Code"] = _codes()
    return definitions[model.__name__], definitions


def _tidy(schema: Schema, *, strict: bool) -> None:
    """Leave out what says nothing to a reader, and what would forbid additions to what we publish."""
    if isinstance(schema.get("title"), str):
        schema.pop("title")
    schema.pop("discriminator", None)  # OpenAPI's, not JSON Schema's
    if schema.get("default") in ("", None) and "default" in schema:
        schema.pop("default")
    if not strict and schema.get("additionalProperties") is False and "properties" in schema:
        schema.pop("additionalProperties")


def _closed_maps(schema: Schema) -> None:
    """Pydantic moves a pattern of keys out of `propertyNames`, and forgets to forbid all other keys."""
    if "patternProperties" in schema:
        schema["additionalProperties"] = False
        schema.pop("propertyNames", None)


def _codes() -> Schema:
    """Known codes with their texts; new ones may come."""
    known = [{"const": code.value, "description": MEANINGS[code].text} for code in Code]
    return {
        "description": "A stable code. New ones may be added: go by `status` and `retryable` where you do not know it.",
        "anyOf": [{"oneOf": known}, {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}],
    }


def _walk(schema: Any, change: Callable[[Schema], None]) -> None:
    """Let `change` edit a schema and all schemas in it; names of properties are not mistaken for keywords."""
    if isinstance(schema, list):
        for each in schema:
            _walk(each, change)
    if not isinstance(schema, dict):
        return
    change(schema)
    for keyword, value in schema.items():
        if keyword in ("properties", "patternProperties", "$defs"):
            for each in value.values():
                _walk(each, change)
        elif keyword in ("items", "additionalProperties", "anyOf", "oneOf", "allOf", "prefixItems", "propertyNames"):
            _walk(value, change)
