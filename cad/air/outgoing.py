"""What is on its way out of a channel: changes that wait for their first transmission, and sections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WaitingChange:
    """A change of the ledger that has not been on the air on this multiplex. Unix seconds."""

    change_seq: int
    committed_at: float
    on_air_by: float | None
    visible_by: float | None = None
    operator: str = ""


@dataclass(frozen=True, slots=True)
class FirstAir:
    """A change of the ledger that went on the air on one multiplex for the first time; `at` in Unix seconds."""

    change_seq: int
    multiplex: str
    at: float


@dataclass(frozen=True, slots=True)
class Section:
    """A section on its way out; the last one of a card's EMM brings the changes it carries on the air.

    `notice`: the number of the one of which all has gone out with this section.
    """

    data: bytes
    bits: int
    slot: int
    changes: tuple[WaitingChange, ...]
    drawn_at: float
    last: bool
    notice: int | None = None
