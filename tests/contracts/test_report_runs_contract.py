"""Of all who could make a report of a period, one does: on every database, at once, and after one has died."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from router.stores.sql_report_runs import SqlReportRuns

MONTH_MS = 1_793_491_200_000


@pytest.fixture
def runs(engine: Engine) -> SqlReportRuns:
    return SqlReportRuns(engine)


def test_the_first_has_it_until_its_lease_is_over(runs: SqlReportRuns) -> None:
    assert runs.known("s", 1_000) == {}
    assert runs.claim("s", MONTH_MS, 1_000, 2_000) == 1
    assert runs.claim("s", MONTH_MS, 1_999, 9_000) is None
    assert runs.known("s", 1_000) == {MONTH_MS: False}
    assert runs.claim("s", MONTH_MS, 2_000, 3_000) == 2


def test_another_report_or_period_is_another_claim(runs: SqlReportRuns) -> None:
    claims = [runs.claim(schedule, end_ms, 0, 1) for schedule in ("a", "b") for end_ms in (MONTH_MS, MONTH_MS + 1)]
    assert claims == [1, 1, 1, 1]
    assert runs.known("a", 1_000) == {MONTH_MS: False, MONTH_MS + 1: False}


def test_what_is_finished_is_never_begun_again(runs: SqlReportRuns) -> None:
    attempt = runs.claim("s", MONTH_MS, 0, 1)
    assert attempt is not None
    runs.finish("s", MONTH_MS, attempt, 1, "there")
    assert runs.claim("s", MONTH_MS, 10**15, 10**15) is None
    assert runs.known("s", 1_000) == {MONTH_MS: True}


def test_what_failed_waits(runs: SqlReportRuns) -> None:
    assert runs.claim("s", MONTH_MS, 0, 100) == 1
    runs.postpone("s", MONTH_MS, 1, 5_000, "no disk")
    assert runs.claim("s", MONTH_MS, 4_999, 6_000) is None
    assert runs.claim("s", MONTH_MS, 5_000, 6_000) == 2


def test_what_a_clock_that_ran_ahead_finished_or_claimed_is_begun_again(runs: SqlReportRuns) -> None:
    due_ms, later_ms = MONTH_MS + 1_200_000, MONTH_MS + 2 * 86_400_000
    for end_ms in (MONTH_MS, MONTH_MS + 1):
        assert runs.claim("s", end_ms, later_ms, later_ms + 1) == 1
    runs.finish("s", MONTH_MS, 1, later_ms, "empty")
    assert runs.known("s", later_ms) == {MONTH_MS: True, MONTH_MS + 1: False}
    assert runs.known("s", due_ms) == {MONTH_MS: False, MONTH_MS + 1: False}
    assert [runs.claim("s", end_ms, due_ms, due_ms + 1) for end_ms in (MONTH_MS, MONTH_MS + 1)] == [2, 2]
    runs.finish("s", MONTH_MS, 2, due_ms + 60_000, "there")
    assert runs.known("s", due_ms) == {MONTH_MS: True, MONTH_MS + 1: False}, "clocks differ by a little"


def test_a_clock_that_begins_at_nothing_does_not_have_everything_made_again(runs: SqlReportRuns) -> None:
    assert runs.claim("s", MONTH_MS, MONTH_MS, MONTH_MS + 1) == 1
    runs.finish("s", MONTH_MS, 1, MONTH_MS, "there")
    assert runs.known("s", 0) == {MONTH_MS: True}
    assert runs.known("s", MONTH_MS) == {MONTH_MS: True}


def test_who_was_overtaken_changes_nothing(runs: SqlReportRuns) -> None:
    assert runs.claim("s", MONTH_MS, 0, 100) == 1
    assert runs.claim("s", MONTH_MS, 100, 200) == 2
    runs.postpone("s", MONTH_MS, 1, 10**15, "late")
    runs.finish("s", MONTH_MS, 1, 150, "late")
    assert runs.known("s", 1_000) == {MONTH_MS: False}
    assert runs.claim("s", MONTH_MS, 200, 300) == 3


def test_of_many_who_ask_at_once_one_has_it(runs: SqlReportRuns) -> None:
    with ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda number: runs.claim("s", MONTH_MS + number % 3, 0, 1_000), range(30)))
    assert [claim for claim in claims if claim is not None] == [1, 1, 1]
