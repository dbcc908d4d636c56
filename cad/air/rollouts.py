"""Changed offers on their way to the cards that have them: slice by slice, so that orders go on in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from cad.air.mass import Promised
from cad.frame.clock import Clock
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import CardChange

LOOK_S: Final = 0.1
"""How often it is looked whether there is anything to do, and whether the last slice has reached the carousels."""
WAIT_S: Final = 0.01
REST: Final = 1.0
"""Pause after a slice, in lengths of that slice: orders have the ledger at least half of the time."""


class Rollouts:
    """Lets cards follow changed offers as long as it runs. `apply(changes, promised)` takes them to the multiplexes.

    `pending(operator)` tells how many changed cards have not reached the carousels yet: no more slices while there are.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        apply: Callable[[Sequence[CardChange], Promised], None],
        pending: Callable[[str], int],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._apply = apply
        self._pending = pending

    async def run(self) -> None:
        """Do it for ever."""
        while True:
            waiting = self._ledger.rollouts
            self._tell()
            if not waiting or any(self._pending(one.operator) for one in waiting):
                await self._clock.sleep(WAIT_S if waiting else LOOK_S)
                continue
            began = self._clock.monotonic()
            try:
                rolled = await self._ledger.roll_out()
            except LedgerUnavailable:
                await self._ledger.wait_usable()
                continue
            self._apply(rolled.changes, Promised(rolled.on_air_by, rolled.visible_by))
            await self._clock.sleep(REST * (self._clock.monotonic() - began))

    def left(self, operator: str) -> int:
        """Return how many cards of an operator still have to follow, about."""
        return sum(one.cards_left for one in self._ledger.rollouts if one.operator == operator)

    def _tell(self) -> None:
        left: Counter[str] = Counter()
        for one in self._ledger.rollouts:
            left[one.operator] += one.cards_left
        self._metrics.tell_rollouts(left)
