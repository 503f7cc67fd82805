"""Budget windows: calendar months in a time zone, daylight saving time included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time [start, end), both in UTC; `label` is stable and unique within its kind."""

    label: str
    start: datetime
    end: datetime


def calendar_month(now: datetime, timezone: str) -> Period:
    """The month that holds `now`, from midnight to midnight on the wall clock of `timezone`.

    Where a clock shows that midnight twice the first counts; where it skips it, the moment of the
    skip. Every instant lies in exactly one month. Raises ValueError for a naive `now`, and
    ZoneInfoNotFoundError (or ValueError, for what cannot be a zone's name) for an unknown zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone; a budget's window cannot be told from a naive time")
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    period = _month(local.year, local.month, zone)
    # Clocks that go back across midnight of the first show the old month again; the new one has begun all the same.
    return period if now < period.end else _month(*_following(local.year, local.month), zone)


def _month(year: int, month: int, zone: ZoneInfo) -> Period:
    return Period(
        label=f"{year:04d}-{month:02d}",
        start=_midnight(year, month, zone),
        end=_midnight(*_following(year, month), zone),
    )


def _midnight(year: int, month: int, zone: ZoneInfo) -> datetime:
    """In UTC: datetimes that share a zone are compared by their wall clocks, which repeat an hour in autumn."""
    return datetime(year, month, 1, tzinfo=zone).astimezone(UTC)


def _following(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)
