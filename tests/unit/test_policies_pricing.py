"""Usage x price -> cost: exact, rounded up once, in the order that usage and prices have."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalog import Price
from policies.pricing import cost_nusd, cost_of_tokens_nusd, dearest, most_input_cost_nusd, rates_for
from policies.usage import NO_USAGE, TokenUsage

DAY = date(2024, 1, 1)
TOKENS = st.integers(0, 2_000_000)
RATES = st.integers(0, 200_000_000_000)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    input_tokens, output_tokens = draw(TOKENS), draw(TOKENS)
    cached = draw(st.integers(0, input_tokens))
    return TokenUsage(
        input_tokens,
        output_tokens,
        cached_input_tokens=cached,
        reasoning_tokens=draw(st.integers(0, output_tokens)),
        cache_write_input_tokens=draw(st.integers(0, input_tokens - cached)),
    )


@st.composite
def prices(draw: st.DrawFn) -> Price:
    rate = draw(RATES)
    cached = draw(st.none() | st.integers(0, rate))
    written = draw(st.none() | st.integers(rate, 2 * rate))
    return Price(DAY, rate, draw(RATES), cached_input_nusd_per_mtok=cached, cache_write_nusd_per_mtok=written)


@st.composite
def tiered_prices(draw: st.DrawFn) -> Price:
    """As a price list with mistakes might have them: a tier may be cheaper, cached input dearer."""

    def rates(above: int) -> Price:
        optional = st.none() | RATES
        return Price(DAY, draw(RATES), draw(RATES), draw(optional), "", draw(optional), above_input_tokens=above)

    lengths = sorted(draw(st.sets(st.integers(1, 2_000_000), max_size=3)))
    return replace(rates(0), tiers=tuple(rates(length) for length in lengths))


def exact(usage: TokenUsage, price: Price) -> Fraction:
    cached_rate = price.cached_input_nusd_per_mtok
    cached_rate = price.input_nusd_per_mtok if cached_rate is None else cached_rate
    written_rate = price.cache_write_nusd_per_mtok
    written_rate = price.input_nusd_per_mtok if written_rate is None else written_rate
    fresh = usage.input_tokens - usage.cached_input_tokens
    return (
        Fraction(fresh - usage.cache_write_input_tokens, 1_000_000) * price.input_nusd_per_mtok
        + Fraction(usage.cache_write_input_tokens, 1_000_000) * written_rate
        + Fraction(usage.cached_input_tokens, 1_000_000) * cached_rate
        + Fraction(usage.output_tokens, 1_000_000) * price.output_nusd_per_mtok
    )


@given(usages(), prices())
def test_the_exact_cost_is_rounded_up_once(usage: TokenUsage, price: Price) -> None:
    assert 0 <= cost_nusd(usage, price) - exact(usage, price) < 1


@given(usages(), prices(), TOKENS, TOKENS)
def test_more_tokens_never_cost_less(usage: TokenUsage, price: Price, more_input: int, more_output: int) -> None:
    more = replace(usage, input_tokens=usage.input_tokens + more_input, output_tokens=usage.output_tokens + more_output)
    assert cost_nusd(more, price) >= cost_nusd(usage, price)


@given(usages(), prices(), RATES, RATES)
def test_a_dearer_price_never_costs_less(usage: TokenUsage, price: Price, more_input: int, more_output: int) -> None:
    dearer = Price(
        DAY,
        price.input_nusd_per_mtok + more_input,
        price.output_nusd_per_mtok + more_output,
        price.cached_input_nusd_per_mtok,
        cache_write_nusd_per_mtok=price.cache_write_nusd_per_mtok and 2 * (price.input_nusd_per_mtok + more_input),
    )
    assert cost_nusd(usage, dearer) >= cost_nusd(usage, price)


@given(usages(), prices())
def test_a_cache_of_the_provider_never_makes_it_dearer(usage: TokenUsage, price: Price) -> None:
    read = replace(usage, cache_write_input_tokens=0)
    assert cost_nusd(read, price) <= cost_nusd(TokenUsage(usage.input_tokens, usage.output_tokens), price)
    assert cost_nusd(usage, price) >= cost_nusd(read, price)  # but filling it may


@given(usages(), tiered_prices())
def test_no_share_of_cached_input_costs_more_than_the_most(usage: TokenUsage, price: Price) -> None:
    asked = replace(usage, output_tokens=0, reasoning_tokens=0)
    assert cost_nusd(asked, price) <= most_input_cost_nusd(usage.input_tokens, price)


@given(st.integers(0, 2_000_000), prices())
def test_the_most_is_no_more_than_it_can_come_to(tokens: int, price: Price) -> None:
    ways = TokenUsage(tokens, 0), TokenUsage(tokens, 0, tokens), TokenUsage(tokens, 0, cache_write_input_tokens=tokens)
    assert most_input_cost_nusd(tokens, price) == max(cost_nusd(usage, price) for usage in ways)


@given(usages(), tiered_prices(), st.integers(0, 1_000_000))
def test_nothing_shorter_is_charged_more_than_the_dearest(usage: TokenUsage, price: Price, more: int) -> None:
    bound = dearest(price, usage.input_tokens + more)
    assert cost_nusd(replace(usage, cache_write_input_tokens=0, cached_input_tokens=0), price) <= cost_of_tokens_nusd(
        usage.input_tokens, usage.output_tokens, bound
    )
    assert cost_of_tokens_nusd(0, 1, rates_for(price, usage.input_tokens)) <= cost_of_tokens_nusd(0, 1, bound)


@given(usages(), tiered_prices())
def test_all_tokens_of_a_request_are_charged_at_the_tier_of_its_length(usage: TokenUsage, price: Price) -> None:
    reached = [tier for tier in (price, *price.tiers) if usage.input_tokens > tier.above_input_tokens] or [price]
    tier = replace(max(reached, key=lambda tier: tier.above_input_tokens), tiers=())
    assert cost_nusd(usage, price) == cost_nusd(usage, tier)
    plain = TokenUsage(usage.input_tokens, usage.output_tokens)
    assert cost_of_tokens_nusd(usage.input_tokens, usage.output_tokens, price) == cost_nusd(plain, tier)


def test_a_tier_begins_with_the_first_token_above_it() -> None:
    long = Price(DAY, 20, 40, above_input_tokens=200_000)
    price = Price(DAY, 10, 30, tiers=(long,), batch=Price(DAY, 5, 15, tiers=(replace(long, output_nusd_per_mtok=20),)))
    assert [rates_for(price, tokens).input_nusd_per_mtok for tokens in (0, 200_000, 200_001)] == [10, 10, 20]
    assert cost_nusd(TokenUsage(200_000, 1_000_000), price) == 2 + 30
    assert cost_nusd(TokenUsage(200_001, 1_000_000), price) == 4 + 40 + 1
    assert cost_nusd(TokenUsage(200_000, 1_000_000), price, batch=True) == 1 + 15
    assert cost_nusd(TokenUsage(200_001, 1_000_000), price, batch=True) == 4 + 20 + 1


def test_a_batch_costs_the_same_where_the_provider_grants_nothing() -> None:
    usage, price = TokenUsage(1_000, 1_000), Price(DAY, 10**9, 10**9)
    assert cost_nusd(usage, price, batch=True) == cost_nusd(usage, price)


@given(st.lists(usages(), min_size=1, max_size=20), prices())
def test_rounding_adds_less_than_a_nano_dollar_a_request(many: list[TokenUsage], price: Price) -> None:
    together = TokenUsage(
        sum(usage.input_tokens for usage in many),
        sum(usage.output_tokens for usage in many),
        sum(usage.cached_input_tokens for usage in many),
        cache_write_input_tokens=sum(usage.cache_write_input_tokens for usage in many),
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
