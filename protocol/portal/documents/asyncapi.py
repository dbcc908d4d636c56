"""The AsyncAPI 3.0 document of the portal's side, made from the models: the headend is the application described."""

from typing import Any, Final

from protocol.portal.commands.parsing import PAYLOAD_MAX
from protocol.portal.documents import schemas
from protocol.portal.documents.schemas import Described, Kind
from protocol.portal.events import CONTENT_TYPE, SPEC_VERSION
from protocol.portal.fields import ID_PATTERN
from protocol.portal.topics import CLIENT_PATTERN, ROOT, SLUG_PATTERN
from protocol.portal.version import MAJOR, MINOR

Node = dict[str, Any]

MQTT_BINDING: Final = "0.2.0"
_PARAMETERS: Final[dict[str, str]] = {
    "operator": f"Your operator's id in the headend's settings; it matches {SLUG_PATTERN}.",
    "client": f"A name of your own choice for one portal client; it matches {CLIENT_PATTERN}.",
    "node": "A node of the headend; subscribe with + to hear them all.",
}
_DESCRIPTION: Final = f"""\
How a telco's portal orders from the headend over MQTT 5, or 3.1.1. Commands go out with QoS 1, not retained.
Each carries an id; the same id may be sent again as often as you like, until its reply has come.
A command has at most {PAYLOAD_MAX} bytes. Rules of idempotency and ordering, codes and limits: docs/portal.md.
Made by scripts/portal-schemas from the models; do not edit."""


def document() -> Node:
    """Return the whole document as plain dicts, lists and strings."""
    definitions, names = schemas.components()
    described = list(schemas.messages())
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "cad: the portal's side of the conditional-access headend",
            "version": f"{MAJOR}.{MINOR}.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5",
                "description": "The headend's broker. The common name of your certificate is your operator's id.",
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
            }
        },
        "channels": {_key(one): _channel(one) for one in described},
        "operations": {_key(one): _operation(one) for one in described},
        "components": {
            "messages": {_key(one): _message(one, names[one.model]) for one in described},
            "schemas": definitions | {"CommandHeaders": _command_headers(), "FactHeaders": _fact_headers()},
            "correlationIds": {"correlation": {"location": "$message.header#/correlationData"}},
            "securitySchemes": {
                "certificate": {"type": "X509", "description": "Mutual TLS with a certificate from the headend."}
            },
        },
    }


def _key(one: Described) -> str:
    return one.name.replace(".", "-")


def _channel(one: Described) -> Node:
    parameters = {name: {"description": text} for name, text in _PARAMETERS.items() if f"{{{name}}}" in one.topic}
    return {
        "address": one.topic,
        "title": one.name,
        "description": one.summary,
        "parameters": parameters,
        "messages": {_key(one): {"$ref": f"#/components/messages/{_key(one)}"}},
    }


def _operation(one: Described) -> Node:
    """The operation as the headend sees it: it receives commands and sends all else."""
    made: Node = {
        "action": "receive" if one.sent_by_portal else "send",
        "title": one.name,
        "summary": one.summary,
        "channel": {"$ref": f"#/channels/{_key(one)}"},
        "messages": [{"$ref": f"#/channels/{_key(one)}/messages/{_key(one)}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": one.kind is Kind.STATE, "bindingVersion": MQTT_BINDING}},
    }
    if one.sent_by_portal:
        made["reply"] = {
            "address": {
                "location": "$message.header#/responseTopic",
                "description": f"The MQTT 5 response topic; it must lie in your own {ROOT}/{{operator}}/rep/. Without"
                " MQTT 5 name the client in the payload's `reply_to`.",
            },
            "channel": {"$ref": "#/channels/reply"},
            "messages": [{"$ref": "#/channels/reply/messages/reply"}],
        }
    return made


def _message(one: Described, definition: str) -> Node:
    made: Node = {
        "name": one.name,
        "title": one.name,
        "summary": one.summary,
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{definition}"},
    }
    if one.sent_by_portal:
        made["headers"] = {"$ref": "#/components/schemas/CommandHeaders"}
        made["correlationId"] = {"$ref": "#/components/correlationIds/correlation"}
    elif one.ce_type:
        made["headers"] = {
            "allOf": [
                {"$ref": "#/components/schemas/FactHeaders"},
                {"type": "object", "properties": {"type": {"const": one.ce_type}}},
            ]
        }
    example = one.example()
    return made if example is None else made | {"examples": [{"name": "typical", "payload": example}]}


def _command_headers() -> Node:
    return {
        "type": "object",
        "description": "MQTT 5 properties of a command. `id` is a user property (CloudEvents); it may stand in the"
        " payload as well, and must then be the same.",
        "properties": {
            "id": {"type": "string", "pattern": ID_PATTERN, "description": "User property: the command's id"},
            "responseTopic": {
                "type": "string",
                "pattern": f"^{ROOT}/[a-z0-9][a-z0-9-]{{0,31}}/rep/[A-Za-z0-9._-]{{1,64}}$",
                "description": "Where the reply is wanted",
            },
            "correlationData": {"type": "string", "description": "Comes back with the reply; at most 1024 bytes"},
        },
    }


def _fact_headers() -> Node:
    """CloudEvents 1.0 in binary mode: attributes as MQTT 5 user properties."""
    return {
        "type": "object",
        "description": "CloudEvents attributes as MQTT 5 user properties. `id` is the same when a message comes again.",
        "required": ["specversion", "id", "source", "type", "time"],
        "properties": {
            "specversion": {"const": SPEC_VERSION},
            "id": {"type": "string"},
            "source": {"type": "string", "description": f"{ROOT}/{{operator}}"},
            "type": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "correlationData": {"type": "string", "description": "Replies: what came with the command"},
        },
    }
