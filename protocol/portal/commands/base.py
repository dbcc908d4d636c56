"""What all commands have in common."""

from typing import ClassVar, Final

from protocol.portal.fields import ClientName, CommandId, Message

_ENVELOPE: Final = {"id": True, "reply_to": True}


class Command(Message):
    """What all commands have. With MQTT 5, `id` may be a user property and `reply_to` the response topic instead."""

    resource: ClassVar[str]
    verb: ClassVar[str]

    id: CommandId = ""
    reply_to: ClientName | None = None

    def body(self) -> bytes:
        """Return the content as canonical JSON: all but id and way of reply, one spelling for one content."""
        return self.model_dump_json(exclude=_ENVELOPE, exclude_defaults=True).encode()
