"""[[networks.regions]] and [[networks.blackouts]]: where a service is not to be seen for some time (C8)."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, model_validator

from config.fields import Slug, Table, Text


class RegionSettings(Table):
    """[[networks.regions]] A part of the network's area. `number` goes on the air: never give it to another region."""

    id: Slug
    name: Text
    number: Annotated[int, Field(ge=1, le=0xFFFF)]


class BlackoutSettings(Table):
    """[[networks.blackouts]] A service that is not to be seen in some regions for some time.

    `without_region`: nor by cards of which no region is known.
    """

    service: Slug
    regions: Annotated[tuple[Slug, ...], Field(strict=False, min_length=1)]
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    without_region: bool = True

    @property
    def window(self) -> tuple[int, int]:
        """From when until before when, in Unix seconds."""
        return int(self.starts_at.timestamp()), int(self.ends_at.timestamp())

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.window[0] < self.window[1] <= 0xFFFF_FFFF:
            raise ValueError("ends_at must be later than starts_at, by a second at least")
        return self


def blacked_out(
    service: str, now: float, regions: Iterable[RegionSettings], blackouts: Iterable[BlackoutSettings]
) -> dict[int, int]:
    """Return in which regions a service is blacked out now, and until when (Unix seconds); 0: cards without one."""
    numbers = {region.id: region.number for region in regions}
    found: dict[int, int] = {}
    for blackout in blackouts:
        starts_at, ends_at = blackout.window
        if blackout.service == service and starts_at <= now < ends_at:
            named = [numbers[region] for region in blackout.regions if region in numbers]
            for number in [*named, 0] if blackout.without_region else named:
                found[number] = max(found.get(number, 0), ends_at)
    return found
