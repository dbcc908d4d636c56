"""When the EMM of a card really went out, apart from what the carousel reckons with to find whose turn it is."""

from array import array
from dataclasses import dataclass
from typing import Final

from emm.rotation.policy import LANE_NAMES

_TICKS: Final = 10
_NEVER: Final = 0


class LastSent:
    """By slot, when a card's EMM was last handed to one multiplexer since `start`: four bytes a card.

    Times are seconds of the clock that `start` was read from, kept to a tenth.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._ticks: array[int] = array("I")

    def note(self, slot: int, at: float) -> None:
        """The EMM of the card in this slot went out whole."""
        if slot >= len(self._ticks):
            wanted = max(slot + 1, len(self._ticks) * 5 // 4)
            self._ticks.frombytes(bytes(self._ticks.itemsize * (wanted - len(self._ticks))))
        self._ticks[slot] = 1 + int((at - self._start) * _TICKS)

    def at(self, slot: int) -> float | None:
        """Return when; None when it has not been sent since the start."""
        ticks = self._ticks[slot] if slot < len(self._ticks) else _NEVER
        return None if ticks == _NEVER else self._start + (ticks - 1) / _TICKS


@dataclass(frozen=True, slots=True)
class CardOnAir:
    """How a card stands on one multiplex. Unix seconds.

    `ring`: where in the carousel, None where it is in none. `first_sent_at`: when its newest change was first sent
    here, as the ledger noted it; None when it was not, or it is not known any more. `last_sent_at`: when an EMM of the
    card was last sent here since the daemon's start. `next_by`: until when it comes, as far as the present rate and
    cards let expect; None while that cannot be said.
    """

    multiplex: str
    connected: bool
    ring: str | None = None
    first_sent_at: float | None = None
    last_sent_at: float | None = None
    next_by: float | None = None

    @property
    def waits(self) -> bool:
        """Whether the card's newest change has not been sent here yet."""
        return self.ring in LANE_NAMES
