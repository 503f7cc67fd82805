"""When machines run: on which days and from when to when, on the wall clock of a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_PER_DAY = 1_440
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Schedule:
    """Runs from `start_minute` to `end_minute` of each of `days` (0 is Monday), minutes since midnight.

    One that ends no later than it starts ends on the next day. A day on which clocks change is an hour shorter or
    longer, where the change falls into it. A time that the clock shows twice is the first of the two, one that it skips
    is told by the clock before the skip. Raises ValueError: what was found and what is allowed.
    """

    days: frozenset[int] = frozenset(range(7))
    start_minute: int = 0
    end_minute: int = MINUTES_PER_DAY
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if not self.days or not self.days <= set(range(7)):
            raise ValueError(f"days are {sorted(self.days)}; they must be some of 0 (Monday) to 6 (Sunday)")
        if not (0 <= self.start_minute < MINUTES_PER_DAY and 0 < self.end_minute <= MINUTES_PER_DAY):
            raise ValueError(
                f"found from minute {self.start_minute} to {self.end_minute}; a schedule starts at 0 to 1439 and ends "
                "at 1 to 1440"
            )
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"{self.timezone!r} is no time zone, such as UTC or Asia/Shanghai") from None

    def running_ms(self, from_ms: int, to_ms: int) -> int:
        """For how many milliseconds of [from_ms, to_ms), Unix milliseconds, it runs."""
        spans = self._spans(from_ms, to_ms)
        return sum(max(0, min(end_ms, to_ms) - max(start_ms, from_ms)) for start_ms, end_ms in spans)

    @property
    def ms_per_week(self) -> int:
        """In a week without a change of clocks."""
        length = self.end_minute - self.start_minute
        return (length if length > 0 else length + MINUTES_PER_DAY) * 60_000 * len(self.days)

    def _spans(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int]]:
        """Every running span that may touch [from_ms, to_ms): at most two days lie between a span and its day."""
        zone = ZoneInfo(self.timezone)
        day = _utc(from_ms).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=2)
        last = _utc(to_ms).replace(tzinfo=None) + timedelta(days=1)
        while day <= last:
            if day.weekday() in self.days:
                yield self._span(day, zone)
            day += timedelta(days=1)

    def _span(self, day: datetime, zone: ZoneInfo) -> tuple[int, int]:
        # Minutes are added to the naive day: an aware one would take them for the wall clock's, too, and hide it.
        crosses = self.end_minute <= self.start_minute
        start = day + timedelta(minutes=self.start_minute)
        end = day + timedelta(days=1 if crosses else 0, minutes=self.end_minute)
        return _unix_ms(start, zone), _unix_ms(end, zone)


def _utc(instant_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant_ms)


def _unix_ms(wall: datetime, zone: ZoneInfo) -> int:
    since = wall.replace(tzinfo=zone).astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)
