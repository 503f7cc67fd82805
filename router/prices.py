"""Prices and limits of models: configs/prices.yaml first, then the price map in the litellm wheel.

`load_prices` -> `PriceBook`; `PriceBook.model(name)` -> `ModelInfo`. Amounts go from the text of the
file to integer nano-USD through exact fractions and never pass through a float.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from policies.catalog import IMAGE_TOKENS, Capability, Price, PriceSchedule
from policies.money import NUSD_PER_USD, parse_amount, round_half_up
from router.errors import ConfigError
from router.tokenizers import encoding_for_model, litellm_folder
from router.yaml_file import UnreadableFile, problems, read_yaml

UNDATED = date(1970, 1, 1)
"""`effective_from` of prices from the litellm map, which has no dates."""

_LITELLM_MAP = "model_prices_and_context_window_backup.json"
_LITELLM_MODES = ("chat", "completion", "responses")
_OPENAI_PROVIDERS = ("openai", "azure", "text-completion-openai")
_ABOVE_NOTE = "Long prompts cost more, which is not modelled."
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


class PriceFileError(ConfigError, ValueError):
    """The price file cannot be used; the message names file, key, what was found and what is allowed."""


class UnknownModel(ConfigError, ValueError):
    """No price is known under this name; the message suggests near names."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model before anyone deploys it. `origin` names the list it comes from."""

    name: str
    prices: PriceSchedule
    context_window: int
    max_output_tokens: int
    tokenizer: str | None
    capabilities: frozenset[Capability]
    origin: str
    note: str = ""
    image_tokens: int = IMAGE_TOKENS
    """The most that one image comes to."""


class PriceBook:
    """Models by name. Those that the file lacks are looked up in litellm's map, read at the first miss."""

    def __init__(self, models: Mapping[str, ModelInfo], origin: str = "the price file") -> None:
        self._models = dict(models)
        self._origin = origin
        self._litellm: dict[str, ModelInfo] | None = None

    def model(self, name: str) -> ModelInfo:
        """Raises UnknownModel, with near names, for a name in neither list."""
        found = self._models.get(name)
        if found is not None:
            return found
        if self._litellm is None:
            self._litellm = load_litellm_map()
        found = self._litellm.get(name)
        if found is not None:
            return found
        raise UnknownModel(self._not_found(name, self._litellm))

    def _not_found(self, name: str, litellm: Iterable[str]) -> str:
        near = get_close_matches(name, self._models, n=3) + get_close_matches(name, litellm, n=3)
        hint = f"; near names: {', '.join(map(repr, dict.fromkeys(near)))}" if near else ""
        return (
            f"no price is known for the model {name!r}, neither in {self._origin} nor in litellm's price map{hint}; "
            f"name one of these, or add {name!r} with its prices to {self._origin}"
        )


# ---- the file ------------------------------------------------------------------------------------


def _exact(value: Any) -> Fraction:
    if value is None or not isinstance(value, (str, int, float)):
        raise ValueError('must be a decimal number written as a string, such as "0.15"')
    return parse_amount(value)  # type: ignore[arg-type]  # it refuses floats, saying why


def _day(value: Any) -> date:
    """A date as YAML reads it, or as text; pydantic alone would take a number for seconds since 1970."""
    if isinstance(value, str):
        value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date such as 2024-01-25")
    return value


