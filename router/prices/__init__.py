"""Prices and limits of models: configs/prices.yaml first, then the price map in the litellm wheel.

`load_prices` -> `PriceBook`; `PriceBook.model(name)` -> `ModelInfo`. Amounts go from the text of the
file to integer nano-USD through exact fractions and never pass through a float.
"""

from router.prices.book import ExchangeRate, PriceBook, UnknownCurrency, UnknownModel
from router.prices.file import PriceFileError, load_prices
from router.prices.litellm_map import UNDATED, load_litellm_map
from router.prices.model import ModelInfo

__all__ = [
    "UNDATED",
    "ExchangeRate",
    "ModelInfo",
    "PriceBook",
    "PriceFileError",
    "UnknownCurrency",
    "UnknownModel",
    "load_litellm_map",
    "load_prices",
]
