"""The price map in the litellm wheel -> `ModelInfo`: undated, and read only where the price file lacks a model."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from policies.catalog import IMAGE_TOKENS, Capability, Price, PriceSchedule
from policies.money import NUSD_PER_USD, round_half_up
from router.prices.model import ModelInfo
from router.tokenizers import encoding_for_model, litellm_folder

UNDATED = date(1970, 1, 1)
"""`effective_from` of prices from the litellm map, which has no dates."""

_LITELLM_MAP = "model_prices_and_context_window_backup.json"
_LITELLM_MODES = ("chat", "completion", "responses")
_OPENAI_PROVIDERS = ("openai", "azure", "text-completion-openai")
_REASONING_NOTE = "Reasoning costs otherwise than the rest of the answer, which is not modelled."
_LITELLM_KEYS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
)
_ABOVE = re.compile(r"input_cost_per_token(_above_(\d+)k_tokens)")
_LITELLM_CAPABILITIES: Mapping[str, Capability] = {
    "supports_function_calling": "tools",
    "supports_vision": "images",
    "supports_response_schema": "json_schema",
}
# The most that one image comes to. OpenAI, "Images and vision", costs: a base and so much for each of at most 8
# tiles of 512 pixels, or 1,536 patches of 32 pixels times the model's factor, rounded up. Anthropic, "Vision": at most
# 4,784 since Opus 4.7, 1,600 before. Google: 258. All from memory of the pages. What is not here (Gemini 2 and
# later, Mistral's) is given the largest that is known of any open model.
_IMAGE_TOKENS_BY_FAMILY: Mapping[str, int] = {
    "gpt-4o-mini": 2_833 + 8 * 5_667,
    "gpt-4o": 85 + 8 * 170,
    "gpt-4.1-mini": 2_489,
    "gpt-4.1-nano": 3_779,
    "gpt-4.1": 85 + 8 * 170,
    "gpt-4-turbo": 85 + 8 * 170,
    "o4-mini": 2_642,
    "gpt-5-mini": 2_489,
    "gpt-5-nano": 3_779,
    "claude": 4_784,
    "gemini-1.5": 258,
}
_FAMILY = re.compile("|".join(map(re.escape, _IMAGE_TOKENS_BY_FAMILY)))  # in this order: mini before its namesake


def load_litellm_map() -> dict[str, ModelInfo]:
    """The models of litellm's bundled price map that are priced by the token and whose limits are known.

    Empty where the package or its map is absent. Reads 3 MB: call it once.
    """
    folder = litellm_folder()
    path = folder / _LITELLM_MAP if folder else None
    if path is None or not path.is_file():
        return {}
    origin = f"litellm {importlib.metadata.version('litellm')} price map"
    entries = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    infos = (_from_litellm(name, entry, origin) for name, entry in entries.items())
    return {info.name: info for info in infos if info is not None}


def _from_litellm(name: str, entry: Mapping[str, Any], origin: str) -> ModelInfo | None:
    """None for what a chat request cannot be priced with: images, embeddings, entries without cost or limits."""
    window = entry.get("max_input_tokens") or entry.get("max_tokens")
    most = entry.get("max_output_tokens") or entry.get("max_tokens") or window
    if entry.get("mode") not in _LITELLM_MODES:
        return None
    if not isinstance(window, int) or not isinstance(most, int) or window <= 0 or most <= 0:
        return None
    price = _price(entry, f"{origin}, undated" + (f": {entry['source']}" if entry.get("source") else ""))
    if price is None:
        return None
    return ModelInfo(
        name=name,
        prices=PriceSchedule(name, (price,)),
        context_window=window,
        max_output_tokens=most,
        tokenizer=encoding_for_model(name) if entry.get("litellm_provider") in _OPENAI_PROVIDERS else None,
        capabilities=frozenset(flag for key, flag in _LITELLM_CAPABILITIES.items() if entry.get(key) is True),
        origin=origin,
        image_tokens=_image_tokens(name),
        note=_REASONING_NOTE if _reasoning_differs(entry) else "",
    )


def _price(entry: Mapping[str, Any], source: str) -> Price | None:
    price = _rates(entry, source)
    if price is None:
        return _price_of_ranges(entry.get("tiered_pricing"), source)
    tiers = {
        above: _rates(entry, source, suffix, above, price)
        for suffix, above in sorted(_lengths(entry), key=lambda length: length[1])
    }
    price = replace(price, tiers=tuple(tier for tier in tiers.values() if tier))
    return replace(price, batch=_batch(entry, price))


def _price_of_ranges(ranges: Any, source: str) -> Price | None:
    """Where the map lists a price for each range of lengths of the input, the first from 0 on."""
    if not isinstance(ranges, list) or not ranges:
        return None
    rates = [_rates(part, source, above=int(part["range"][0])) for part in ranges]
    known = [price for price in rates if price is not None]
    if len(known) < len(rates) or known[0].above_input_tokens:
        return None
    return replace(known[0], tiers=tuple(known[1:]))


def _lengths(entry: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """What is added to the names of the keys of a tier, and above how many tokens it begins."""
    for key in entry:
        if match := _ABOVE.fullmatch(key):
            yield match[1], int(match[2]) * 1_000


def _rates(
    entry: Mapping[str, Any], source: str, suffix: str = "", above: int = 0, base: Price | None = None
) -> Price | None:
    """None where the entry has no such price. What it does not say of the output is as in `base`."""
    input_rate, output_rate, cached_rate, write_rate = (
        _nusd_per_mtok(entry.get(key + suffix)) for key in _LITELLM_KEYS
    )
    if output_rate is None and base is not None:
        output_rate = base.output_nusd_per_mtok
    if input_rate is None or output_rate is None:
        return None
    return Price(
        effective_from=UNDATED,
        input_nusd_per_mtok=input_rate,
        output_nusd_per_mtok=output_rate,
        cached_input_nusd_per_mtok=cached_rate,
        cache_write_nusd_per_mtok=write_rate,
        above_input_tokens=above,
        source=source,
    )


def _batch(entry: Mapping[str, Any], price: Price) -> Price | None:
    """Tiers whose price in batches the map does not say are taken to be cheaper there by as much as the first."""
    batch = _rates(entry, price.source, "_batches", base=price)
    if batch is None:
        return None
    tiers = []
    for tier in price.tiers:
        suffix = f"_above_{tier.above_input_tokens // 1_000}k_tokens_batches"
        own = _rates(entry, price.source, suffix, tier.above_input_tokens, tier)
        tiers.append(own or _cheaper_alike(tier, price, batch))
    return replace(batch, tiers=tuple(tiers))


def _cheaper_alike(tier: Price, price: Price, batch: Price) -> Price:
    def scaled(amount: int, part: int, whole: int) -> int:
        return -(-amount * part // whole) if whole else amount

    return replace(
        tier,
        input_nusd_per_mtok=scaled(tier.input_nusd_per_mtok, batch.input_nusd_per_mtok, price.input_nusd_per_mtok),
        output_nusd_per_mtok=scaled(tier.output_nusd_per_mtok, batch.output_nusd_per_mtok, price.output_nusd_per_mtok),
        cached_input_nusd_per_mtok=None,
        cache_write_nusd_per_mtok=None,
    )


def _reasoning_differs(entry: Mapping[str, Any]) -> bool:
    parts = [entry, *(entry.get("tiered_pricing") or ())]
    rates = [(part.get("output_cost_per_reasoning_token"), part.get("output_cost_per_token")) for part in parts]
    return any(reasoning is not None and reasoning != output for reasoning, output in rates)


def _image_tokens(name: str) -> int:
    """By the model's family; a provider's prefix ("azure/", "us.anthropic.") aside."""
    found = _FAMILY.search(name)
    return _IMAGE_TOKENS_BY_FAMILY[found.group()] if found else IMAGE_TOKENS


def _nusd_per_mtok(usd_per_token: Any) -> int | None:
    if not isinstance(usd_per_token, (int, Decimal)) or usd_per_token < 0:
        return None
    return round_half_up(Fraction(usd_per_token) * NUSD_PER_USD * 1_000_000)
