"""Budget windows: calendar months in a time zone, daylight saving time included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time [start, end); `label` is stable and unique within its kind."""

    label: str
    start: datetime
    end: datetime


def calendar_month(now: datetime, timezone: str) -> Period:
    """The month that holds `now`, from midnight to midnight on the wall clock of `timezone`.

    `now` must be aware. Raises ZoneInfoNotFoundError for an unknown zone.
    """
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    start = datetime(local.year, local.month, 1, tzinfo=zone)
    if local.month == 12:
        end = datetime(local.year + 1, 1, 1, tzinfo=zone)
    else:
        end = datetime(local.year, local.month + 1, 1, tzinfo=zone)
    return Period(label=f"{local.year:04d}-{local.month:02d}", start=start, end=end)
