"""usage x price -> cost."""

from __future__ import annotations

from policies.catalog import TOKENS_PER_UNIT, Price
from policies.usage import TokenUsage


def cost_nusd(usage: TokenUsage, price: Price) -> int:
    """Nano-USD for `usage` at `price`, rounded up once, so that a budget never undercounts."""
    cached_price = price.cached_input_nusd_per_mtok
    if cached_price is None:
        cached_price = price.input_nusd_per_mtok
    total = (
        (usage.input_tokens - usage.cached_input_tokens) * price.input_nusd_per_mtok
        + usage.cached_input_tokens * cached_price
        + usage.output_tokens * price.output_nusd_per_mtok
    )
    return -(-total // TOKENS_PER_UNIT)


def cost_of_tokens_nusd(input_tokens: int, output_tokens: int, price: Price) -> int:
    """`cost_nusd` for bare counts, none of them cached: what comparing and reserving ask, many times a request."""
    total = input_tokens * price.input_nusd_per_mtok + output_tokens * price.output_nusd_per_mtok
    return -(-total // TOKENS_PER_UNIT)


def most_input_cost_nusd(tokens: int, price: Price) -> int:
    """The most that so many tokens of input can cost, whatever part of them the provider finds in its cache."""
    return -(-tokens * max(price.input_nusd_per_mtok, price.cached_input_nusd_per_mtok or 0) // TOKENS_PER_UNIT)
