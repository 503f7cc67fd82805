"""`Deployment`: a model at a provider, what it can take, and its prices with effective dates."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Literal

from classifiers.base import Tier

Capability = Literal["tools", "images", "json_schema"]
TOKENS_PER_UNIT = 1_000_000
IMAGE_TOKENS = 16_384
"""The most that one image comes to where nothing is known of a model: Qwen2-VL's, by its own default (`max_pixels`)."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a provider charges from `effective_from` on, in nano-USD per million tokens.

    `cached_input_nusd_per_mtok` is None where the provider grants no discount on cached input, and
    `cache_write_nusd_per_mtok` where it takes nothing extra for putting input into its cache.

    `tiers` hold for requests with more input than their `above_input_tokens`, for all tokens of these from the first
    on; of several the last that is reached. `batch` is the price of the same tokens in a batch, with tiers of its own.
    Raises ValueError for a negative amount, and for tiers that do not ascend.
    """

    effective_from: date
    input_nusd_per_mtok: int
    output_nusd_per_mtok: int
    cached_input_nusd_per_mtok: int | None = None
    source: str = ""
    cache_write_nusd_per_mtok: int | None = None
    above_input_tokens: int = 0
    tiers: tuple[Price, ...] = ()
    batch: Price | None = None

    def __post_init__(self) -> None:
        amounts = (
            self.input_nusd_per_mtok,
            self.output_nusd_per_mtok,
            self.cached_input_nusd_per_mtok or 0,
            self.cache_write_nusd_per_mtok or 0,
        )
        if min(amounts) < 0:
            raise ValueError(f"the price from {self.effective_from} on holds a negative amount: {amounts}")
        lengths = [self.above_input_tokens, *(tier.above_input_tokens for tier in self.tiers)]
        if any(a >= b for a, b in pairwise(lengths)):
            raise ValueError(f"the tiers of the price from {self.effective_from} on must ascend: {lengths}")


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """One model's prices over time, oldest first. `model` is its name in configs/prices.yaml."""

    model: str
    prices: tuple[Price, ...]

    def __post_init__(self) -> None:
        dates = [price.effective_from for price in self.prices]
        if not dates:
            raise ValueError(f"model {self.model!r} has no price")
        if any(a >= b for a, b in pairwise(dates)):
            raise ValueError(f"the prices of {self.model!r} must have ascending effective_from dates")

    def at(self, day: date) -> Price:
        """The price in force on `day`; before the first date, the first price."""
        newest = self.prices[-1]
        if newest.effective_from <= day:  # nearly always
            return newest
        index = bisect_right(self.prices, day, key=lambda price: price.effective_from)
        return self.prices[max(index - 1, 0)]


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A model that requests can be sent to.

    `tier` is the hardest tier of complexity it serves well. `model` is the name that goes on the
    wire. `tokenizer` names a tiktoken encoding, or is None where only an estimate exists. `image_tokens`
    is the most that one image comes to. With `limits_output`, `max_output_tokens` is a limit to be sent along: the
    model itself would write on.
    """

    name: str
    provider_name: str
    model: str
    tier: Tier
    context_window: int
    max_output_tokens: int
    capabilities: frozenset[Capability]
    prices: PriceSchedule
    tokenizer: str | None = None
    simulated: bool = False
    image_tokens: int = IMAGE_TOKENS
    limits_output: bool = False
