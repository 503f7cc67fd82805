"""The windows of budgets: calendar ones in a time zone, daylight saving time included, and rolling ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

CALENDAR_WINDOWS = ("hour", "day", "week", "month", "quarter", "year")
"""What has a beginning on the wall clock. Weeks begin on Monday (ISO 8601), hours with those of UTC."""
MAX_BUCKETS = 60
"""Into how many equal parts a rolling window is cut: what is used leaves it a part at a time."""

_ROLLING = re.compile(r"rolling:([1-9]\d{0,3})([mhd])")
_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_MAX_ROLLING_SECONDS = 400 * 86_400
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time [start, end), both in UTC; `label` is stable and unique within its kind."""

    label: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A kind of window. `rolling_s` is the length in seconds of one that moves with the clock, else 0.

    A rolling window holds what was used in its last MAX_BUCKETS whole parts of `bucket_ms`, and in the part under way:
    never less than its length, and at most a part more.
    """

    name: str
    rolling_s: int = 0

    @property
    def is_calendar(self) -> bool:
        return self.name in CALENDAR_WINDOWS

    @property
    def bucket_ms(self) -> int:
        return self.rolling_s * 1000 // MAX_BUCKETS


@lru_cache(maxsize=256)
def parse_window(text: str) -> Window:
    """`hour` to `year`, `lifetime`, `minute`, `now`, or rolling: `rolling:24h`, `rolling:7d`, `rolling:90m`.

    `minute` rolls, as rate limits do. Raises ValueError.
    """
    if text in CALENDAR_WINDOWS or text in ("lifetime", "now"):
        return Window(text)
    if text == "minute":
        return Window(text, 60)
    match = _ROLLING.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 60 <= seconds <= _MAX_ROLLING_SECONDS:
        raise ValueError(
            f"window is {text!r}; allowed are {', '.join(CALENDAR_WINDOWS)}, lifetime, minute, now (for parallel "
            "requests), and rolling:<number><m|h|d> up to rolling:400d"
        )
    return Window(text, seconds)


def period_at(window: Window, now: datetime, timezone: str) -> Period:
    """The period of `window` that holds `now`. A calendar one begins and ends on the wall clock of `timezone`.

    A rolling one ends with `now`. Raises ValueError for a naive `now`, and ZoneInfoNotFoundError (or ValueError, for
    what cannot be a zone's name) for an unknown zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now!r} has no time zone; a budget's window cannot be told from a naive time")
    if window.rolling_s:
        return Period("rolling", now - timedelta(seconds=window.rolling_s), now)
    if not window.is_calendar:
        return Period(window.name, _BEGINNING, _END)
    zone = ZoneInfo(timezone)
    if window.name == "hour":
        start = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return Period(f"{start:%Y-%m-%dT%HZ}", start, start + timedelta(hours=1))
    local = now.astimezone(zone)
    # A new datetime, for `replace` would keep the `fold` of an hour that comes twice: midnight counts the first time.
    first = _first_day(window.name, datetime(local.year, local.month, local.day))
    period = _days(window.name, first, zone)
    # Clocks that go back across midnight show the old day again; the new one has begun all the same.
    return period if now < period.end else _days(window.name, _following(window.name, first), zone)


def _days(name: str, first: datetime, zone: ZoneInfo) -> Period:
    return Period(_label(name, first), _midnight(first, zone), _midnight(_following(name, first), zone))


def _midnight(day: datetime, zone: ZoneInfo) -> datetime:
    """In UTC: datetimes that share a zone are compared by their wall clocks, which repeat an hour in autumn.

    Where a clock shows midnight twice the first counts; where it skips it, the moment of the skip.
    """
    return day.replace(tzinfo=zone).astimezone(UTC)


def _first_day(name: str, day: datetime) -> datetime:
    if name == "day":
        return day
    if name == "week":
        return day - timedelta(days=day.weekday())
    if name == "month":
        return day.replace(day=1)
    if name == "quarter":
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    return day.replace(month=1, day=1)


def _following(name: str, first: datetime) -> datetime:
    if name in ("day", "week"):
        return first + timedelta(days=1 if name == "day" else 7)
    months = {"month": 1, "quarter": 3, "year": 12}[name]
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return first.replace(year=year, month=month + 1)


def _label(name: str, first: datetime) -> str:
    if name == "day":
        return f"{first:%Y-%m-%d}"
    if name == "week":
        year, week, _ = first.isocalendar()
        return f"{year:04d}-W{week:02d}"
    if name == "month":
        return f"{first:%Y-%m}"
    return f"{first:%Y}-Q{(first.month + 2) // 3}" if name == "quarter" else f"{first:%Y}"
