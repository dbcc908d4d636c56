"""What the ledger asks whoever sends: when that which is committed now will be on the air."""

from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection

from cad.ledger.records import MessageRow
from cad.ledger.tables import messages
from cad.ledger.tables.messages import OnAirMessage

COUNTED_MAX: Final = 5_000
"""A message's cards are counted up to so many; what more they are does not make it longer to send by much."""


@dataclass(frozen=True, slots=True)
class Showing:
    """A message that a command has sent anew. `most`: so many cards at the most it is for; None where not counted."""

    message: OnAirMessage
    most: int | None


def showing_of(connection: Connection, row: MessageRow, now: float, unwritten: int) -> Showing:
    """Return a message that is to be sent anew, with how many cards it is for at the most.

    `unwritten`: cards and subscriptions of the transaction that are not written yet.
    """
    message = messages.read(row)
    if message.starts_at > now:
        return Showing(message, None)  # by then there may be more
    most = messages.count(connection, message, COUNTED_MAX)
    return Showing(message, most + unwritten if most is not None and most < COUNTED_MAX else None)


class Told(Protocol):
    """When a change made now will be on the air and by when visible; None where that cannot be told, and why."""

    @property
    def on_air_by(self) -> int | None: ...
    @property
    def visible_by(self) -> int | None: ...
    @property
    def detail(self) -> str | None: ...


class Promise(Protocol):
    """What can be promised to an operator for what one commit changes, command by command."""

    def of(self, cards: int) -> Told:
        """What is promised to a command that changes so many cards; it stands behind those asked for before it."""
        ...

    def of_message(self, showing: Showing) -> Told:
        """What is promised to a command that has a message sent; it stands behind those asked for before it."""
        ...


@dataclass(frozen=True, slots=True)
class NoPromise:
    """Stands where nobody can promise anything, or one thing to all."""

    on_air_by: int | None = None
    visible_by: int | None = None
    detail: str | None = None

    def of(self, cards: int) -> "NoPromise":
        """The same for everybody."""
        return self

    def of_message(self, showing: Showing) -> "NoPromise":
        """The same for every message."""
        return self
