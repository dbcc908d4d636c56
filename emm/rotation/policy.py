"""What the carousel is asked to keep: intervals, shares and demand."""

from dataclasses import dataclass
from typing import Final

from emm.rotation.errors import CarouselError

NEW: Final = 0
"""An operator's lane of the never-sent that will keep their deadline, in order of change."""
BULK: Final = 1
"""An operator's lane of the never-sent that were not promised a deadline, or cannot keep it any more, in order of
arrival."""
LANES: Final = 2
LANE_NAMES: Final = ("new", "bulk")

SIZE_BORDERS: Final = (128, 256, 512)
"""Cards of like size turn in a ring of their own: within a ring sizes differ by a factor of two at most, which keeps
the square-root rule within two per cent of its optimum. Bytes; the last class is open."""
SIZE_CLASSES: Final = len(SIZE_BORDERS) + 1


@dataclass(frozen=True, slots=True)
class AgeClass:
    """Cards whose last change is younger than `until_s`: longest spacing and relative demand of one card."""

    name: str
    until_s: float
    limit_s: float
    demand: float


@dataclass(frozen=True, slots=True)
class CarouselPolicy:
    """Intervals in seconds, shares as fractions of the bandwidth; the defaults keep M2.

    `new_share` is what never-sent changes may take while repeats are due; `bulk_share` is what the bulk lane gets of
    that while the new lane has work. Demands are relative to a card whose change is older than the first hour.
    Raises `CarouselError` for values that contradict each other.
    """

    first_transmission_s: float = 10.0
    first_hour_repeat_s: float = 60.0
    cycle_s: float = 1800.0
    min_repeat_s: float = 1.0
    new_share: float = 0.8
    bulk_share: float = 0.2
    first_hour_s: float = 3600.0
    fresh_s: float = 300.0
    fresh_demand: float = 400.0
    hour_demand: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.new_share < 1 or not 0 < self.bulk_share < 1:
            raise CarouselError("new_share and bulk_share must lie between 0 and 1, both excluded")
        if self.first_transmission_s <= 0:
            raise CarouselError("first_transmission_s must be above 0")
        if not 0 <= self.min_repeat_s < self.first_hour_repeat_s <= self.cycle_s:
            raise CarouselError("wanted: 0 <= min_repeat_s < first_hour_repeat_s <= cycle_s")
        if not 0 <= self.fresh_s <= self.first_hour_s:
            raise CarouselError("fresh_s must lie in 0..first_hour_s")
        if self.fresh_demand <= 0 or self.hour_demand <= 0:
            raise CarouselError("demands must be above 0")

    @property
    def age_classes(self) -> tuple[AgeClass, ...]:
        """The repeating rings, youngest change first."""
        return (
            AgeClass("fresh", self.fresh_s, self.first_hour_repeat_s, self.fresh_demand),
            AgeClass("hour", self.first_hour_s, self.first_hour_repeat_s, self.hour_demand),
            AgeClass("base", float("inf"), self.cycle_s, 1.0),
        )
