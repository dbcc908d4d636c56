"""Facts that the headend publishes by itself, and the CloudEvents attributes that go with everything it publishes."""

from typing import Annotated, Final, get_args

from pydantic import Field

from protocol.portal.commands.invoice import FactName, InvoiceFact
from protocol.portal.fields import Card, CommandId, Message, Moment, Reference, Rev, Slug, spell_moment

CONTENT_TYPE: Final = "application/json"
SPEC_VERSION: Final = "1.0"
REPLY_TYPE: Final = "cad.v1.reply"
REJECT_TYPE: Final = "cad.v1.reject"
ON_AIR_TYPE: Final = "cad.v1.card.on-air"
MESSAGE_ON_AIR_TYPE: Final = "cad.v1.message.on-air"


class CardOnAir(Message):
    """A change of a card has been sent on a multiplex for the first time, itself or within a newer one.

    `remaining` are the multiplexes of the card's network that are still to come.
    """

    card: Card
    command: CommandId
    multiplex: Slug
    at: Moment
    revision: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
    remaining: tuple[Slug, ...]


class MessageOnAir(Message):
    """A message or fingerprint has been sent once to all cards that it is for, on every multiplex of their network.

    `rev` is that of the command that has it so; `at` is when the last of it went out.
    """

    message: Reference
    rev: Rev
    at: Moment


EVENTS: Final[dict[tuple[str, str], type[Message]]] = {
    ("card", "on-air"): CardOnAir,
    ("message", "on-air"): MessageOnAir,
    **{("invoice", name): InvoiceFact for name in get_args(FactName)},
}
"""Every fact by resource and name, as in the topic `evt/{resource}/{name}`; its type is `cad.v1.{resource}.{name}`.

Schemas, the AsyncAPI document and the portal's client are made from this table.
"""


def invoice_type(fact: str) -> str:
    """Return the CloudEvents type of a fact for the invoice."""
    return f"cad.v1.invoice.{fact}"


def attributes(event_type: str, source: str, event_id: str, at: float) -> list[tuple[str, str]]:
    """Return the CloudEvents 1.0 attributes of a published message, as MQTT 5 user properties (binary content mode).

    `event_id` is the same when a message is published again: who has seen it may drop it.
    """
    return [
        ("specversion", SPEC_VERSION),
        ("id", event_id),
        ("source", source),
        ("type", event_type),
        ("time", spell_moment(int(at))),
    ]
