"""Which counter a budget has at a time. Names only: nothing here talks to a store."""

from __future__ import annotations

from datetime import datetime

from policies.budget import Budget
from policies.periods import Period, calendar_month
from router.stores import redis_keys
from router.stores.admission import BudgetCounter

GRACE_SECONDS = 40 * 86_400
"""A counter outlives its window, for settlements that come late and for reports."""


def window_of(budget: Budget, now: datetime) -> Period:
    return calendar_month(now, budget.timezone)


def counter_of(budget: Budget, period: Period) -> BudgetCounter:
    return BudgetCounter(
        key=redis_keys.budget_counter(budget.id, period.label),
        limit_nusd=budget.limit_nusd,
        expires_at_s=int(period.end.timestamp()) + GRACE_SECONDS,
    )