_Amount = Annotated[Fraction, BeforeValidator(_exact)]
_Rate = Annotated[Fraction, BeforeValidator(_exact), Field(gt=0)]
_Day = Annotated[date, BeforeValidator(_day)]
_Text = Annotated[str, Field(min_length=1)]
_Tokens = Annotated[int, Field(gt=0, strict=True)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class _RateEntry(_Part):
    effective_from: _Day
    units_per_usd: _Rate
    source: _Text


class _PriceEntry(_Part):
    effective_from: _Day
    currency: _Currency = "USD"
    input: _Amount
    output: _Amount
    cached_input: _Amount | None = None
    source: _Text


class _ModelEntry(_Part):
    publisher: _Text  # for whoever reads or reviews the file, and wants to check the source: no code needs it
    context_window: _Tokens
    max_output_tokens: _Tokens
    tokenizer: Literal["cl100k_base", "o200k_base", "p50k_base"] | None
    capabilities: frozenset[Capability]
    image_tokens: _Tokens = IMAGE_TOKENS
    image_source: _Text | None = None  # for whoever reads or reviews the file
    note: str = ""
    prices: Annotated[tuple[_PriceEntry, ...], Field(min_length=1)]


class _PriceFile(_Part):
    rates: dict[_Currency, Annotated[tuple[_RateEntry, ...], Field(min_length=1)]] = {}
    models: Annotated[dict[_Text, _ModelEntry], Field(min_length=1)]


def load_prices(path: Path) -> PriceBook:
    """Reads the price file.

    Raises PriceFileError for a file that cannot be read, is not YAML, or breaks the schema that the
    head of configs/prices.yaml describes.
    """
    try:
        file = _PriceFile.model_validate(read_yaml(path))
    except UnreadableFile as error:
        raise PriceFileError(f"{path}: {error}") from error
    except ValidationError as error:
        raise PriceFileError("\n".join(f"{path}: {line}" for line in problems(error))) from error
    models = {name: _model_info(path, name, entry, file) for name, entry in file.models.items()}
    return PriceBook(models, origin=path.name)


def _model_info(path: Path, name: str, entry: _ModelEntry, file: _PriceFile) -> ModelInfo:
    where = f"{path}: models.{name}"
    _check_ascending(where + ".prices", [price.effective_from for price in entry.prices])
    for currency in sorted({price.currency for price in entry.prices} - {"USD"}):
        days = [rate.effective_from for rate in file.rates.get(currency, ())]
        _check_ascending(f"{path}: rates.{currency}", days)
        first = min(price.effective_from for price in entry.prices if price.currency == currency)
        if not days or days[0] > first:
            raise PriceFileError(
                f"{where}.prices: found a price in {currency} from {first}; "
                f"rates.{currency} must hold a rate with effective_from on or before that day"
            )
    return ModelInfo(
        name=name,
        prices=PriceSchedule(name, tuple(_dated_prices(entry.prices, file.rates))),
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        tokenizer=entry.tokenizer,
        capabilities=entry.capabilities,
        origin=path.name,
        note=entry.note,
        image_tokens=entry.image_tokens,
    )


def _check_ascending(where: str, days: list[date]) -> None:
    for index, (earlier, later) in enumerate(pairwise(days), start=1):
        if earlier >= later:
            raise PriceFileError(f"{where}.{index}.effective_from: found {later} after {earlier}; dates must ascend")


def _dated_prices(prices: tuple[_PriceEntry, ...], rates: Mapping[str, tuple[_RateEntry, ...]]) -> Iterable[Price]:
    """Every change in USD: a new price, and a new exchange rate of a price in another currency."""
    for price, following in zip(prices, [*prices[1:], None], strict=True):
        if price.currency == "USD":
            yield _price(price, price.effective_from, None)
            continue
        known = rates[price.currency]
        start = bisect_right(known, price.effective_from, key=lambda rate: rate.effective_from) - 1
        for rate in known[start:]:
            day = max(price.effective_from, rate.effective_from)
            if following is None or day < following.effective_from:
                yield _price(price, day, rate)


def _price(entry: _PriceEntry, day: date, rate: _RateEntry | None) -> Price:
    per_unit = NUSD_PER_USD / (rate.units_per_usd if rate else Fraction(1))
    cached, source = entry.cached_input, entry.source
    if rate is not None:
        source = f"{source}; {entry.currency} {_decimal(rate.units_per_usd)} for 1 USD: {rate.source}"
    return Price(
        effective_from=day,
        input_nusd_per_mtok=round_half_up(entry.input * per_unit),
        output_nusd_per_mtok=round_half_up(entry.output * per_unit),
        cached_input_nusd_per_mtok=None if cached is None else round_half_up(cached * per_unit),
        source=source,
    )


def _decimal(amount: Fraction) -> Decimal:
    return Decimal(amount.numerator) / Decimal(amount.denominator)


# ---- litellm's map -------------------------------------------------------------------------------


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
    costs = [_nusd_per_mtok(entry.get(key)) for key in ("input_cost_per_token", "output_cost_per_token")]
    if entry.get("mode") not in _LITELLM_MODES or costs[0] is None or costs[1] is None:
        return None
    if not isinstance(window, int) or not isinstance(most, int) or window <= 0 or most <= 0:
        return None
    price = Price(
        effective_from=UNDATED,
        input_nusd_per_mtok=costs[0],
        output_nusd_per_mtok=costs[1],
        cached_input_nusd_per_mtok=_nusd_per_mtok(entry.get("cache_read_input_token_cost")),
        source=f"{origin}, undated" + (f": {entry['source']}" if entry.get("source") else ""),
    )
    return ModelInfo(
        name=name,
        prices=PriceSchedule(name, (price,)),
        context_window=window,
        max_output_tokens=most,
        tokenizer=encoding_for_model(name) if entry.get("litellm_provider") in _OPENAI_PROVIDERS else None,
        capabilities=frozenset(flag for key, flag in _LITELLM_CAPABILITIES.items() if entry.get(key) is True),
        origin=origin,
        image_tokens=_image_tokens(name),
        note=_ABOVE_NOTE if any(key.startswith("input_cost_per_token_above_") for key in entry) else "",
    )


def _image_tokens(name: str) -> int:
    """By the model's family; a provider's prefix ("azure/", "us.anthropic.") aside."""
    found = _FAMILY.search(name)
    return _IMAGE_TOKENS_BY_FAMILY[found.group()] if found else IMAGE_TOKENS


def _nusd_per_mtok(usd_per_token: Any) -> int | None:
    if not isinstance(usd_per_token, (int, Decimal)) or usd_per_token < 0:
        return None
    return round_half_up(Fraction(usd_per_token) * NUSD_PER_USD * 1_000_000)
