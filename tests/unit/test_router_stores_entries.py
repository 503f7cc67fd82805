"""Entries as JSON: amounts in their unit, states in one word, and nothing that is a secret."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from policies.budget import Budget, BudgetState
from router.stores.base import KeyInfo, TeamInfo
from router.stores.entries import budget_as_json, budget_state_as_json, key_as_json, team_as_json

USD = 10**9
KEY = KeyInfo(
    id="key_1", team_id="support", name="k", role="application", prefix="sk-parsimony-AbCd", created_at_ms=1_000
)


def budget(**terms: Any) -> Budget:
    return Budget(**{"id": "b", "subject_kind": "team", "subject_id": "support", "limit": 100 * USD, **terms})


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "active"),
        ({"expires_at_ms": 6_000}, "active"),
        ({"expires_at_ms": 5_000}, "expired"),
        ({"revoked_at_ms": 2_000}, "revoked"),
        ({"revoked_at_ms": 2_000, "replaced_by": "key_2"}, "replaced"),
        ({"expires_at_ms": 6_000, "replaced_by": "key_2"}, "ending"),
    ],
)
def test_a_keys_state_is_one_word(changes: dict[str, Any], state: str) -> None:
    assert key_as_json(replace(KEY, **changes), 5_000)["state"] == state


def test_money_is_shown_twice_and_counts_once() -> None:
    money = budget_state_as_json(BudgetState(budget(), "2026-11", 40 * USD, 20 * USD))
    assert (money["limit_usd"], money["spent_nusd"], money["available_usd"]) == ("100.00", 40 * USD, "40.00")
    assert "limit" not in money
    tokens = budget_state_as_json(BudgetState(budget(unit="tokens", limit=9), "2026-11", 3, 3))
    assert (tokens["limit"], tokens["spent"], tokens["reserved"], tokens["available"]) == (9, 3, 3, 3)
    assert [name for name in tokens if name.endswith("usd")] == []


@pytest.mark.parametrize(("limit", "spent", "share"), [(3, 2, 0.6667), (10, 12, 1.2), (0, 0, 1.0), (5, 0, 0.0)])
def test_the_share_is_of_the_limit_and_a_budget_of_nothing_is_full(limit: int, spent: int, share: float) -> None:
    assert budget_state_as_json(BudgetState(budget(limit=limit), "", spent, 0))["share"] == share


def test_only_a_budget_of_every_user_names_one() -> None:
    of_users = budget(subject_kind="user", subject_id="support/*")
    assert budget_state_as_json(BudgetState(of_users, "", 0, 0, "ann"))["end_user"] == "ann"
    assert "end_user" not in budget_state_as_json(BudgetState(budget(), "", 0, 0))


def test_shares_are_percentages_and_everything_is_json() -> None:
    shown = budget_as_json(budget(downgrade_from=Fraction(2, 3), alert_shares=(Fraction(1, 2), Fraction(333, 1000))))
    assert shown["alert_at"] == ["50%", "33.3%"]
    assert json.loads(json.dumps(shown)) == shown


def test_a_teams_own_budget_is_that_of_its_dollars_a_month() -> None:
    team = TeamInfo("support", "Support", 0)
    others = [
        budget(window="day"), budget(unit="tokens"), budget(model="large"), budget(tier="complex"),
        budget(subject_id="sales"), budget(subject_kind="project"),
    ]  # fmt: skip
    assert team_as_json(team, others)["budget"] is None
    assert team_as_json(team, [*others, budget(limit=5)])["budget"]["limit_nusd"] == 5
