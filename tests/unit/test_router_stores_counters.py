"""A budget's counter is named by its window and outlives it."""

from __future__ import annotations

from datetime import UTC, datetime

from policies.budget import Budget
from router.stores.counters import GRACE_SECONDS, counter_of, window_of

NOW = datetime(2026, 11, 30, 20, tzinfo=UTC)


def test_the_window_is_the_month_in_the_budgets_own_zone() -> None:
    assert window_of(Budget("b", "team", "t", 1), NOW).label == "2026-11"
    assert window_of(Budget("b", "team", "t", 1, timezone="Asia/Shanghai"), NOW).label == "2026-12"


def test_the_counter_carries_limit_and_expiry() -> None:
    budget = Budget("b1", "team", "t", 5_000)
    counter = counter_of(budget, window_of(budget, NOW))
    assert counter.key == "{parsimony}:budget:b1:2026-11"
    assert counter.limit_nusd == 5_000
    assert counter.expires_at_s == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) + GRACE_SECONDS
