"""Currencies: which rate is in force when, and exact conversion."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.prices import ExchangeRate, PriceBook, UnknownCurrency
from router.reports.currency import USD, Currency, convert, currency_of, money_text
from router.reports.periods import ReportPeriod

DAY_MS = 86_400_000
BOOK = PriceBook(
    {},
    rates={
        "CNY": (
            ExchangeRate(date(1970, 1, 3), Fraction("7"), "IRS"),
            ExchangeRate(date(1970, 1, 5), Fraction("7.25"), "IRS"),
        )
    },
)


def test_a_period_is_cut_where_a_new_rate_begins() -> None:
    yuan = currency_of(BOOK, "CNY", ReportPeriod(3 * DAY_MS + 5, 9 * DAY_MS))
    assert list(yuan.parts(3 * DAY_MS + 5, 9 * DAY_MS)) == [
        (3 * DAY_MS + 5, 4 * DAY_MS, Fraction(7)),
        (4 * DAY_MS, 9 * DAY_MS, Fraction("7.25")),
    ]
    assert list(yuan.parts(5 * DAY_MS, 6 * DAY_MS)) == [(5 * DAY_MS, 6 * DAY_MS, Fraction("7.25"))]
    assert "7 from 1970-01-04; 7.25 from 1970-01-05 for one dollar" in yuan.in_words(3 * DAY_MS + 5, 9 * DAY_MS)


def test_dollars_are_not_converted() -> None:
    assert currency_of(BOOK, "USD", ReportPeriod(0, 1)) is USD
    assert (list(USD.parts(0, 5)), USD.in_words(0, 5)) == ([(0, 5, Fraction(1))], "")


@pytest.mark.parametrize("code", ["EUR", "cny", "CNY"])
def test_a_currency_without_a_rate_on_the_first_day_is_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency, match="known are USD, CNY"):
        currency_of(BOOK, code, ReportPeriod(DAY_MS, 9 * DAY_MS))


@given(st.integers(-(10**18), 10**18), st.fractions(min_value="0.0001", max_value=1000))
def test_conversion_is_exact_to_half_a_billionth(amount: int, rate: Fraction) -> None:
    assert abs(convert(amount, rate) - amount * rate) <= Fraction(1, 2)
    assert convert(-amount, rate) == -convert(amount, rate)


def test_a_minus_stands_before_the_sign() -> None:
    pairs = ((5, "USD"), (-5, "USD"), (-5, "CNY"))
    assert [money_text(cents * 10**7, code, 2) for cents, code in pairs] == ["$0.05", "-$0.05", "-0.05 CNY"]


@given(st.integers(0, 20 * DAY_MS), st.integers(1, 20 * DAY_MS))
def test_parts_cover_what_they_are_of(start: int, length: int) -> None:
    yuan = Currency("CNY", ((date(1970, 1, 1), Fraction(1, 7)), (date(1970, 1, 9), Fraction(1, 8))))
    parts = list(yuan.parts(start, start + length))
    assert [part[0] for part in parts] == [start, *(part[1] for part in parts[:-1])]
    assert parts[-1][1] == start + length
