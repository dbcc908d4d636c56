"""What can go wrong at the portal's end."""

from cad.errors import CadError


class PortalError(CadError):
    """Root of the errors of `cad.portal`."""


class OutboxError(PortalError):
    """The outbox's file cannot be used: in use by another process, another portal's, damaged, disk full."""


class CommandRefusedError(PortalError):
    """A command that cannot be sent at all: larger than the headend takes."""


class IdReusedError(PortalError):
    """A command with this id but another content is in the outbox already."""


class UnknownCommandError(PortalError):
    """No command with this id is in the outbox: never sent from here, or forgotten."""


class SnapshotError(PortalError):
    """The headend did not give the snapshot that was asked for. `code` is that of its answer, "" where none came."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code
