"""What can be promised for changes made now: upper bounds that hold whatever other operators do meanwhile."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forecast:
    """Within how many seconds changes of one operator that are made now go out, at the latest; infinite without a rate.

    The first change that keeps its deadline goes out within `first_s`, each more at the same moment `each_s` later, up
    to `room` of them; what comes behind those waits in the bulk lane. Cards then come again within `repeat_s`.
    """

    first_s: float
    each_s: float
    room: int
    bulk_first_s: float
    bulk_each_s: float
    repeat_s: float

    def within(self, ahead: int, cards: int, urgent: bool = True) -> float:
        """Return within how many seconds the last of `cards` is out that come behind `ahead` of the same moment."""
        last = max(0, ahead + cards - 1)
        if urgent and last < self.room:
            return self.first_s + last * self.each_s
        return self.bulk_first_s + last * self.bulk_each_s
