"""What span of time a report covers, by name or by its ends on the clock of a time zone, and how it is cut."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policies.periods import Period, Window, period_at
from policies.schedules import HOUR_MS as HOUR_MS
from router.reports.parameters import WrongParameter

HOUR = "hour"
WINDOWS = ("day", "week", "month", "quarter", "year")
"""The calendar's parts; hours are those of UTC, for an hour of a roll-up is in no two of them."""
MAX_PARTS = 2_000

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)

_LENGTH = {"day": 1, "week": 7, "month": 28, "quarter": 90, "year": 365}
_NAMES = "2026, 2026-Q4, 2026-11, 2026-W47, 2026-11-22, today, yesterday, month, this-month or last-month"
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("year", re.compile(r"(?P<year>\d{4})")),
    ("quarter", re.compile(r"(?P<year>\d{4})-Q(?P<quarter>[1-4])")),
    ("month", re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})")),
    ("week", re.compile(r"(?P<year>\d{4})-W(?P<week>\d{2})")),
    ("day", re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})")),
)
_RELATIVE = re.compile(rf"(?:(this|last)-)?({'|'.join(WINDOWS)})")
_TODAY = {"today": "this-day", "yesterday": "last-day"}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a report's period: [from_ms, to_ms), and the names of the days, months ... that it lies in."""

    from_ms: int
    to_ms: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReportPeriod:
    """[from_ms, to_ms) in Unix milliseconds. Its days begin on the clock of `timezone`."""

    from_ms: int
    to_ms: int
    timezone: str = "UTC"

    def cut(self, windows: Collection[str]) -> Iterator[Part]:
        """Into the largest parts that lie in one of each of `windows`. Raises WrongParameter for too many."""
        if not windows:
            yield Part(self.from_ms, self.to_ms, {})
            return
        finest = min(windows, key=WINDOWS.index)
        days = (self.to_ms - self.from_ms) // (24 * HOUR_MS)
        if days // _LENGTH[finest] > MAX_PARTS:
            raise WrongParameter(
                "by", f"a report by {finest} over {days} days has too many rows; allowed are {MAX_PARTS} parts"
            )
        start_ms = self.from_ms
        while start_ms < self.to_ms:
            inside = {name: period_at(Window(name), _instant(start_ms), self.timezone) for name in windows}
            end_ms = min(self.to_ms, *(unix_ms(period.end) for period in inside.values()))
            yield Part(start_ms, end_ms, {name: period.label for name, period in inside.items()})
            start_ms = end_ms

    @property
    def label(self) -> str:
        """For a file's name: that of the part of the calendar that it is, else its two ends.

        Ends at no midnight are told in UTC, for on the wall clock an hour may come twice.
        """
        for name in WINDOWS:
            part = period_at(Window(name), _instant(self.from_ms), self.timezone)
            if (unix_ms(part.start), unix_ms(part.end)) == (self.from_ms, self.to_ms):
                return part.label
        return f"{self._end_label(self.from_ms)}-to-{self._end_label(self.to_ms)}"

    def _end_label(self, end_ms: int) -> str:
        day = period_at(Window("day"), _instant(end_ms), self.timezone)
        return day.label if unix_ms(day.start) == end_ms else f"{_instant(end_ms):%Y-%m-%dT%H-%MZ}"

    def hour_label(self, hour_ms: int) -> str:
        """On the wall clock, with its offset: an hour that comes twice has two names."""
        return local_text(hour_ms, self.timezone)


