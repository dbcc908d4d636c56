"""Topics under `cad/v1/`: read strictly, built only from names that are checked here."""

import re
from dataclasses import dataclass
from typing import Final

from protocol.portal.errors import TopicError

ROOT: Final = "cad/v1"
COMMAND_FILTER: Final = f"{ROOT}/+/cmd/#"
"""Subscribes to every operator's commands, misspelt ones included, so that none vanishes unanswered."""

SLUG_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,31}$"
CLIENT_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}$"

_SLUG = re.compile(SLUG_PATTERN[:-1] + r"\Z")
_CLIENT = re.compile(CLIENT_PATTERN[:-1] + r"\Z")


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """`cad/v1/{operator}/cmd/{resource}/{verb}`; the two last are empty when the topic has another shape below cmd."""

    operator: str
    resource: str
    verb: str


def parse_command(topic: str) -> CommandTopic:
    """Read the topic of a message below `cmd`. Raises TopicError when it is none, or names no possible operator."""
    parts = topic.split("/")
    if len(parts) < 4 or parts[0] != "cad" or parts[1] != "v1" or parts[3] != "cmd":
        raise TopicError(f"not a command topic; it looks like {ROOT}/{{operator}}/cmd/{{resource}}/{{verb}}")
    if len(parts) != 6 or not (_SLUG.match(parts[4]) and _SLUG.match(parts[5])):
        return CommandTopic(_slug("operator", parts[2]), "", "")
    return CommandTopic(_slug("operator", parts[2]), parts[4], parts[5])


def command(operator: str, resource: str, verb: str) -> str:
    """Return the topic that a command is published on."""
    return f"{ROOT}/{_slug('operator', operator)}/cmd/{_slug('resource', resource)}/{_slug('verb', verb)}"


def reply(operator: str, client: str) -> str:
    """Return the reply topic of one client of an operator."""
    if not _CLIENT.match(client):
        raise TopicError("a client name has 1 to 64 letters, digits, dots, hyphens or underscores")
    return f"{ROOT}/{_slug('operator', operator)}/rep/{client}"


def check_reply(topic: str, operator: str) -> str:
    """Return a response topic asked for by a sender, unless it lies outside the sender's `rep/`: then TopicError."""
    prefix = f"{ROOT}/{_slug('operator', operator)}/rep/"
    if not topic.startswith(prefix):
        raise TopicError(f"the response topic must begin with {prefix}")
    return reply(operator, topic[len(prefix) :])


def event(operator: str, resource: str, name: str) -> str:
    """Return the topic of a fact about one of the operator's resources."""
    return f"{ROOT}/{_slug('operator', operator)}/evt/{_slug('resource', resource)}/{_slug('event', name)}"


def rejects(operator: str) -> str:
    """Return the topic where an operator's messages go that could not be understood."""
    return f"{ROOT}/{_slug('operator', operator)}/rej"


def node_state(node: str) -> str:
    """Return the topic of a headend node's retained state. `_node` is no possible operator."""
    return f"{ROOT}/_node/{_slug('node', node)}/state"


def _slug(what: str, name: str) -> str:
    if not _SLUG.match(name):
        raise TopicError(f"{what} has 1 to 32 small letters, digits or hyphens, and does not begin with a hyphen")
    return name
