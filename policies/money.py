"""Integer nano-USD: the only form of money inside. Parsed and printed here, nowhere else.

One nano-USD is 1e-9 USD. Redis scripts count in doubles, so an amount must stay below 2**53
nano-USD, about nine million dollars: `MAX_NUSD` is that bound, and `parse_usd` holds it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

NUSD_PER_USD = 1_000_000_000
MAX_NUSD = 9_000_000 * NUSD_PER_USD

_MAX_AMOUNT_CHARS = 64
_AMOUNT = re.compile(
    r"""(?=\.?\d)
        (?: \d{1,3} (?:,\d{3})+      # commas part thousands and nothing else: "0,03" is no amount
          | \d+ (?:_\d+)* )?
        (?: \.\d* )?
        (?: [eE][+-]?\d{1,2} )?      # two digits: an exponent of a thousand million would fill the memory
    """,
    re.ASCII | re.VERBOSE,
)


def parse_amount(value: str | int | Decimal) -> Fraction:
    """A number as written ("0.03", "1,500", 12, "2.5e-7") as the exact fraction it is, in any currency.

    Raises ValueError for what is no number or is negative, and for floats: a float has already
    lost what the author wrote.
    """
    if isinstance(value, (bool, float)):
        raise ValueError(f"write {value!r} as a string or an integer: a float cannot hold every decimal amount")
    text = str(value).strip()
    if len(text) > _MAX_AMOUNT_CHARS or not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text[:_MAX_AMOUNT_CHARS]!r} is not an amount: it must be a decimal number, not negative")
    return Fraction(text.replace(",", "").replace("_", ""))


def parse_usd(value: str | int | Decimal) -> int:
    """Dollars as written ("0.03", "$1,500", 12) to nano-USD, exactly.

    Raises ValueError for what is no number, is negative, exceeds nine million dollars or is finer
    than a nano-dollar, and for floats.
    """
    amount = value.strip().removeprefix("$") if isinstance(value, str) else value
    nusd = parse_amount(amount) * NUSD_PER_USD
    if nusd > MAX_NUSD:
        raise ValueError(f"{value!r} exceeds the largest amount, {format_usd(MAX_NUSD)} USD")
    if nusd.denominator != 1:
        raise ValueError(f"{value!r} is finer than a nano-dollar (nine decimals)")
    return int(nusd)


def round_half_up(amount: Fraction) -> int:
    """The nearest integer; halves go up. For amounts that are not negative."""
    return int(amount + Fraction(1, 2))


def format_usd(nusd: int, decimals: int | None = None) -> str:
    """Nano-USD as decimal dollars.

    Exact by default, without trailing zeros but for two decimals: "0.0015", "12.00". With
    `decimals` (0 to 9), rounded to so many places, halves away from zero: "499.01".
    """
    if decimals is None:
        whole, fraction = divmod(abs(nusd), NUSD_PER_USD)
        digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
        return f"{'-' if nusd < 0 else ''}{whole}.{digits}"
    if not 0 <= decimals <= 9:
        raise ValueError(f"decimals={decimals} must lie in 0..9")
    step = 10 ** (9 - decimals)
    rounded = (abs(nusd) + step // 2) // step
    whole, fraction = divmod(rounded, 10**decimals)
    sign = "-" if nusd < 0 and rounded else ""
    return f"{sign}{whole}.{fraction:0{decimals}d}" if decimals else f"{sign}{whole}"