def report_period(
    now: datetime,
    *,
    from_text: str | None = None,
    to_text: str | None = None,
    name: str | None = None,
    timezone: str = "UTC",
) -> ReportPeriod:
    """The period of that `name` ("2026-11", "last-month"), or between two dates or instants; else this month so far.

    Dates begin at midnight in `timezone`, and instants without an offset are on its clock. Both must lie between
    1970-01-01 and the end of 9998 in UTC. Raises WrongParameter with a sentence for whoever typed them.
    """
    zone = zone_of(timezone)
    if name is not None:
        if from_text is not None or to_text is not None:
            sentence = "a period has a beginning and an end of its own: give either it, or 'from' and 'to'"
            raise WrongParameter("period", sentence)
        period = _named(name, now, timezone)
        return ReportPeriod(unix_ms(period.start), unix_ms(period.end), timezone)
    month = period_at(Window("month"), now, timezone)
    from_ms = unix_ms(month.start) if from_text is None else _instant_ms("from", from_text, zone)
    to_ms = unix_ms(now) + 1 if to_text is None else _instant_ms("to", to_text, zone)
    if from_ms >= to_ms:
        begin = f"{local_text(from_ms, timezone)}{' (this month, as none is given)' if from_text is None else ''}"
        end = f"{local_text(to_ms, timezone)}{' (now, as none is given)' if to_text is None else ''}"
        raise WrongParameter(
            "to" if from_text is None else "from",
            f"the report ends before it begins: 'from' is {begin}, and must be earlier than 'to', {end}, which is not "
            "included",
        )
    return ReportPeriod(from_ms, to_ms, timezone)


def zone_of(timezone: str) -> ZoneInfo:
    """Raises WrongParameter with a sentence where there is no such zone."""
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        sentence = f"there is no time zone {timezone!r}; write one such as Europe/Berlin"
        raise WrongParameter("timezone", sentence) from None


def unix_ms(instant: datetime) -> int:
    return (instant - EARLIEST) // timedelta(milliseconds=1)


def local_text(instant_ms: int, timezone: str) -> str:
    """To the minute, with the offset of that moment."""
    return _instant(instant_ms).astimezone(ZoneInfo(timezone)).isoformat(timespec="minutes")


def _instant(instant_ms: int) -> datetime:
    return EARLIEST + timedelta(milliseconds=instant_ms)


def _named(name: str, now: datetime, timezone: str) -> Period:
    relative = _RELATIVE.fullmatch(_TODAY.get(name, name))
    if relative:
        period = period_at(Window(relative[2]), now, timezone)
        if relative[1] != "last":
            return period
        return period_at(Window(relative[2]), period.start - timedelta(milliseconds=1), timezone)
    for window, form in _FORMS:
        match = form.fullmatch(name)
        if match:
            return _on_calendar(name, window, match, timezone)
    raise WrongParameter("period", f"'period' is {name!r}; write one such as {_NAMES}")


def _on_calendar(name: str, window: str, match: re.Match[str], timezone: str) -> Period:
    try:
        noon = _a_day_of(window, {part: int(value) for part, value in match.groupdict().items()})
        period = period_at(Window(window), noon.replace(tzinfo=ZoneInfo(timezone)), timezone)
    except (ValueError, OverflowError):
        raise WrongParameter(
            "period", f"'period' is {name!r}, which is in no calendar; write one such as {_NAMES}"
        ) from None
    if period.label != name:  # a day that an island skipped when it crossed the date line
        raise WrongParameter("period", f"'period' is {name!r}, which {timezone} did not have")
    if not EARLIEST <= period.start < period.end <= LATEST:
        raise WrongParameter("period", f"'period' is {name!r}; allowed is 1970-01-01 to 9998-12-31, in UTC")
    return period


def _a_day_of(window: str, parts: dict[str, int]) -> datetime:
    if window == "week":
        return datetime.fromisocalendar(parts["year"], parts["week"], 4).replace(hour=12)
    month = 3 * parts["quarter"] if window == "quarter" else parts.get("month", 7)
    return datetime(parts["year"], month, parts.get("day", 15), 12)


def _instant_ms(which: str, text: str, zone: ZoneInfo) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WrongParameter(
            which, f"{which!r} is {text!r}; write a date such as 2026-11-01, or 2026-11-01T08:00+08:00"
        ) from None
    try:
        instant = (instant if instant.tzinfo else instant.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        instant = LATEST
    # Past these, an instant may have no date in UTC, or one that a report cannot print.
    if not EARLIEST <= instant < LATEST:
        raise WrongParameter(which, f"{which!r} is {text!r}; allowed is 1970-01-01 to 9998-12-31, in UTC")
    return unix_ms(instant)
