"""Budgets in reports: windows gone by, forecasts from the ledger, and tables of several units."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from policies.budget import Budget, BudgetState
from policies.spend import SpendRecord
from router.reports.budgets import budget_table, history, standing_as_json, standing_table, standings

NOW = datetime(2026, 11, 16, 12, tzinfo=UTC)
USD = 10**9


class UseLedger:
    """A ledger of so much an instant, for every budget alike; it tells what it was asked."""

    def __init__(self, *used: tuple[datetime, str, int]) -> None:
        self.used = used
        self.asked: list[tuple[int, int]] = []

    def usage(
        self, budget: Budget, from_ms: int, to_ms: int, bucket_ms: int | None = None
    ) -> dict[tuple[str, int], int]:
        self.asked.append((from_ms, to_ms))
        found: dict[tuple[str, int], int] = {}
        for at, user, amount in self.used:
            if from_ms <= at.timestamp() * 1000 < to_ms:
                key = (user if budget.is_of_every_user else "", 0)
                found[key] = found.get(key, 0) + amount
        return found

    def append(self, records: Sequence[SpendRecord]) -> int:
        raise AssertionError("reports book nothing")

    def get(self, request_id: str) -> SpendRecord | None:
        raise AssertionError("budgets need no single record")

    def records(self, from_ms: int, to_ms: int, at_once: int = 5_000) -> Iterator[list[SpendRecord]]:
        raise AssertionError("budgets need sums alone")


def budget(**terms: Any) -> Budget:
    return Budget(**{"id": "b", "subject_kind": "team", "subject_id": "support", "limit": 100 * USD, **terms})


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def printed(table: Table, width: int = 160) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def test_calendar_windows_go_back_one_after_the_other_across_a_change_of_the_clock() -> None:
    ledger = UseLedger((ago(days=1), "", 1), (ago(days=20), "", 2), (ago(days=40), "", 4), (ago(days=50), "", 8))
    found = history(ledger, budget(timezone="Europe/Berlin"), NOW, 3)
    assert [(use.period.label, use.used) for use in found] == [("2026-11", 1), ("2026-10", 6), ("2026-09", 8)]
    assert found[1].period.end - found[1].period.start == timedelta(days=31, hours=1)
    assert [use.period.end for use in found[1:]] == [use.period.start for use in found[:-1]]


@pytest.mark.parametrize(
    ("terms", "used"),
    [
        ({"window": "rolling:1d"}, [1, 2, 0, 0]),
        ({"window": "lifetime"}, [7]),
        ({"window": "now", "unit": "parallel"}, []),
    ],
)
def test_other_windows_have_the_history_that_they_can_have(terms: dict[str, Any], used: list[int]) -> None:
    ledger = UseLedger((ago(hours=1), "", 1), (ago(hours=25), "", 2), (ago(days=9), "", 4))
    assert [use.used for use in history(ledger, budget(**terms), NOW, 4)] == used


def test_the_history_of_every_user_adds_them_up_and_counts_them() -> None:
    ledger = UseLedger((ago(hours=1), "ann", 1), (ago(hours=1), "bob", 2), (ago(hours=2), "bob", 4))
    of_users = budget(subject_kind="user", subject_id="support/*")
    (use,) = history(ledger, of_users, NOW, 1)
    assert (use.used, use.users) == (7, 2)


def test_the_forecast_asks_the_ledger_how_fast_it_was_of_late() -> None:
    # 15.5 of 30 days are over: 31 spent make a mean of 2 a day, as was spent of late; 69 remain for 14.5 days.
    ledger = UseLedger((ago(days=3), "", 14 * USD), (ago(days=9), "", 17 * USD))
    lasting, short = standings(
        ledger,
        [
            BudgetState(budget(), "2026-11", 31 * USD, 0),
            BudgetState(budget(limit=51 * USD), "2026-11", 31 * USD, 0),
        ],
        NOW,
    )
    assert lasting.exhausted_at is None
    assert short.exhausted_at == NOW + timedelta(days=10)
    assert standing_as_json(short)["exhausted_at"] == "2026-11-26T12:00:00.000+00:00"
    assert standing_as_json(short)["window_ends_at"] == "2026-12-01T00:00:00.000+00:00"


def test_the_forecast_of_a_user_is_of_that_user() -> None:
    ledger = UseLedger((ago(days=1), "ann", 70 * USD), (ago(days=1), "bob", USD))
    of_users = budget(subject_kind="user", subject_id="support/*")
    ann, bob = standings(
        ledger,
        [BudgetState(of_users, "2026-11", 70 * USD, 0, "ann"), BudgetState(of_users, "2026-11", USD, 0, "bob")],
        NOW,
    )
    assert ann.exhausted_at is not None
    assert bob.exhausted_at is None


def test_idle_budgets_and_rate_limits_cost_no_query() -> None:
    ledger = UseLedger()
    rate = budget(unit="requests", window="minute", limit=60)
    standings(ledger, [BudgetState(budget(), "2026-11", 0, 0), BudgetState(rate, "rolling", 30, 0)], NOW)
    assert ledger.asked == []


STATES = [
    BudgetState(budget(), "2026-11", 40 * USD, 20 * USD),
    BudgetState(budget(unit="requests", window="minute", limit=60), "rolling", 60, 0),
    BudgetState(budget(subject_kind="user", subject_id="support/*", limit=5), "2026-11", 1, 0, "ann"),
]


def test_money_alone_needs_its_sign_once() -> None:
    heading, row = printed(budget_table(STATES[:1]))
    assert heading.split() == ["Budget", "window", "limit", "$", "spent", "$", "held", "$", "left", "$"]
    assert row.split()[:7] == ["team", "support", "2026-11", "100.00", "40.0000", "20.0000", "40.0000"]


def test_units_are_told_apart() -> None:
    heading, money, requests, user = printed(budget_table(STATES))
    assert "$" not in heading
    assert money.split()[3] == "$100.00"
    assert requests.split()[:8] == ["team", "support,", "requests", "minute", "60", "60", "0", "0"]
    assert user.startswith("user support/* (ann)")


def test_a_standing_says_when_the_window_ends_and_the_budget_does() -> None:
    ledger = UseLedger((ago(days=3), "", 60 * USD))
    lines = printed(standing_table(standings(ledger, STATES, NOW)))
    assert lines[1].split()[7:9] == ["60", "%"]
    assert lines[1].rstrip().split("  ")[-1].split()[-4:-2] == ["2026-12-01", "00:00"]
    assert lines[2].split()[-3:] == ["rolls", "on", "now"]
