"""configs/prices.yaml -> `PriceBook`: strictly, with errors that name file, key, what was found and what is allowed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from policies.catalog import IMAGE_TOKENS, Capability, Price, PriceSchedule
from policies.money import NUSD_PER_USD, round_half_up
from router.dated_entries import Amount, Day, Part, Positive, Share, Text, read_entries
from router.errors import ConfigError
from router.prices.book import ExchangeRate, PriceBook
from router.prices.model import ModelInfo

_MOST_NUSD_PER_MTOK = 1_000_000 * NUSD_PER_USD
"""A dollar a token, hundreds of times what any model costs; dearer ones would not fit the ledger's integers."""


class PriceFileError(ConfigError, ValueError):
    """The price file cannot be used; the message names file, key, what was found and what is allowed."""


_Tokens = Annotated[int, Field(gt=0, strict=True)]
_Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _RateEntry(Part):
    effective_from: Day
    units_per_usd: Positive
    source: Text


class _Amounts(Part):
    input: Amount
    output: Amount
    cached_input: Amount | None = None
    cache_write: Amount | None = None


class _Tier(_Amounts):
    input_tokens: _Tokens


class _PriceEntry(_Amounts):
    effective_from: Day
    currency: _Currency = "USD"
    above: tuple[_Tier, ...] = ()
    batch_share: Share | None = None
    source: Text


class _ModelEntry(Part):
    publisher: Text  # for whoever reads or reviews the file, and wants to check the source: no code needs it
    context_window: _Tokens
    max_output_tokens: _Tokens
    tokenizer: Literal["cl100k_base", "o200k_base", "p50k_base"] | None
    capabilities: frozenset[Capability]
    image_tokens: _Tokens = IMAGE_TOKENS
    image_source: Text | None = None  # for whoever reads or reviews the file
    note: str = ""
    prices: Annotated[tuple[_PriceEntry, ...], Field(min_length=1)]


class _PriceFile(Part):
    rates: Mapping[_Currency, Annotated[tuple[_RateEntry, ...], Field(min_length=1)]] = {}
    models: Annotated[dict[Text, _ModelEntry], Field(min_length=1)]


def load_prices(path: Path) -> PriceBook:
    """Reads the price file.

    Raises PriceFileError for a file that cannot be read, is not YAML, or breaks the schema that the
    head of configs/prices.yaml describes.
    """
    file = read_entries(path, _PriceFile, PriceFileError)
    for currency, rates in file.rates.items():
        _check_ascending(f"{path}: rates.{currency}", "effective_from", [rate.effective_from for rate in rates])
    models = {name: _model_info(path, name, entry, file) for name, entry in file.models.items()}
    rates_by_currency = {
        currency: tuple(ExchangeRate(rate.effective_from, rate.units_per_usd, rate.source) for rate in rates)
        for currency, rates in file.rates.items()
    }
    return PriceBook(models, origin=path.name, rates=rates_by_currency)


def _model_info(path: Path, name: str, entry: _ModelEntry, file: _PriceFile) -> ModelInfo:
    where = f"{path}: models.{name}"
    _check_ascending(where + ".prices", "effective_from", [price.effective_from for price in entry.prices])
    for index, price in enumerate(entry.prices):
        _check_ascending(f"{where}.prices.{index}.above", "input_tokens", [tier.input_tokens for tier in price.above])
    for currency in sorted({price.currency for price in entry.prices} - {"USD"}):
        days = [rate.effective_from for rate in file.rates.get(currency, ())]
        first = min(price.effective_from for price in entry.prices if price.currency == currency)
        if not days or days[0] > first:
            raise PriceFileError(
                f"{where}.prices: found a price in {currency} from {first}; "
                f"rates.{currency} must hold a rate with effective_from on or before that day"
            )
    prices = tuple(_dated_prices(entry.prices, file.rates))
    for dated in prices:
        _check_plausible(where, dated)
    return ModelInfo(
        name=name,
        prices=PriceSchedule(name, prices),
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        tokenizer=entry.tokenizer,
        capabilities=entry.capabilities,
        origin=path.name,
        note=entry.note,
        image_tokens=entry.image_tokens,
    )


def _check_plausible(where: str, price: Price) -> None:
    for rates in (price, *price.tiers):
        cached, written = rates.cached_input_nusd_per_mtok or 0, rates.cache_write_nusd_per_mtok or 0
        dearest = max(rates.input_nusd_per_mtok, rates.output_nusd_per_mtok, cached, written)
        if dearest > _MOST_NUSD_PER_MTOK:
            raise PriceFileError(
                f"{where}.prices: found {Decimal(dearest) / NUSD_PER_USD:.3e} dollars per 1,000,000 tokens from "
                f"{price.effective_from}; at most a dollar a token is taken for a price"
            )


def _check_ascending(where: str, key: str, values: Sequence[date] | Sequence[int]) -> None:
    for index, (earlier, later) in enumerate(pairwise(values), start=1):
        if earlier >= later:  # type: ignore[operator]  # all are dates, or all are numbers
            raise PriceFileError(f"{where}.{index}.{key}: found {later} after {earlier}; they must ascend")


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
    source = entry.source
    if rate is not None:
        source = f"{source}; {entry.currency} {_decimal(rate.units_per_usd)} for 1 USD: {rate.source}"
    price = _tiered(entry, day, per_unit, source)
    if entry.batch_share is None:
        return price
    return replace(price, batch=_undiscounted(_tiered(entry, day, per_unit * entry.batch_share, source)))


def _undiscounted(price: Price) -> Price:
    """What batches cost: no vendor says alike what its cache is worth there."""
    tiers = tuple(_undiscounted(tier) for tier in price.tiers)
    return replace(price, cached_input_nusd_per_mtok=None, cache_write_nusd_per_mtok=None, tiers=tiers)


def _tiered(entry: _PriceEntry, day: date, per_unit: Fraction, source: str) -> Price:
    price = _rates(entry, day, per_unit, source)
    tiers = [replace(_rates(tier, day, per_unit, source), above_input_tokens=tier.input_tokens) for tier in entry.above]
    return replace(price, tiers=tuple(tiers))


def _rates(amounts: _Amounts, day: date, per_unit: Fraction, source: str) -> Price:
    cached, written = amounts.cached_input, amounts.cache_write
    return Price(
        effective_from=day,
        input_nusd_per_mtok=round_half_up(amounts.input * per_unit),
        output_nusd_per_mtok=round_half_up(amounts.output * per_unit),
        cached_input_nusd_per_mtok=None if cached is None else round_half_up(cached * per_unit),
        cache_write_nusd_per_mtok=None if written is None else round_half_up(written * per_unit),
        source=source,
    )


def _decimal(amount: Fraction) -> Decimal:
    return Decimal(amount.numerator) / Decimal(amount.denominator)
