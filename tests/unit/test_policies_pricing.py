"""Usage x price -> cost: exact, rounded up once, in the order that usage and prices have."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import Price
from policies.pricing import cost_nusd, most_input_cost_nusd
from policies.usage import NO_USAGE, TokenUsage

DAY = date(2024, 1, 1)
TOKENS = st.integers(0, 2_000_000)
RATES = st.integers(0, 200_000_000_000)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    input_tokens, output_tokens = draw(TOKENS), draw(TOKENS)
    return TokenUsage(
        input_tokens,
        output_tokens,
        cached_input_tokens=draw(st.integers(0, input_tokens)),
        reasoning_tokens=draw(st.integers(0, output_tokens)),
    )


@st.composite
def prices(draw: st.DrawFn) -> Price:
    rate = draw(RATES)
    cached = draw(st.none() | st.integers(0, rate))
    return Price(DAY, rate, draw(RATES), cached_input_nusd_per_mtok=cached)


def exact(usage: TokenUsage, price: Price) -> Fraction:
    cached_rate = price.cached_input_nusd_per_mtok
    cached_rate = price.input_nusd_per_mtok if cached_rate is None else cached_rate
    fresh = usage.input_tokens - usage.cached_input_tokens
    return (
        Fraction(fresh, 1_000_000) * price.input_nusd_per_mtok
        + Fraction(usage.cached_input_tokens, 1_000_000) * cached_rate
        + Fraction(usage.output_tokens, 1_000_000) * price.output_nusd_per_mtok
    )


@given(usages(), prices())
def test_the_exact_cost_is_rounded_up_once(usage: TokenUsage, price: Price) -> None:
    assert 0 <= cost_nusd(usage, price) - exact(usage, price) < 1


@given(usages(), prices(), TOKENS, TOKENS)
def test_more_tokens_never_cost_less(usage: TokenUsage, price: Price, more_input: int, more_output: int) -> None:
    more = TokenUsage(usage.input_tokens + more_input, usage.output_tokens + more_output, usage.cached_input_tokens)
    assert cost_nusd(more, price) >= cost_nusd(usage, price)


@given(usages(), prices(), RATES, RATES)
def test_a_dearer_price_never_costs_less(usage: TokenUsage, price: Price, more_input: int, more_output: int) -> None:
    dearer = Price(
        DAY,
        price.input_nusd_per_mtok + more_input,
        price.output_nusd_per_mtok + more_output,
        price.cached_input_nusd_per_mtok,
    )
    assert cost_nusd(usage, dearer) >= cost_nusd(usage, price)


@given(usages(), prices())
def test_a_cache_of_the_provider_never_makes_it_dearer(usage: TokenUsage, price: Price) -> None:
    assert cost_nusd(usage, price) <= cost_nusd(TokenUsage(usage.input_tokens, usage.output_tokens), price)


@given(usages(), prices(), st.none() | RATES)
def test_no_share_of_cached_input_costs_more_than_the_most(usage: TokenUsage, price: Price, cached: int | None) -> None:
    price = replace(price, cached_input_nusd_per_mtok=cached)  # which may be dearer, in a price list with a mistake
    most = most_input_cost_nusd(usage.input_tokens, price)
    assert cost_nusd(replace(usage, output_tokens=0, reasoning_tokens=0), price) <= most
    fresh, all_cached = TokenUsage(usage.input_tokens, 0), TokenUsage(usage.input_tokens, 0, usage.input_tokens)
    assert most in (cost_nusd(fresh, price), cost_nusd(all_cached, price))


@given(st.lists(usages(), min_size=1, max_size=20), prices())
def test_rounding_adds_less_than_a_nano_dollar_a_request(many: list[TokenUsage], price: Price) -> None:
    together = TokenUsage(
        sum(usage.input_tokens for usage in many),
        sum(usage.output_tokens for usage in many),
        sum(usage.cached_input_tokens for usage in many),
    )
    apart = sum(cost_nusd(usage, price) for usage in many)
    assert 0 <= apart - cost_nusd(together, price) < len(many)


def test_nothing_costs_nothing_and_one_token_something() -> None:
    price = Price(DAY, 1, 1)
    assert cost_nusd(NO_USAGE, price) == 0
    assert cost_nusd(TokenUsage(1, 0), price) == 1


@pytest.mark.parametrize(
    ("usage", "cached_rate", "nusd"),
    [
        (TokenUsage(1_000_000, 0, cached_input_tokens=400_000), None, 2_500_000_000),
        (TokenUsage(1_000_000, 0, cached_input_tokens=400_000), 1_250_000_000, 2_000_000_000),
        (TokenUsage(1_000_000, 0, cached_input_tokens=400_000), 0, 1_500_000_000),
        (TokenUsage(0, 1_000, reasoning_tokens=900), None, 10_000_000),
    ],
)
def test_cached_input_and_reasoning(usage: TokenUsage, cached_rate: int | None, nusd: int) -> None:
    price = Price(DAY, 2_500_000_000, 10_000_000_000, cached_input_nusd_per_mtok=cached_rate)
    assert cost_nusd(usage, price) == nusd
