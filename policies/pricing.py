"""usage x price -> cost."""

from __future__ import annotations

from policies.catalog import TOKENS_PER_UNIT, Price
from policies.usage import TokenUsage


def cost_nusd(usage: TokenUsage, price: Price, batch: bool = False) -> int:
    """Nano-USD for `usage` at `price`, rounded up once, so that a budget never undercounts.

    Of a request in a `batch`, at the price of batches where the provider has one.
    """
    if batch or price.tiers:
        price = rates_for(price, usage.input_tokens, batch)
    input_price = price.input_nusd_per_mtok
    total = usage.input_tokens * input_price + usage.output_tokens * price.output_nusd_per_mtok
    if usage.cached_input_tokens and price.cached_input_nusd_per_mtok is not None:
        total += usage.cached_input_tokens * (price.cached_input_nusd_per_mtok - input_price)
    if usage.cache_write_input_tokens and price.cache_write_nusd_per_mtok is not None:
        total += usage.cache_write_input_tokens * (price.cache_write_nusd_per_mtok - input_price)
    return -(-total // TOKENS_PER_UNIT)


def cost_of_tokens_nusd(input_tokens: int, output_tokens: int, price: Price) -> int:
    """`cost_nusd` for bare counts, none of them cached: what comparing and reserving ask, many times a request."""
    if price.tiers:
        price = rates_for(price, input_tokens)
    total = input_tokens * price.input_nusd_per_mtok + output_tokens * price.output_nusd_per_mtok
    return -(-total // TOKENS_PER_UNIT)


def prompt_cache_discount_nusd(usage: TokenUsage, price: Price) -> int:
    """What the provider's prompt cache took off `cost_nusd`; negative where filling it cost more than it saved."""
    if not usage.cached_input_tokens and not usage.cache_write_input_tokens:
        return 0
    return cost_of_tokens_nusd(usage.input_tokens, usage.output_tokens, price) - cost_nusd(usage, price)


def most_input_cost_nusd(tokens: int, price: Price) -> int:
    """The most that so many tokens of input, or fewer, can cost, whatever part of them the provider finds in its cache
    or puts there."""
    if price.tiers:
        price = dearest(price, tokens)
    return -(-tokens * _dearest_input(price) // TOKENS_PER_UNIT)


def rates_for(price: Price, input_tokens: int, batch: bool = False) -> Price:
    """The tier that a request with so much input falls into: the one whose rates its tokens are charged at."""
    if batch and price.batch is not None:
        price = price.batch
    for tier in reversed(price.tiers):
        if input_tokens > tier.above_input_tokens:
            return tier
    return price


def dearest(price: Price, input_tokens: int) -> Price:
    """What is nowhere below the rates of a request with at most `input_tokens` of input, for whoever knows a bound."""
    if not price.tiers:  # nearly always
        return price
    reached = [tier for tier in price.tiers if input_tokens > tier.above_input_tokens]
    if not reached:
        return price
    reached.append(price)
    return Price(
        effective_from=price.effective_from,
        input_nusd_per_mtok=max(map(_dearest_input, reached)),
        output_nusd_per_mtok=max(rates.output_nusd_per_mtok for rates in reached),
    )


def _dearest_input(price: Price) -> int:
    cached, written = price.cached_input_nusd_per_mtok or 0, price.cache_write_nusd_per_mtok or 0
    return max(price.input_nusd_per_mtok, cached, written)
