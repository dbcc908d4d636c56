"""Bandwidth shared between operators in proportion to their weights: start-time fair queueing."""

from collections.abc import Iterable, Sequence

from emm.rotation.errors import CarouselError


class Shares:
    """Whose turn it is among operators that have something to send. Operators are whole numbers from 0 on.

    While several are busy, the bytes each has had approach its weight, within one EMM; who was idle has no claim on
    what others took meanwhile, and no debt (Goyal, Vin & Cheng 1996). A turn looks once at each operator that waits.
    """

    def __init__(self) -> None:
        self._weights: list[float] = []
        self._finish: list[float] = []
        self._virtual = 0.0

    def set_weights(self, weights: Sequence[float]) -> None:
        """Set the weights of all operators; those that are new come at the end. Raises `CarouselError`."""
        if not all(0 < weight < float("inf") for weight in weights) or len(weights) < max(1, len(self._weights)):
            raise CarouselError("weights are above 0, one for each operator; operators are added, never taken away")
        self._weights = list(weights)
        self._finish += [0.0] * (len(weights) - len(self._finish))

    def pick(self, waiting: Iterable[int]) -> int:
        """Return whose turn it is among those that wait (one at least)."""
        return min(waiting, key=self._finish.__getitem__)

    def spend(self, operator: int, size: int) -> None:
        """Reckon `size` bytes as sent for an operator that had waited and was picked."""
        self._virtual = max(self._virtual, self._finish[operator])
        self._finish[operator] = self._virtual + size / self._weights[operator]
