"""What a record's amounts come to by its tokens: to check them, and to correct them after a late change of prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from policies.catalog import Price
from policies.pricing import cost_nusd, cost_of_tokens_nusd, prompt_cache_discount_nusd
from policies.spend import SpendRecord
from policies.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Amounts:
    """What of a record depends on prices, in nano-USD, and the dates of the prices; named as in SpendRecord."""

    cost_nusd: int
    retries_nusd: int
    prompt_cache_nusd: int
    baseline_cost_nusd: int
    price_effective_from: str | None
    baseline_price_effective_from: str | None


class Prices(Protocol):
    """What each part of a record is priced at; None where that is not known."""

    def served(self, record: SpendRecord) -> Price | None: ...

    def attempted(self, record: SpendRecord, deployment: str) -> Price | None:
        """Of an attempt that came to nothing, but was billed."""
        ...

    def baseline(self, record: SpendRecord) -> Price | None: ...


@dataclass(frozen=True, slots=True)
class _Side:
    """Of those who served, or of the baseline. `discount_nusd` is what the prompt cache took off `nusd`; of a shadow,
    less what it took off the counterfactual that is measured."""

    nusd: int
    discount_nusd: int
    price: Price | None = None
    retries_nusd: int = 0


_NOTHING = _Side(0, 0)


def booked(record: SpendRecord) -> Amounts:
    return Amounts(
        cost_nusd=record.cost_nusd,
        retries_nusd=record.retries_nusd,
        prompt_cache_nusd=record.prompt_cache_nusd,
        baseline_cost_nusd=record.baseline_cost_nusd,
        price_effective_from=record.price_effective_from,
        baseline_price_effective_from=record.baseline_price_effective_from,
    )


def reckoned(record: SpendRecord, prices: Prices) -> Amounts:
    """The record's amounts by its tokens; what no price is known for, and what nobody counted, stays as booked.

    Raises ValueError where its tokens cannot be: more of them cached than there were, say.
    """
    served, forgone = _served(record, prices), _forgone(record, prices)
    discount = record.prompt_cache_nusd
    if served is not None and forgone is not None:
        discount = served.discount_nusd - forgone.discount_nusd
    return Amounts(
        cost_nusd=record.cost_nusd if served is None else served.nusd,
        retries_nusd=record.retries_nusd if served is None else served.retries_nusd,
        prompt_cache_nusd=discount,
        baseline_cost_nusd=record.baseline_cost_nusd if forgone is None else forgone.nusd,
        price_effective_from=_date(served, record.price_effective_from),
        baseline_price_effective_from=_date(forgone, record.baseline_price_effective_from),
    )


def billed_attempts(record: SpendRecord) -> list[tuple[str, int]]:
    """Deployment and input tokens of each attempt that failed but may be billed."""
    return [(str(name), int(tokens)) for name, tokens, _ in record.detail.get("billed_attempts", ())]


def answered_usage(record: SpendRecord) -> TokenUsage:
    """What the answer itself took, without the prompts of attempts before it. Raises ValueError."""
    return TokenUsage(
        record.input_tokens - sum(tokens for _, tokens in billed_attempts(record)),
        record.output_tokens,
        record.cached_input_tokens,
        record.reasoning_tokens,
        record.detail.get("cache_write_input_tokens", 0),
    )


def baseline_usage(record: SpendRecord) -> TokenUsage:
    """What the baseline would have taken, and of the prompt found in its cache, or put there. Raises ValueError."""
    return TokenUsage(
        record.baseline_input_tokens,
        record.baseline_output_tokens,
        record.detail.get("baseline_cached_input_tokens", 0),
        cache_write_input_tokens=record.detail.get("baseline_cache_write_input_tokens", 0),
    )


def kept_usage(input_tokens: int, output_tokens: int, cached: int, written: int) -> list[int] | None:
    """What a shadow keeps of the counterfactual that it measures, as `measured_usage` reads it: nothing where no prompt
    cache took anything off."""
    return [input_tokens, output_tokens, cached, written] if cached or written else None


def measured_usage(record: SpendRecord) -> TokenUsage:
    """Of a shadow: the counterfactual that it measures, where a prompt cache took something off that. Raises
    ValueError."""
    inputs, outputs, cached, written = record.detail.get("measured_usage", (0, 0, 0, 0))
    return TokenUsage(inputs, outputs, cached, cache_write_input_tokens=written)


def measured_deployment(record: SpendRecord) -> str | None:
    """Of a shadow: which deployment served the request that it measures."""
    return record.detail.get("measured_deployment")


def _served(record: SpendRecord, prices: Prices) -> _Side | None:
    """None where a reservation stands for tokens that nobody counted, or a price is not known."""
    if record.usage_source in ("cache", "none"):
        return _NOTHING
    price = prices.served(record)
    if record.usage_source == "reserved" or price is None:
        return None
    retries = 0
    for deployment, tokens in billed_attempts(record):
        attempted = prices.attempted(record, deployment)
        if attempted is None:
            return None
        retries += cost_of_tokens_nusd(tokens, 0, attempted)
    usage = answered_usage(record)
    discount = prompt_cache_discount_nusd(usage, price) - prompt_cache_discount_nusd(measured_usage(record), price)
    return _Side(cost_nusd(usage, price) + retries, discount, price, retries)


def _forgone(record: SpendRecord, prices: Prices) -> _Side | None:
    """Nothing where there was no answer, and so nothing to compare with."""
    if not record.baseline_input_tokens and not record.baseline_output_tokens:
        return _NOTHING
    price = prices.baseline(record)
    if price is None:
        return None
    usage = baseline_usage(record)
    # A repeat has no share in the discounts of what it repeats: neither side of it was cached.
    discount = 0 if record.cache == "hit" else prompt_cache_discount_nusd(usage, price)
    return _Side(cost_nusd(usage, price), discount, price)


def _date(side: _Side | None, booked_date: str | None) -> str | None:
    return booked_date if side is None or side.price is None else side.price.effective_from.isoformat()
