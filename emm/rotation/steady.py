"""A clock that never falls back, made of one that may."""


class SteadyTime:
    """Follows an outer clock; where that steps back, goes on from the last moment seen.

    Steady seconds never decrease. A step back of the outer clock shifts all that follows, so that what was measured
    before the step keeps its age; a step forward is time that passed.
    """

    def __init__(self) -> None:
        self._last = float("-inf")
        self._shift = 0.0

    @property
    def present(self) -> float:
        """The last steady moment seen; negative infinity before the first."""
        return self._last

    def at(self, now: float) -> float:
        """Return the steady moment of the outer clock's `now`, and remember it as the present."""
        steady = now + self._shift
        if steady < self._last:
            self._shift += self._last - steady
            return self._last
        self._last = steady
        return steady

    def of(self, moment: float) -> float:
        """Return the steady moment of any `moment` read from the outer clock as it stands now."""
        return moment + self._shift

    def back(self, steady: float) -> float:
        """Return what the outer clock, as it stands now, would call a steady moment."""
        return steady - self._shift
