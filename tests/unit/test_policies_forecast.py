"""When a budget will be used up: worked by hand for each kind of window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.budget import Budget, BudgetState
from policies.forecast import exhausted_at, recent_span
from policies.periods import period_at

DAY = timedelta(days=1)
MIDDLE = datetime(2026, 11, 16, tzinfo=UTC)  # 15 of 30 days of November are over


def state(limit: int, spent: int, reserved: int = 0, **terms: Any) -> BudgetState:
    budget = Budget(id="b", subject_kind="team", subject_id="support", limit=limit, **terms)
    return BudgetState(budget, "", spent, reserved)


def test_a_steady_budget_runs_out_where_the_line_meets_the_limit() -> None:
    # 10 a day so far and of late: the 50 that remain last 5 days.
    assert exhausted_at(state(200, 150), 70, MIDDLE) == MIDDLE + 5 * DAY


def test_what_is_held_counts_as_used() -> None:
    assert exhausted_at(state(200, 100, 50), 70, MIDDLE) == MIDDLE + 5 * DAY


def test_half_way_the_mean_and_the_recent_rate_weigh_alike() -> None:
    # The mean is 10 a day, of late it was 30: 20 a day, and the 100 that remain last 5 days.
    assert exhausted_at(state(250, 150), 210, MIDDLE) == MIDDLE + 5 * DAY


def test_early_in_the_window_the_recent_rate_rules() -> None:
    # On the first day 29 of 30 parts come from the recent rate, which looks back into October.
    now = datetime(2026, 11, 2, tzinfo=UTC)
    at = exhausted_at(state(1_000, 0), 700, now)
    assert at is not None
    assert timedelta(days=10) < at - now < timedelta(days=10.5)


def test_a_budget_that_will_last_has_no_date() -> None:
    assert exhausted_at(state(301, 150), 70, MIDDLE) is None
    assert exhausted_at(state(299, 150), 70, MIDDLE) is not None
    assert exhausted_at(state(300, 0), 0, MIDDLE) is None


def test_a_budget_that_is_used_up_is_exhausted_now() -> None:
    assert exhausted_at(state(100, 90, 10), 0, MIDDLE) == MIDDLE
    assert exhausted_at(state(0, 0), 0, MIDDLE) == MIDDLE


def test_a_lifetime_goes_by_the_recent_rate_alone() -> None:
    assert exhausted_at(state(200, 100, window="lifetime"), 28 * 10, MIDDLE) == MIDDLE + 10 * DAY
    assert exhausted_at(state(200, 100, window="lifetime"), 0, MIDDLE) is None
    assert exhausted_at(state(9 * 10**15, 0, window="lifetime"), 1, MIDDLE) is None


def test_what_leaves_a_rolling_window_makes_room() -> None:
    # 80 in 8 days leave at 10 a day; at 10 a day nothing changes, at 15 the 20 that remain last 4 days.
    assert exhausted_at(state(100, 80, window="rolling:8d"), 20, MIDDLE) is None
    assert exhausted_at(state(100, 80, window="rolling:8d"), 30, MIDDLE) == MIDDLE + 4 * DAY


@pytest.mark.parametrize("terms", [{"unit": "requests", "window": "minute"}, {"unit": "parallel", "window": "now"}])
def test_rate_limits_have_no_forecast(terms: dict[str, Any]) -> None:
    shown = state(10, 10, **terms)
    assert (recent_span(shown.budget), exhausted_at(shown, 10, MIDDLE)) == (None, None)


def test_the_first_moment_of_a_window_has_no_mean() -> None:
    assert exhausted_at(state(70, 0), 70, datetime(2026, 11, 1, tzinfo=UTC)) == datetime(2026, 11, 8, tzinfo=UTC)


WINDOWS = ["hour", "day", "week", "month", "quarter", "year", "lifetime", "rolling:90m", "rolling:30d"]
AMOUNTS = st.integers(min_value=0, max_value=9 * 10**15)


@given(st.sampled_from(WINDOWS), AMOUNTS, AMOUNTS, AMOUNTS, st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)))
def test_a_date_lies_between_now_and_the_windows_end(
    window: str, limit: int, spent: int, recent: int, naive: datetime
) -> None:
    now, shown = naive.replace(tzinfo=UTC), state(limit, spent, window=window)
    at = exhausted_at(shown, recent, now)
    parsed = shown.budget.parsed_window
    end = now + timedelta(seconds=parsed.rolling_s) if parsed.rolling_s else period_at(parsed, now, "UTC").end
    assert at is None or now <= at <= end
    assert at == now or spent < limit
