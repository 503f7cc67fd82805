"""What a budget has left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.budget import Budget, BudgetState
from policies.money import MAX_NUSD

AMOUNTS = st.integers(0, MAX_NUSD)


def state(limit: int, spent: int, reserved: int) -> BudgetState:
    return BudgetState(Budget("b", "team", "search", limit), "2026-11", spent, reserved)


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "available"),
    [(100, 0, 0, 100), (100, 30, 20, 50), (100, 60, 40, 0), (100, 120, 0, 0), (0, 0, 0, 0)],
)
def test_available(limit: int, spent: int, reserved: int, available: int) -> None:
    assert state(limit, spent, reserved).available_nusd == available


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_what_is_available_never_exceeds_the_limit_nor_falls_below_zero(limit: int, spent: int, reserved: int) -> None:
    available = state(limit, spent, reserved).available_nusd
    assert 0 <= available <= limit
    assert available == 0 or available + spent + reserved == limit
