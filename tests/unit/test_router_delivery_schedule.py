"""What is due follows from the clock, the calendar of a place, and what was made before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from router.config_reports import ScheduledReport
from router.delivery.schedule import (
    MAX_ATTEMPTS,
    MAX_CATCH_UP,
    SETTLING,
    due_periods,
    end_ms,
    place,
    schedule_id,
    wait_s,
)

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)


def scheduled(**changes: object) -> ScheduledReport:
    return ScheduledReport.model_validate({"report": "savings", "to": "reports", "period": "day"} | changes)


def labels(report: ScheduledReport, known: dict[int, bool], now: datetime = NOW) -> list[str]:
    return [period.label for period in due_periods(report, known, now)]


def ms(*day: int) -> int:
    return int(datetime(*day, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("period", "label"),
    [("day", "2026-11-21"), ("week", "2026-W46"), ("month", "2026-10"), ("quarter", "2026-Q3"), ("year", "2025")],
)
def test_a_new_report_begins_with_the_newest_period_that_is_over(period: str, label: str) -> None:
    assert labels(scheduled(period=period), {}) == [label]


def test_a_period_is_over_when_its_last_answers_are() -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    assert labels(scheduled(), {}, midnight + SETTLING - timedelta(seconds=1)) == ["2026-11-21"]
    assert labels(scheduled(), {}, midnight + SETTLING) == ["2026-11-22"]


def test_what_was_missed_is_caught_up_oldest_first_and_what_is_finished_is_not_due() -> None:
    known = {ms(2026, 11, 19): True, ms(2026, 11, 20): False, ms(2026, 11, 21): True}
    assert labels(scheduled(), known) == ["2026-11-19", "2026-11-21"]
    assert labels(scheduled(), known | {ms(2026, 11, 20): True, ms(2026, 11, 22): True}) == []


def test_a_clock_that_is_set_back_asks_for_nothing_and_forgets_nothing() -> None:
    known = {ms(2026, 11, 21): True, ms(2026, 11, 22): False}
    assert labels(scheduled(), known, NOW - timedelta(days=5)) == []
    assert labels(scheduled(), known) == ["2026-11-21"]


def test_a_long_absence_is_not_caught_up_without_end() -> None:
    assert len(labels(scheduled(), {ms(2020, 1, 1): True})) == MAX_CATCH_UP


def test_days_are_those_of_the_place_where_they_have_23_hours() -> None:
    report = scheduled(timezone="Europe/Berlin")
    (day,) = due_periods(report, {}, datetime(2026, 3, 29, 22, 30, tzinfo=UTC))
    assert (day.label, day.end - day.start) == ("2026-03-29", timedelta(hours=23))
    assert end_ms(day) == ms(2026, 3, 29, 22)


def test_the_id_is_of_what_was_asked_for() -> None:
    same, other = scheduled(by=["team"]), scheduled(by=["model"])
    assert schedule_id(same) == schedule_id(scheduled(by=["team"]))
    assert schedule_id(same) != schedule_id(other)


def test_all_but_the_webhook_are_folders() -> None:
    report = scheduled(to="s3://bucket/finance/")
    assert (place(report), place(scheduled(to="webhook"))) == ("s3://bucket/finance/", "webhook")


def test_waits_double_to_six_hours_and_take_more_than_a_day() -> None:
    waits = [wait_s(attempt) for attempt in range(1, MAX_ATTEMPTS)]
    assert waits[:3] == [60, 120, 240]
    assert waits[-1] == 21_600
    assert timedelta(days=1) < timedelta(seconds=sum(waits)) < timedelta(days=2)
