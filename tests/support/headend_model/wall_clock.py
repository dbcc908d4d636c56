"""Months as docs/portal.md counts them: on the wall clock of a place."""

import calendar
from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def months_later(at: int, months: int, zone: ZoneInfo) -> int:
    """The same time on the wall that many months on; the last day of a month that is too short."""
    wall = datetime.fromtimestamp(at, zone)
    year, month = wall.year, wall.month
    for _ in range(months):
        year, month = following(year, month)
    day = min(wall.day, calendar.monthrange(year, month)[1])
    return moment_of(wall.replace(year=year, month=month, day=day, tzinfo=None), zone)


def next_month(at: int, zone: ZoneInfo) -> int:
    """The first moment of the calendar month there that comes next."""
    wall = datetime.fromtimestamp(at, zone)
    return moment_of(datetime(*following(wall.year, wall.month), 1), zone)  # noqa: DTZ001 - the wall has no zone


def following(year: int, month: int) -> tuple[int, int]:
    """The next month."""
    return (year + 1, 1) if month == 12 else (year, month + 1)


def moment_of(naive: datetime, zone: ZoneInfo) -> int:
    """The moment at which the wall clock there shows that: of two the first, and where it is skipped, so much later."""
    # Of both offsets that the place may have, the one that gives this wall clock; the earlier moment where both do.
    moments = sorted(
        int((naive - offset).replace(tzinfo=UTC).timestamp())
        for offset in {naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
        if offset is not None
    )
    for moment in moments:
        if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == naive:
            return moment
    return moments[-1]
