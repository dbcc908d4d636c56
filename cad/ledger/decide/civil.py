"""Months as people count them: on the wall clock of a place, over changes of its offset. Pure."""

import calendar
from datetime import datetime
from zoneinfo import ZoneInfo


def add_months(at: int, months: int, zone: ZoneInfo) -> int:
    """Return the moment (Unix seconds) that many months later, at the same time of day of the same day there.

    A day that the month does not have becomes its last day. A time of day that is skipped is moved on by what is
    skipped; of one that comes twice it is the first.
    """
    local = datetime.fromtimestamp(at, zone)
    years, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, calendar.monthrange(years, month + 1)[1])
    return int(local.replace(year=years, month=month + 1, day=day, fold=0).timestamp())


def next_month(at: int, zone: ZoneInfo) -> int:
    """Return the first moment (Unix seconds) of the calendar month there that follows the one of `at`."""
    local = datetime.fromtimestamp(at, zone)
    years, month = divmod(local.year * 12 + local.month, 12)
    return int(datetime(years, month + 1, 1, tzinfo=zone).timestamp())


def spell_local(at: int, zone: ZoneInfo) -> str:
    """Return a moment as people there write it, in RFC 3339 with the offset of that day."""
    return datetime.fromtimestamp(at, zone).isoformat()
