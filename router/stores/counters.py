"""Which counter a budget has at a time, and how the scripts are told. Nothing here talks to a store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from classifiers.base import TIERS
from policies.budget import Budget
from policies.periods import Period, period_at
from policies.spend import SpendRecord
from router.stores import redis_keys
from router.stores.admission import BudgetCounter, Counters
from router.stores.kept_json import kept_json

GRACE_SECONDS = 40 * 86_400
"""A counter outlives its window, for settlements that come late and for reports."""
_FOREVER_S = 4_102_444_800  # 2100-01-01
_UNIT_LETTERS = {"usd": b"u", "tokens": b"t", "requests": b"r", "parallel": b"p"}


def window_of(budget: Budget, now: datetime) -> Period:
    return period_at(budget.parsed_window, now, budget.timezone)


def counter_of(budget: Budget, period: Period, end_user: str | None = None) -> BudgetCounter:
    """`end_user`: whose counter it is, of a budget of every user."""
    window = budget.parsed_window
    calendar_end_s = int(period.end.timestamp()) + GRACE_SECONDS
    return BudgetCounter(
        key=redis_keys.budget_counter(budget.id, period.label, end_user),
        unit=budget.unit,
        limit=budget.limit,
        hard=budget.hard,
        strict=budget.action == "reject" and budget.model is None and budget.tier is None,
        downgrades_from=budget.downgrades_from,
        downgrade_rank=TIERS.index(budget.downgrade_to),
        model=budget.model,
        tier=budget.tier,
        bucket_ms=window.bucket_ms,
        expires_at_s=0 if window.rolling_s or window.name == "now" else min(calendar_end_s, _FOREVER_S),
        watched=budget.paced or budget.window == "minute",
        when_unavailable=budget.when_unavailable,
    )


def counters_of(all_: Sequence[BudgetCounter]) -> Counters:
    described = [[c.key, c.unit, c.bucket_ms, c.expires_at_s, c.model, c.tier] for c in all_]
    return Counters(
        all=tuple(all_),
        keys=tuple(counter.key.encode() for counter in all_),
        arguments=tuple(_arguments(counter) for counter in all_),
        described=kept_json(described),
        strict=any(counter.strict for counter in all_),
        filtered=any(counter.model is not None or counter.tier is not None for counter in all_),
        when_unavailable=frozenset([counter.when_unavailable for counter in all_] or [None]),
    )


def _arguments(counter: BudgetCounter) -> tuple[bytes, ...]:
    flags = [b"h" if counter.hard else b"", b"s" if counter.strict else b"", b"w" if counter.watched else b""]
    numbers = [
        -1 if counter.downgrades_from is None else counter.downgrades_from,
        counter.downgrade_rank,
        counter.expires_at_s,
        counter.bucket_ms,
    ]
    head = (_UNIT_LETTERS[counter.unit], b"%d" % counter.limit, b"".join(flags))
    return (*head, *[b"%d" % number for number in numbers])


def used_of(counter: BudgetCounter, record: SpendRecord) -> int:
    """What a settled request counts against `counter`: the same as `Ledger.usage` sums up."""
    if counter.model not in (None, record.deployment) or counter.tier not in (None, record.deployment_tier):
        return 0
    if counter.unit == "usd":
        return record.cost_nusd
    if counter.unit == "parallel" or record.reason in ("cache", "refused"):
        return 0
    return record.input_tokens + record.output_tokens if counter.unit == "tokens" else 1


NO_COUNTERS = counters_of(())
