"""Amounts as people write them <-> integer nano-USD, exactly."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.money import MAX_NUSD, NUSD_PER_USD, format_usd, parse_amount, parse_usd, round_half_up

AMOUNTS = st.integers(0, MAX_NUSD)


@given(AMOUNTS)
def test_what_is_printed_parses_to_itself(nusd: int) -> None:
    assert parse_usd(format_usd(nusd)) == nusd


@given(AMOUNTS)
def test_every_way_of_writing_an_amount_means_the_same(nusd: int) -> None:
    exact = Decimal(nusd).scaleb(-9)
    whole, fraction = format_usd(nusd).split(".")
    for written in (exact, f"{exact:e}", f"${int(whole):,}.{fraction}", f" {int(whole):_}.{fraction} "):
        assert parse_usd(written) == nusd


@given(AMOUNTS, AMOUNTS)
def test_printed_amounts_add_up(one: int, other: int) -> None:
    assert Decimal(format_usd(one)) + Decimal(format_usd(other)) == Decimal(format_usd(one + other))


@given(st.integers(-MAX_NUSD, MAX_NUSD), st.integers(0, 9))
def test_rounding_is_to_the_nearest_and_halves_go_away_from_zero(nusd: int, decimals: int) -> None:
    unit = Fraction(NUSD_PER_USD, 10**decimals)
    rounded = Fraction(Decimal(format_usd(nusd, decimals))) * NUSD_PER_USD
    assert abs(rounded - nusd) <= unit / 2
    assert abs(rounded - nusd) < unit / 2 or abs(rounded) > abs(nusd)


@pytest.mark.parametrize(
    ("nusd", "decimals", "text"),
    [
        (0, None, "0.00"),
        (12 * NUSD_PER_USD, None, "12.00"),
        (1_500_000, None, "0.0015"),
        (1, None, "0.000000001"),
        (-1_500_000_000, None, "-1.50"),
        (499_013_220_000, 2, "499.01"),
        (5_000_000, 2, "0.01"),
        (4_999_999, 2, "0.00"),
        (-4_999_999, 2, "0.00"),
        (999_999_999, 0, "1"),
    ],
)
def test_format(nusd: int, decimals: int | None, text: str) -> None:
    assert format_usd(nusd, decimals) == text


def test_more_decimals_than_a_nano_dollar_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decimals=10 must lie in 0\.\.9"):
        format_usd(1, 10)


@pytest.mark.parametrize(
    ("written", "nusd"),
    [
        ("0.03", 30_000_000),
        ("$1,500", 1_500 * NUSD_PER_USD),
        (12, 12 * NUSD_PER_USD),
        ("2.5e-7", 250),
        (Decimal("1E-9"), 1),
        (".5", 500_000_000),
        ("9000000", MAX_NUSD),
        ("1.50000000000000000000", 1_500_000_000),
    ],
)
def test_parse(written: str | int | Decimal, nusd: int) -> None:
    assert parse_usd(written) == nusd


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (0.1, "write 0.1 as a string or an integer"),
        (True, "write True as a string or an integer"),
        ("", "'' is not an amount"),
        ("$", "'' is not an amount"),
        ("twelve", "'twelve' is not an amount"),
        ("-1", "'-1' is not an amount: it must be a decimal number, not negative"),
        (-1, "'-1' is not an amount"),
        ("nan", "'nan' is not an amount"),
        (Decimal("Infinity"), "'Infinity' is not an amount"),
        ("0,03", "'0,03' is not an amount"),
        ("1,50", "'1,50' is not an amount"),
        ("1/3", "'1/3' is not an amount"),
        ("1e999999999", "'1e999999999' is not an amount"),
        ("1" * 65, "is not an amount"),
        ("9000000.000000001", "exceeds the largest amount, 9000000.00 USD"),
        ("0.0000000001", "is finer than a nano-dollar"),
        # Finer than the 28 digits that decimal arithmetic keeps by default.
        ("1.00000000000000000000000000000001", "is finer than a nano-dollar"),
    ],
)
def test_what_is_no_amount_is_refused(written: str | int | Decimal, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.").replace("$", r"\$")):
        parse_usd(written)


@given(st.text(max_size=70))
def test_any_text_parses_or_is_refused_as_a_value(text: str) -> None:
    try:
        amount = parse_amount(text)
    except ValueError:
        return
    assert amount >= 0


@given(st.fractions(min_value=0, max_value=10**20))
def test_half_up(amount: Fraction) -> None:
    assert Fraction(-1, 2) <= amount - round_half_up(amount) < Fraction(1, 2)


def test_the_largest_amount_is_counted_exactly_by_a_double() -> None:
    """Redis scripts count in doubles."""
    assert MAX_NUSD < 2**53
    assert int(float(MAX_NUSD)) == MAX_NUSD
    assert int(float(MAX_NUSD - 1)) == MAX_NUSD - 1
