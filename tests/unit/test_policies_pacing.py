"""What is used of a budget, and of its window -> how far the bar for large models goes up."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from classifiers.base import tier_of
from policies.money import MAX_NUSD
from policies.pacing import LEAD, highest_price, raised, shadow_price

DAY_MS = 86_400_000
MONTH_MS = 30 * DAY_MS
START_MS = 1_793_491_200_000  # 2026-11-01

AMOUNTS = st.integers(0, MAX_NUSD)
LIMITS = st.integers(1, MAX_NUSD)
TIMES_MS = st.integers(START_MS - DAY_MS, START_MS + MONTH_MS + DAY_MS)
SHARES = st.floats(0, 1)


def price(limit: int, spent: int, now_ms: int) -> float:
    return shadow_price(limit=limit, spent=spent, start_ms=START_MS, end_ms=START_MS + MONTH_MS, now_ms=now_ms)


def price_on_day(day: float, spent_share: float) -> float:
    return price(1_000_000, int(1_000_000 * spent_share), START_MS + int(day * DAY_MS))


@pytest.mark.parametrize(
    ("day", "spent_share", "expected"),
    [
        (0, 0.0, 0.0),
        (0, 1 / 30, 0.0),  # a busy first hour: a day's worth is the lead
        (0, 0.1, 1 - (0.9 / (1 - LEAD)) ** 2),
        (15, 0.5, 0.0),
        (15, 0.75, 1 - (0.5 / (1 - LEAD)) ** 2),
        (7, 0.9, 1 - (0.1 / (23 / 30 * (1 - LEAD))) ** 2),
        (29, 0.95, 0.0),  # five hundredths for the last thirtieth
        (30, 0.999, 0.0),  # what is not used now never will be
        (30, 1.0, 1.0),
        (7, 1.2, 1.0),
    ],
)
def test_the_price_follows_the_pace(day: float, spent_share: float, expected: float) -> None:
    assert price_on_day(day, spent_share) == pytest.approx(expected, abs=1e-5)


@given(LIMITS, AMOUNTS, TIMES_MS)
def test_a_price_lies_between_0_and_1_and_is_1_once_nothing_is_left(limit: int, spent: int, now_ms: int) -> None:
    found = price(limit, spent, now_ms)
    assert 0.0 <= found <= 1.0
    if spent >= limit:
        assert found == 1.0


@given(LIMITS, st.tuples(AMOUNTS, AMOUNTS), TIMES_MS)
def test_the_more_is_spent_the_higher_the_price(limit: int, spent: tuple[int, int], now_ms: int) -> None:
    less, more = sorted(spent)
    assert price(limit, less, now_ms) <= price(limit, more, now_ms)


@given(LIMITS, AMOUNTS, st.tuples(TIMES_MS, TIMES_MS))
def test_the_price_never_rises_with_time_alone(limit: int, spent: int, times_ms: tuple[int, int]) -> None:
    earlier_ms, later_ms = sorted(times_ms)
    assert price(limit, spent, earlier_ms) >= price(limit, spent, later_ms)


@given(LIMITS, SHARES, st.integers(START_MS, START_MS + MONTH_MS))
def test_whoever_keeps_to_the_pace_or_a_days_worth_ahead_at_the_start_pays_nothing(
    limit: int, share: float, now_ms: int
) -> None:
    elapsed = (now_ms - START_MS) / MONTH_MS
    allowed = int(limit * (elapsed + LEAD * (1 - elapsed)) * (1 - 1e-9))
    assert price(limit, int(allowed * share), now_ms) == 0.0


@given(LIMITS, SHARES, st.integers(START_MS, START_MS + MONTH_MS - 1))
def test_whoever_is_further_ahead_pays(limit: int, share: float, now_ms: int) -> None:
    elapsed = (now_ms - START_MS) / MONTH_MS
    beyond = elapsed + LEAD * (1 - elapsed)
    spent = int(limit * (beyond + share * (1 - beyond))) + 1
    assume(spent / limit > beyond * (1 + 1e-9))
    assert price(limit, spent, now_ms) > 0.0


@given(TIMES_MS)
def test_a_limit_of_nothing_pays_for_nothing(now_ms: int) -> None:
    assert price(0, 0, now_ms) == 1.0


def test_a_window_without_length_cannot_be_paced() -> None:
    with pytest.raises(ValueError, match="not 0 ms later"):
        shadow_price(limit=1, spent=0, start_ms=START_MS, end_ms=START_MS, now_ms=START_MS)


@given(SHARES)
def test_a_price_of_0_leaves_the_threshold_and_1_lets_no_score_pass(threshold: float) -> None:
    assert raised(threshold, 0.0) == threshold
    assert tier_of(1.0, raised(threshold, 1.0), raised(threshold, 1.0)) == "simple"


@given(SHARES, st.tuples(SHARES, SHARES))
def test_a_threshold_rises_with_the_price(threshold: float, prices: tuple[float, float]) -> None:
    low, high = sorted(prices)
    assert threshold <= raised(threshold, low) <= raised(threshold, high)


@given(st.tuples(SHARES, SHARES), SHARES)
def test_the_order_of_thresholds_remains(thresholds: tuple[float, float], at_price: float) -> None:
    moderate_from, complex_from = sorted(thresholds)
    assert (
        raised(moderate_from, at_price) <= raised(complex_from, at_price) + 1e-15
    )  # the last bit may round either way


def test_half_the_price_takes_half_of_the_room_above_the_threshold() -> None:
    assert raised(0.4, 0.5) == pytest.approx(0.7)


def test_the_tightest_budget_sets_the_price() -> None:
    assert highest_price([0.0, 0.4, 0.2]) == 0.4
    assert highest_price([]) == 0.0
