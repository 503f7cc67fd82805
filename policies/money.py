"""Integer nano-USD: the only form of money inside. Parsed and printed here, nowhere else.

One nano-USD is 1e-9 USD. Redis scripts count in doubles, so an amount must stay below 2**53
nano-USD, about nine million dollars: `MAX_NUSD` is that bound, and `parse_usd` holds it.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NUSD_PER_USD = 1_000_000_000
MAX_NUSD = 9_000_000 * NUSD_PER_USD


def parse_usd(value: str | int | Decimal) -> int:
    """Dollars as written ("0.03", "$1,500", 12) to nano-USD, exactly.

    Raises ValueError for what is no number, is negative, exceeds nine million dollars or is finer
    than a nano-dollar. A float is refused: it has already lost what the author wrote.
    """
    if isinstance(value, (bool, float)):
        raise ValueError(f"write {value!r} as a string or an integer: a float cannot hold every decimal amount")
    text = str(value).strip().removeprefix("$").replace(",", "").replace("_", "")
    try:
        nusd = Decimal(text) * NUSD_PER_USD
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount in USD, such as 12 or 0.0015") from None
    if not nusd.is_finite() or nusd < 0:
        raise ValueError(f"{value!r} is not an amount in USD: it must be finite and not negative")
    if nusd > MAX_NUSD:
        raise ValueError(f"{value!r} exceeds the largest amount, {format_usd(MAX_NUSD)} USD")
    if nusd != int(nusd):
        raise ValueError(f"{value!r} is finer than a nano-dollar (nine decimals)")
    return int(nusd)


def format_usd(nusd: int) -> str:
    """Nano-USD as exact decimal dollars without trailing zeros, at least two decimals: "0.0015", "12.00"."""
    sign = "-" if nusd < 0 else ""
    whole, fraction = divmod(abs(nusd), NUSD_PER_USD)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{digits}"
