"""An instant -> the one calendar month that holds it, whatever the clocks of the zone do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.periods import calendar_month

ZONES = st.sampled_from(sorted(available_timezones()))
INSTANTS = st.datetimes(datetime(1970, 1, 3), datetime(2100, 1, 1), timezones=st.just(UTC))
AROUND_THE_FIRST = st.builds(
    lambda year, month, offset: datetime(year, month, 1, tzinfo=UTC) + timedelta(seconds=offset),
    st.integers(1971, 2099),
    st.integers(1, 12),
    st.integers(-26 * 3600, 26 * 3600),
)
TICK = timedelta(microseconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "zone", "label", "start", "end"),
    [
        ("2026-11-21T12:00Z", "UTC", "2026-11", "2026-11-01T00:00Z", "2026-12-01T00:00Z"),
        ("2026-12-31T23:59Z", "UTC", "2026-12", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("2024-02-29T12:00Z", "UTC", "2024-02", "2024-02-01T00:00Z", "2024-03-01T00:00Z"),
        # It is April already in Shanghai, and summer time began in between in Berlin.
        ("2026-03-31T16:00Z", "Asia/Shanghai", "2026-04", "2026-03-31T16:00Z", "2026-04-30T16:00Z"),
        ("2026-03-31T12:00Z", "Europe/Berlin", "2026-03", "2026-02-28T23:00Z", "2026-03-31T22:00Z"),
        # Clocks skip midnight of the first: the month begins with the skip.
        ("2017-10-01T04:00Z", "America/Asuncion", "2017-10", "2017-10-01T04:00Z", "2017-11-01T03:00Z"),
        # Midnight of the first comes twice: the first one counts.
        ("2015-11-01T05:30Z", "America/Havana", "2015-11", "2015-11-01T04:00Z", "2015-12-01T05:00Z"),
        # A minute into November clocks went back to 23:01 of October: November it stays.
        ("2009-11-01T03:00Z", "America/St_Johns", "2009-11", "2009-11-01T02:30Z", "2009-12-01T03:30Z"),
        # Samoa had no 30 December 2011.
        ("2011-12-30T12:00Z", "Pacific/Apia", "2011-12", "2011-12-01T10:00Z", "2011-12-31T10:00Z"),
    ],
)
def test_the_month_of_an_instant(now: str, zone: str, label: str, start: str, end: str) -> None:
    month = calendar_month(at(now), zone)
    assert (month.label, month.start, month.end) == (label, at(start), at(end))


@given(INSTANTS | AROUND_THE_FIRST, ZONES)
@example(at("2009-11-01T03:00Z"), "America/St_Johns")
@example(at("1995-01-01T10:00Z"), "Pacific/Kiritimati")
def test_every_instant_lies_in_exactly_one_month(now: datetime, zone: str) -> None:
    month = calendar_month(now, zone)
    assert month.start <= now < month.end
    assert calendar_month(month.start, zone) == month
    assert calendar_month(month.end - TICK, zone) == month


@given(INSTANTS | AROUND_THE_FIRST, ZONES)
def test_the_end_of_one_is_the_start_of_the_next(now: datetime, zone: str) -> None:
    month = calendar_month(now, zone)
    following = calendar_month(month.end, zone)
    assert following.start == month.end
    assert following.label > month.label
    assert timedelta(days=27) < month.end - month.start < timedelta(days=33)


@given(INSTANTS, INSTANTS, ZONES)
def test_a_label_names_one_month(one: datetime, other: datetime, zone: str) -> None:
    first, second = calendar_month(one, zone), calendar_month(other, zone)
    assert (first.label == second.label) == (first == second)


@given(INSTANTS, ZONES, ZONES)
def test_the_zone_that_the_time_is_written_in_does_not_matter(now: datetime, written: str, zone: str) -> None:
    assert calendar_month(now.astimezone(ZoneInfo(written)), zone) == calendar_month(now, zone)


def test_bounds_are_in_utc_so_that_comparing_them_compares_instants() -> None:
    month = calendar_month(at("2026-10-25T00:30Z"), "Europe/Berlin")
    assert (month.start.tzinfo, month.end.tzinfo) == (UTC, UTC)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        calendar_month(datetime(2026, 11, 21), "UTC")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../UTC", ""])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        calendar_month(at("2026-11-21T12:00Z"), zone)
