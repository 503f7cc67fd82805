"""When machines run: on the wall clock, daylight saving time included."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schedules import DAY_MS, HOUR_MS, Schedule

OFFICE = Schedule(frozenset(range(5)), 8 * 60, 18 * 60, "Europe/Berlin")


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def hours(schedule: Schedule, start: str, end: str) -> float:
    return schedule.running_ms(ms(start), ms(end)) / HOUR_MS


def test_a_working_day_is_told_by_the_local_clock() -> None:
    # A Monday in winter, an hour ahead of UTC, and one in summer, two ahead.
    assert hours(OFFICE, "2026-01-05T07:00", "2026-01-05T17:00") == 10
    assert hours(OFFICE, "2026-01-05T00:00", "2026-01-05T07:00") == 0
    assert hours(OFFICE, "2026-07-06T06:00", "2026-07-06T16:00") == 10


def test_a_weekend_is_idle() -> None:
    assert hours(OFFICE, "2026-01-03T00:00", "2026-01-05T00:00") == 0
    assert hours(OFFICE, "2026-01-05T00:00", "2026-01-12T00:00") == 50


def test_part_of_an_hour_is_part_of_an_hour() -> None:
    half = Schedule(start_minute=8 * 60 + 30, end_minute=9 * 60)
    assert hours(half, "2026-01-05T08:00", "2026-01-05T09:00") == 0.5


@pytest.mark.parametrize(("day", "length"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_whole_day_is_as_long_as_the_clock_makes_it(day: str, length: int) -> None:
    weekday = datetime.fromisoformat(day).weekday()
    schedule = Schedule(frozenset({weekday}), timezone="Europe/Berlin")
    noon = ms(f"{day}T12:00")
    assert schedule.running_ms(noon - DAY_MS, noon + DAY_MS) == length * HOUR_MS


@pytest.mark.parametrize(("day", "length"), [("2026-03-29", 7), ("2026-10-25", 9), ("2026-06-01", 8)])
def test_a_night_belongs_to_the_day_that_it_begins_on(day: str, length: int) -> None:
    noon = ms(f"{day}T12:00")
    evening_before = (datetime.fromisoformat(day).weekday() - 1) % 7
    night = Schedule(frozenset({evening_before}), 22 * 60, 6 * 60, "Europe/Berlin")
    assert night.running_ms(noon - DAY_MS, noon) == length * HOUR_MS


def test_a_week_is_what_its_days_are() -> None:
    assert OFFICE.ms_per_week == 50 * HOUR_MS
    assert Schedule().ms_per_week == 168 * HOUR_MS
    assert Schedule(frozenset({0}), 22 * 60, 6 * 60).ms_per_week == 8 * HOUR_MS


@given(
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    st.integers(0, 4_000_000_000_000),
    st.lists(st.integers(0, 10 * DAY_MS), min_size=2, max_size=4),
)
def test_parts_add_up_to_the_whole(
    days: set[int], start: int, end: int, timezone: str, origin_ms: int, offsets: list[int]
) -> None:
    schedule = Schedule(frozenset(days), start, end, timezone)
    cuts = [origin_ms + offset for offset in sorted(offsets)]
    whole = schedule.running_ms(cuts[0], cuts[-1])
    assert sum(map(schedule.running_ms, cuts, cuts[1:])) == whole
    assert 0 <= whole <= cuts[-1] - cuts[0]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"days": frozenset[int]()}, "days are []"),
        ({"days": frozenset({7})}, "days are [7]"),
        ({"start_minute": 1440}, "from minute 1440"),
        ({"end_minute": 0}, "to 0"),
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
    ],
)
def test_what_is_no_schedule_is_named(values: dict[str, object], part: str) -> None:
    with pytest.raises(ValueError) as raised:
        Schedule(**values)  # type: ignore[arg-type]
    assert part in str(raised.value)
