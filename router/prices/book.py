"""`PriceBook`: models by name, and what other currencies are worth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from fractions import Fraction

from router.errors import ConfigError
from router.prices.litellm_map import load_litellm_map
from router.prices.model import ModelInfo


class UnknownModel(ConfigError, ValueError):
    """No price is known under this name; the message suggests near names."""


class UnknownCurrency(ConfigError, ValueError):
    """No rate is known for this currency on that day; the message names those that are."""


@dataclass(frozen=True, slots=True)
class ExchangeRate:
    """What one US dollar buys of a currency from `effective_from` on."""

    effective_from: date
    units_per_usd: Fraction
    source: str


class PriceBook:
    """Models by name, and exchange `rates` by currency, oldest first.

    Models that the file lacks are looked up in litellm's map, read at the first miss.
    """

    def __init__(
        self,
        models: Mapping[str, ModelInfo],
        origin: str = "the price file",
        rates: Mapping[str, Sequence[ExchangeRate]] | None = None,
    ) -> None:
        self.rates: Mapping[str, Sequence[ExchangeRate]] = rates or {}
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

    def rate_at(self, currency: str, day: date) -> Fraction:
        """Units of `currency` for one US dollar on `day`. Raises UnknownCurrency where no rate had begun by then."""
        if currency == "USD":
            return Fraction(1)
        known = self.rates.get(currency, ())
        index = bisect_right(known, day, key=lambda rate: rate.effective_from) - 1
        if index >= 0:
            return known[index].units_per_usd
        found = f"its first rate begins on {known[0].effective_from}" if known else "it has none"
        allowed = ", ".join(["USD", *sorted(self.rates)])
        raise UnknownCurrency(
            f"no rate is known for the currency {currency!r} on {day}: {found}; known are {allowed}; "
            f"add it to `rates` in {self._origin}"
        )

    def _not_found(self, name: str, litellm: Iterable[str]) -> str:
        near = get_close_matches(name, self._models, n=3) + get_close_matches(name, litellm, n=3)
        hint = f"near names: {', '.join(map(repr, dict.fromkeys(near)))}; name one of these, or " if near else ""
        return (
            f"no price is known for the model {name!r}, neither in {self._origin} nor in litellm's price map; "
            f"{hint}add {name!r} with its prices to {self._origin}"
        )
