"""The periods of reports: by name, by their ends, in time zones whose days are of any length."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.periods import HOUR_MS, WINDOWS, ReportPeriod, local_text, report_period

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]


def between(from_text: str | None, to_text: str | None, timezone: str = "UTC") -> tuple[int, int]:
    period = report_period(NOW, from_text=from_text, to_text=to_text, timezone=timezone)
    return period.from_ms, period.to_ms


def named(name: str, timezone: str = "UTC") -> tuple[int, int]:
    period = report_period(NOW, name=name, timezone=timezone)
    return period.from_ms, period.to_ms


@pytest.mark.parametrize(
    ("from_text", "to_text", "expected"),
    [
        (None, None, (ms(2026, 11, 1), ms(2026, 11, 21, 12, 30) + 1)),
        ("2026-10-01", "2026-11-01", (ms(2026, 10, 1), ms(2026, 11, 1))),
        ("2026-10-01T08:00+08:00", "2026-10-01T00:00:01", (ms(2026, 10, 1), ms(2026, 10, 1, 0, 0, 1))),
    ],
)
def test_spans(from_text: str | None, to_text: str | None, expected: tuple[int, int]) -> None:
    assert between(from_text, to_text) == expected


def test_dates_and_naive_instants_are_on_the_clock_of_the_zone() -> None:
    assert between("2026-10-01", "2026-10-02T06:30", "Asia/Kolkata") == (ms(2026, 9, 30, 18, 30), ms(2026, 10, 2, 1))
    assert between(None, None, "Asia/Kolkata")[0] == ms(2026, 10, 31, 18, 30)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2026", (ms(2026, 1, 1), ms(2027, 1, 1))),
        ("2026-Q4", (ms(2026, 10, 1), ms(2027, 1, 1))),
        ("2026-11", (ms(2026, 11, 1), ms(2026, 12, 1))),
        ("2026-W01", (ms(2025, 12, 29), ms(2026, 1, 5))),
        ("2024-02-29", (ms(2024, 2, 29), ms(2024, 3, 1))),
        ("today", (ms(2026, 11, 21), ms(2026, 11, 22))),
        ("yesterday", (ms(2026, 11, 20), ms(2026, 11, 21))),
        ("month", (ms(2026, 11, 1), ms(2026, 12, 1))),
        ("this-week", (ms(2026, 11, 16), ms(2026, 11, 23))),
        ("last-month", (ms(2026, 10, 1), ms(2026, 11, 1))),
        ("last-quarter", (ms(2026, 7, 1), ms(2026, 10, 1))),
        ("last-year", (ms(2025, 1, 1), ms(2026, 1, 1))),
    ],
)
def test_periods_by_name(name: str, expected: tuple[int, int]) -> None:
    assert named(name) == expected


@pytest.mark.parametrize(
    ("name", "timezone", "hours"),
    [
        ("2026-03-29", "Europe/Berlin", 23),
        ("2026-10-25", "Europe/Berlin", 25),
        ("2026-11-22", "Asia/Kolkata", 24),
        ("2026-04-05", "Australia/Lord_Howe", 24.5),
        ("2026-10", "Europe/Berlin", 31 * 24 + 1),
    ],
)
def test_days_are_as_long_as_clocks_make_them(name: str, timezone: str, hours: float) -> None:
    start, end = named(name, timezone)
    assert (end - start) / HOUR_MS == hours


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"from_text": "yesterday"}, "'from' is 'yesterday'"),
        ({"to_text": "2026-13-01"}, "'to' is"),
        ({"from_text": "2026-12-01"}, r"'from' is 2026-12-01T00:00\+00:00, and must be earlier than 'to', .* \(now"),
        ({"to_text": "2026-01-01"}, r"\(this month, as none is given\), and must be earlier"),
        ({"from_text": ""}, "'from' is ''; write a date"),
        ({"to_text": ""}, "'to' is ''; write a date"),
        ({"name": "2026", "to_text": ""}, "of its own"),
        ({"to_text": "9999-12-31T23:59:59-23:59"}, "allowed is 1970-01-01 to 9998-12-31"),
        ({"to_text": "9999-12-31T23:59:59"}, "'to' is .* allowed is"),
        ({"from_text": "0001-01-01T00:00+23:59"}, "'from' is .* allowed is"),
        ({"name": "2026-13"}, "'2026-13', which is in no calendar"),
        ({"name": "2026-W54"}, "in no calendar"),
        ({"name": "1969"}, "allowed is 1970-01-01"),
        ({"name": "9999"}, "allowed is 1970-01-01|in no calendar"),
        ({"name": "2011-12-30", "timezone": "Pacific/Apia"}, "which Pacific/Apia did not have"),
        ({"name": "soon"}, "'period' is 'soon'; write one such as 2026"),
        ({"name": "2026", "from_text": "2026-01-01"}, "of its own"),
        ({"timezone": "Mars/Olympus"}, "there is no time zone 'Mars/Olympus'"),
        ({"timezone": "../etc/passwd"}, "there is no time zone"),
    ],
)
def test_what_is_no_period_is_told_in_a_sentence(words: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report_period(NOW, **words)  # type: ignore[arg-type]


def test_a_period_is_cut_on_the_clock_of_its_zone() -> None:
    start, end = ms(2026, 10, 24, 12), ms(2026, 10, 26, 12)
    parts = list(ReportPeriod(start, end, "Europe/Berlin").cut(["day"]))
    assert [part.labels["day"] for part in parts] == ["2026-10-24", "2026-10-25", "2026-10-26"]
    assert parts[1].to_ms - parts[1].from_ms == 25 * HOUR_MS
    assert [part.from_ms for part in parts] == [start, *(part.to_ms for part in parts[:-1])]
    assert parts[-1].to_ms == end


def test_a_part_lies_in_one_week_and_in_one_month() -> None:
    parts = list(ReportPeriod(ms(2026, 10, 31), ms(2026, 11, 3)).cut(["week", "month"]))
    assert [(part.labels["week"], part.labels["month"]) for part in parts] == [
        ("2026-W44", "2026-10"),
        ("2026-W44", "2026-11"),
        ("2026-W45", "2026-11"),
    ]


@given(
    st.integers(0, 10**12),
    st.integers(1, 10**10),
    st.sets(st.sampled_from(WINDOWS), min_size=1),
    st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo"]),
)
def test_parts_follow_each_other_without_gaps(start: int, length: int, windows: set[str], timezone: str) -> None:
    parts = list(ReportPeriod(start, start + length, timezone).cut(windows))
    assert [part.from_ms for part in parts] == [start, *(part.to_ms for part in parts[:-1])]
    assert parts[-1].to_ms == start + length
    assert all(part.labels.keys() == windows for part in parts)
    assert len({tuple(part.labels.values()) for part in parts}) == len(parts)


def test_too_many_parts_are_refused_before_they_are_made() -> None:
    with pytest.raises(ValueError, match="by day over 10957 days has too many rows"):
        list(ReportPeriod(0, ms(2000, 1, 1)).cut(["day"]))


def test_an_hour_that_comes_twice_has_two_names() -> None:
    first = ms(2026, 10, 25, 0)
    assert [local_text(first + at * HOUR_MS, "Europe/Berlin") for at in range(2)] == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
    ]


@pytest.mark.parametrize(
    ("period", "label"),
    [
        (report_period(NOW, name="2026-10"), "2026-10"),
        (report_period(NOW, name="2026-W01", timezone="Asia/Kolkata"), "2026-W01"),
        (report_period(NOW, name="2026-10-25", timezone="Europe/Berlin"), "2026-10-25"),
        (report_period(NOW, from_text="2026-07-01", to_text="2026-10-01"), "2026-Q3"),
        (report_period(NOW, from_text="2026-10-01", to_text="2026-10-15"), "2026-10-01-to-2026-10-15"),
        (ReportPeriod(ms(2026, 10, 1), ms(2026, 11, 1), "Europe/Berlin"), "2026-10-01T00-00Z-to-2026-11-01T00-00Z"),
        (report_period(NOW), "2026-11-01-to-2026-11-21T12-30Z"),
    ],
)
def test_a_period_is_called_by_its_part_of_the_calendar_or_by_its_ends(period: ReportPeriod, label: str) -> None:
    """On no clock but that of its zone: October in UTC is none in Berlin."""
    assert period.label == label
