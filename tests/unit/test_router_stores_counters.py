"""A budget's counter is named by its window and outlives it; what it counts is what the ledger sums up."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest

from policies.budget import Budget
from router.stores import redis_keys
from router.stores.admission import BudgetCounter
from router.stores.counters import GRACE_SECONDS, NO_COUNTERS, counter_of, counters_of, used_of, window_of
from tests.support.spend import spend_record

NOW = datetime(2026, 11, 30, 20, tzinfo=UTC)


def budget(**changes: Any) -> Budget:
    return Budget(**{"id": "b1", "subject_kind": "team", "subject_id": "t", "limit": 5_000, **changes})


def counter(user: str | None = None, **changes: Any) -> BudgetCounter:
    wanted = budget(**changes)
    return counter_of(wanted, window_of(wanted, NOW), user)


def test_the_window_is_the_month_in_the_budgets_own_zone() -> None:
    assert window_of(budget(), NOW).label == "2026-11"
    assert window_of(budget(timezone="Asia/Shanghai"), NOW).label == "2026-12"


def test_the_counter_carries_limit_and_expiry() -> None:
    found = counter()
    assert (found.key, found.limit, found.unit) == ("{parsimony}:budget:b1:2026-11", 5_000, "usd")
    assert found.expires_at_s == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) + GRACE_SECONDS


def test_a_counter_for_life_expires_in_another_century() -> None:
    assert counter(window="lifetime").expires_at_s == int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("changes", "bucket_ms"),
    [
        ({"window": "rolling:1h"}, 60_000),
        ({"window": "minute", "unit": "tokens"}, 1_000),
        ({"window": "now", "unit": "parallel"}, 0),
    ],
)
def test_what_rolls_or_is_over_at_once_expires_by_itself(changes: dict[str, Any], bucket_ms: int) -> None:
    found = counter(**changes)
    assert (found.bucket_ms, found.expires_at_s) == (bucket_ms, 0)


@pytest.mark.parametrize(
    ("changes", "hard", "strict"),
    [
        ({"action": "reject"}, True, True),
        ({"action": "reject", "model": "gpt-4"}, True, False),
        ({"action": "reject", "tier": "complex"}, True, False),
        ({"action": "cache_only"}, True, False),
        ({"action": "downgrade"}, False, False),
        ({"action": "warn"}, False, False),
    ],
)
def test_what_a_counter_forbids(changes: dict[str, Any], hard: bool, strict: bool) -> None:
    found = counter(**changes)
    assert (found.hard, found.strict, counters_of([found]).strict) == (hard, strict, strict)


def test_a_counter_knows_where_its_ceiling_begins() -> None:
    found = counter(downgrade_from=Fraction(4, 5), downgrade_to="moderate")
    assert (found.downgrades_from, found.downgrade_rank) == (4_000, 1)
    assert counter().downgrades_from is None


def test_paced_budgets_and_rate_limits_are_watched() -> None:
    assert counter(paced=True).watched
    assert counter(window="minute", unit="requests").watched
    assert not counter().watched


def test_each_user_has_a_counter_of_their_own_that_does_not_name_them() -> None:
    keys = {counter(user, subject_kind="user", subject_id="t/*").key for user in ("ann", "bob", None)}
    assert len(keys) == 3
    assert not any("ann" in key for key in keys)


def test_arguments_are_as_the_scripts_take_them() -> None:
    found = counters_of(
        [
            counter(action="reject", downgrade_from=Fraction(1, 2), downgrade_to="moderate"),
            counter(unit="tokens", window="minute", tier="complex", action="warn"),
            counter(unit="parallel", window="now"),
        ]
    )
    expires = b"%d" % found.all[0].expires_at_s
    assert found.arguments == (
        (b"u", b"5000", b"hs", b"2500", b"1", expires, b"0"),
        (b"t", b"5000", b"w", b"-1", b"0", b"0", b"1000"),
        (b"p", b"5000", b"h", b"-1", b"0", b"0", b"0"),
    )
    assert found.keys == tuple(one.key.encode() for one in found.all)
    assert (found.strict, found.filtered) == (True, True)
    assert orjson.loads(found.described)[1] == [found.all[1].key, "tokens", 1_000, 0, None, "complex"]


def test_no_counters_are_nothing_at_all() -> None:
    assert (NO_COUNTERS.keys, NO_COUNTERS.described, NO_COUNTERS.strict, NO_COUNTERS.filtered) == (
        (), b"[]", False, False,
    )  # fmt: skip


RECORD = spend_record(deployment="gpt-4", deployment_tier="complex", cost_nusd=70, input_tokens=40, output_tokens=2)


@pytest.mark.parametrize(("unit", "used"), [("usd", 70), ("tokens", 42), ("requests", 1), ("parallel", 0)])
def test_each_unit_counts_its_own(unit: Any, used: int) -> None:
    assert used_of(BudgetCounter(redis_keys.budget_counter("b", "w"), unit, 1), RECORD) == used


@pytest.mark.parametrize("reason", ["cache", "refused"])
@pytest.mark.parametrize("unit", ["tokens", "requests"])
def test_what_no_model_answered_takes_no_tokens_and_is_no_request(reason: str, unit: Any) -> None:
    unanswered = spend_record(reason=reason, cost_nusd=0, input_tokens=40, output_tokens=2)
    assert used_of(BudgetCounter("k", unit, 1), unanswered) == 0


@pytest.mark.parametrize(
    ("only", "used"),
    [
        ({"model": "gpt-4"}, 70),
        ({"model": "small"}, 0),
        ({"tier": "complex"}, 70),
        ({"tier": "simple"}, 0),
        ({"model": "gpt-4", "tier": "simple"}, 0),
    ],
)
def test_a_filtered_counter_counts_what_it_names(only: dict[str, Any], used: int) -> None:
    assert used_of(BudgetCounter("k", "usd", 1, **only), RECORD) == used
