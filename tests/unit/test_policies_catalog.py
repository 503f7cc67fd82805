"""Prices have dates, and each day has one price."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import Price, PriceSchedule

DAYS = st.dates(date(2020, 1, 1), date(2030, 1, 1))


def price(day: date) -> Price:
    return Price(day, 1, 2)


@given(st.lists(DAYS, min_size=1, max_size=8, unique=True), DAYS)
def test_the_price_in_force_is_the_latest_begun(days: list[date], today: date) -> None:
    schedule = PriceSchedule("m", tuple(price(day) for day in sorted(days)))
    begun = [day for day in days if day <= today]
    assert schedule.at(today).effective_from == (max(begun) if begun else min(days))


def test_a_price_holds_from_its_own_day() -> None:
    first, second = price(date(2023, 6, 13)), price(date(2024, 1, 25))
    schedule = PriceSchedule("m", (first, second))
    assert schedule.at(second.effective_from - timedelta(days=1)) == first
    assert schedule.at(second.effective_from) == second


def test_a_schedule_without_prices_is_refused() -> None:
    with pytest.raises(ValueError, match="model 'm' has no price"):
        PriceSchedule("m", ())


@pytest.mark.parametrize("second", [date(2024, 1, 25), date(2023, 1, 1)])
def test_dates_must_ascend(second: date) -> None:
    with pytest.raises(ValueError, match="must have ascending effective_from dates"):
        PriceSchedule("m", (price(date(2024, 1, 25)), price(second)))


@pytest.mark.parametrize("amounts", [(-1, 0, None), (0, -1, None), (0, 0, -1)])
def test_negative_amounts_are_refused(amounts: tuple[int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="holds a negative amount"):
        Price(date(2024, 1, 1), *amounts)


def test_a_negative_price_of_writing_to_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a negative amount"):
        Price(date(2024, 1, 1), 1, 1, cache_write_nusd_per_mtok=-1)


@pytest.mark.parametrize("lengths", [(0,), (200, 200), (200, 100)])
def test_tiers_must_ascend_from_above_nothing(lengths: tuple[int, ...]) -> None:
    tiers = tuple(Price(date(2024, 1, 1), 1, 1, above_input_tokens=length) for length in lengths)
    with pytest.raises(ValueError, match="tiers of the price from 2024-01-01 on must ascend"):
        Price(date(2024, 1, 1), 1, 1, tiers=tiers)
