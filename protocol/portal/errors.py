"""What can be wrong with a message from a portal."""

from dataclasses import dataclass

from protocol.errors import ProtocolError
from protocol.portal.codes import Code


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that breaks the schema: its path (dots between names) and what to do. Never holds the value."""

    field: str
    text: str


class PortalError(ProtocolError):
    """A message from a portal that cannot be carried out as it stands."""

    def __init__(self, code: Code, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors


class UnreadableError(PortalError):
    """It cannot even be answered: no command, no id, no JSON, or a reply topic that is not the sender's."""


class InvalidError(PortalError):
    """A command with an id, but against its schema: it can be answered, `id` says to whom."""

    def __init__(self, command_id: str, errors: tuple[FieldError, ...], reply_to: str | None) -> None:
        super().__init__(Code.INVALID, "the message breaks its schema", errors)
        self.id = command_id
        self.reply_to = reply_to


class TopicError(ProtocolError):
    """A topic that is not one of ours, or a name that cannot stand in one."""
