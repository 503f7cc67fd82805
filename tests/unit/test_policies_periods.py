"""An instant -> the one period of a window that holds it, whatever the clocks of the zone do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.periods import CALENDAR_WINDOWS, MAX_BUCKETS, Period, Window, parse_window, period_at

# Their clocks skip or repeat midnight, move by half an hour, or have left out a day.
ODD_ZONES = (
    "Africa/Cairo",
    "America/Asuncion",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
)
ZONES = st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(available_timezones()))
WINDOWS = st.sampled_from(CALENDAR_WINDOWS)
INSTANTS = st.datetimes(datetime(1980, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC))
AROUND_MIDNIGHT = st.builds(
    lambda day, offset: datetime(1980, 1, 1, tzinfo=UTC) + timedelta(days=day, seconds=offset),
    st.integers(0, 51 * 365),
    st.integers(-26 * 3600, 26 * 3600),
)
MILLISECOND = timedelta(milliseconds=1)
LONGEST = {"hour": 1, "day": 49, "week": 8 * 24, "month": 32 * 24, "quarter": 93 * 24, "year": 367 * 24}
SHORTEST = {"hour": 1, "day": 22, "week": 6 * 24, "month": 27 * 24, "quarter": 89 * 24, "year": 364 * 24}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def period(name: str, now: datetime, zone: str = "UTC") -> Period:
    return period_at(parse_window(name), now, zone)


@pytest.mark.parametrize(
    ("window", "now", "zone", "label", "start", "end"),
    [
        ("hour", "2026-11-21T12:59:59Z", "UTC", "2026-11-21T12Z", "2026-11-21T12:00Z", "2026-11-21T13:00Z"),
        ("day", "2026-11-21T12:00Z", "UTC", "2026-11-21", "2026-11-21T00:00Z", "2026-11-22T00:00Z"),
        ("day", "2026-11-21T16:00Z", "Asia/Shanghai", "2026-11-22", "2026-11-21T16:00Z", "2026-11-22T16:00Z"),
        ("week", "2026-11-22T23:59Z", "UTC", "2026-W47", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        # The first days of 2027 are in the last week of 2026.
        ("week", "2027-01-03T12:00Z", "UTC", "2026-W53", "2026-12-28T00:00Z", "2027-01-04T00:00Z"),
        ("week", "2024-12-30T12:00Z", "UTC", "2025-W01", "2024-12-30T00:00Z", "2025-01-06T00:00Z"),
        ("month", "2026-11-21T12:00Z", "UTC", "2026-11", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
        ("month", "2026-12-31T23:59Z", "UTC", "2026-12", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("month", "2024-02-29T12:00Z", "UTC", "2024-02", "2024-02-01T00:00Z", "2024-03-01T00:00Z"),
        # It is April already in Shanghai, and summer time began in between in Berlin.
        ("month", "2026-03-31T16:00Z", "Asia/Shanghai", "2026-04", "2026-03-31T16:00Z", "2026-04-30T16:00Z"),
        ("month", "2026-03-31T12:00Z", "Europe/Berlin", "2026-03", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        # Clocks skip midnight of the first: the month begins with the skip.
        ("month", "2017-10-01T04:00Z", "America/Asuncion", "2017-10", "2017-10-01T04:00Z", "2017-11-01T03:00Z"),
        # Midnight of the first comes twice: the first one counts.
        ("month", "2015-11-01T05:30Z", "America/Havana", "2015-11", "2015-11-01T04:00Z", "2015-12-01T05:00Z"),
        # A minute into November clocks went back to 23:01 of October: November it stays.
        ("month", "2009-11-01T03:00Z", "America/St_Johns", "2009-11", "2009-11-01T02:30Z", "2009-12-01T03:30Z"),
        # Samoa had no 30 December 2011.
        ("month", "2011-12-30T12:00Z", "Pacific/Apia", "2011-12", "2011-12-01T10:00Z", "2011-12-31T10:00Z"),
        ("day", "2011-12-30T09:59Z", "Pacific/Apia", "2011-12-29", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("day", "2011-12-30T10:00Z", "Pacific/Apia", "2011-12-31", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        ("quarter", "2026-11-21T12:00Z", "UTC", "2026-Q4", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
        ("quarter", "2026-06-30T12:00Z", "Europe/Berlin", "2026-Q2", "2026-03-31T22:00Z", "2026-06-30T22:00Z"),
        ("year", "2026-12-31T23:00Z", "Europe/Berlin", "2027", "2026-12-31T23:00Z", "2027-12-31T23:00Z"),
    ],
)
def test_the_period_of_an_instant(window: str, now: str, zone: str, label: str, start: str, end: str) -> None:
    assert period(window, at(now), zone) == Period(label, at(start), at(end))


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T10:00Z", 23),
        ("Europe/Berlin", "2026-10-25T11:00Z", 25),
        ("Europe/Berlin", "2026-10-26T11:00Z", 24),
        ("America/Havana", "2026-03-08T16:00Z", 23),  # skips midnight to one
        ("America/Havana", "2026-11-01T17:00Z", 25),  # from one back to midnight
        ("Asia/Beirut", "2026-03-29T09:00Z", 23),
        ("Asia/Beirut", "2026-10-24T09:00Z", 25),  # from the end of the day back to eleven
        ("Africa/Cairo", "2026-04-24T09:00Z", 23),
        ("Africa/Cairo", "2026-10-29T10:00Z", 25),
        ("America/Sao_Paulo", "2018-11-04T14:00Z", 23),
        ("America/Sao_Paulo", "2018-02-17T14:00Z", 25),
        ("Australia/Lord_Howe", "2026-10-04T01:00Z", 23.5),
        ("Australia/Lord_Howe", "2026-04-05T01:30Z", 24.5),
    ],
)
def test_how_long_days_are_on_which_clocks_change(zone: str, noon: str, hours: float) -> None:
    day = period("day", at(noon), zone)
    assert (day.end - day.start) / timedelta(hours=1) == hours


@given(WINDOWS, INSTANTS | AROUND_MIDNIGHT, ZONES)
@example("month", at("2009-11-01T03:00Z"), "America/St_Johns")
@example("day", at("2009-11-01T03:00Z"), "America/St_Johns")
@example("week", at("1995-01-01T10:00Z"), "Pacific/Kiritimati")
@example("day", at("2018-02-18T02:30Z"), "America/Sao_Paulo")
@example("day", at("2018-05-04T15:00Z"), "Asia/Pyongyang")
def test_every_instant_lies_in_exactly_one_period(name: str, now: datetime, zone: str) -> None:
    found = period(name, now, zone)
    assert found.start <= now < found.end
    assert period(name, found.start, zone) == found
    assert period(name, found.end - MILLISECOND, zone) == found


@given(WINDOWS, INSTANTS | AROUND_MIDNIGHT, ZONES)
@example("day", at("2011-12-30T09:59Z"), "Pacific/Apia")
@example("week", at("2011-12-30T09:59Z"), "Pacific/Apia")
def test_the_end_of_one_is_the_start_of_the_next(name: str, now: datetime, zone: str) -> None:
    found = period(name, now, zone)
    following = period(name, found.end, zone)
    assert following.start == found.end
    assert following.label > found.label
    assert SHORTEST[name] <= (found.end - found.start) / timedelta(hours=1) <= LONGEST[name]


@given(WINDOWS, INSTANTS, INSTANTS | st.timedeltas(timedelta(hours=-50), timedelta(hours=50)), ZONES)
def test_a_label_names_one_period_and_sorts_by_time(
    name: str, one: datetime, other: datetime | timedelta, zone: str
) -> None:
    first = period(name, one, zone)
    second = period(name, one + other if isinstance(other, timedelta) else other, zone)
    assert (first.label == second.label) == (first == second)
    assert (first.label < second.label) == (first.start < second.start)


@given(WINDOWS, INSTANTS, ZONES, ZONES)
def test_the_zone_that_the_time_is_written_in_does_not_matter(
    name: str, now: datetime, written: str, zone: str
) -> None:
    assert period(name, now.astimezone(ZoneInfo(written)), zone) == period(name, now, zone)


@given(INSTANTS, ZONES)
def test_hours_are_those_of_utc_in_every_zone(now: datetime, zone: str) -> None:
    assert period("hour", now, zone) == period("hour", now, "UTC")


@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "quarter", "year"])
def test_bounds_are_in_utc_so_that_comparing_them_compares_instants(window: str) -> None:
    found = period(window, at("2026-10-25T00:30Z"), "Europe/Berlin")
    assert (found.start.tzinfo, found.end.tzinfo) == (UTC, UTC)


@pytest.mark.parametrize("window", ["month", "lifetime", "now", "rolling:24h"])
def test_a_naive_time_is_refused(window: str) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        period(window, datetime(2026, 11, 21))


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../UTC", ""])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        period("month", at("2026-11-21T12:00Z"), zone)


# windows without a calendar


@pytest.mark.parametrize("window", ["lifetime", "now"])
def test_what_never_ends_holds_every_instant(window: str) -> None:
    for now in (at("1970-01-01T00:00Z"), at("2026-11-21T12:00Z"), at("2200-01-01T00:00Z")):
        found = period(window, now)
        assert found.label == window
        assert found.start <= now < found.end


def test_a_rolling_window_ends_now() -> None:
    now = at("2026-03-29T12:00Z")
    assert period("rolling:24h", now, "Europe/Berlin") == Period("rolling", now - timedelta(hours=24), now)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("minute", 60),
        ("rolling:1m", 60),
        ("rolling:90m", 5_400),
        ("rolling:24h", 86_400),
        ("rolling:7d", 7 * 86_400),
        ("rolling:400d", 400 * 86_400),
        ("rolling:9600h", 400 * 86_400),
    ],
)
def test_rolling_windows_are_cut_into_equal_parts(text: str, seconds: int) -> None:
    window = parse_window(text)
    assert (window.name, window.rolling_s, window.is_calendar) == (text, seconds, False)
    assert MAX_BUCKETS * window.bucket_ms == seconds * 1_000


@pytest.mark.parametrize("text", [*CALENDAR_WINDOWS, "lifetime", "now"])
def test_other_windows_have_no_parts(text: str) -> None:
    window = parse_window(text)
    assert window == Window(text)
    assert window.bucket_ms == 0
    assert window.is_calendar == (text in CALENDAR_WINDOWS)


@pytest.mark.parametrize(
    "text",
    ["", "Month", "decade", "rolling", "rolling:", "rolling:0m", "rolling:01m", "rolling:30s", "rolling:1.5h",
     "rolling:-1h", "rolling:401d", "rolling:9601h", "rolling:99999m", "rolling:1h ", "rolling:１h", "minute:2"],
)  # fmt: skip
def test_windows_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"window is .*allowed are hour, day, .*rolling:400d"):
        parse_window(text)
