"""The terms of a budget as people write them: limits, shares, and whose it is. One reading for all who take them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from policies.budget import Budget, Unit
from policies.money import format_usd, parse_amount, parse_usd


def parse_limit(value: str | int, unit: Unit) -> int:
    """A limit as written: "500" or "0.5" for `usd`, in nano-USD then; a whole number for the other units.

    Raises ValueError, for floats too: money is never one.
    """
    if unit == "usd":
        return parse_usd(value)
    try:
        amount = parse_amount(value)
        if amount.denominator != 1:
            raise ValueError
    except ValueError:
        raise ValueError(f"{value!r} is not a number of {unit}: it must be whole and not negative") from None
    return int(amount)


def window_or_default(window: str | None, unit: Unit) -> str:
    """A window as written; where none is, the month, and `now` for what is only ever held."""
    return window or ("now" if unit == "parallel" else "month")


def parse_share(value: str | int | float) -> Fraction:
    """A share as written: "80%", "0.8" or 0.8. Raises ValueError."""
    text = str(value).strip()
    try:
        if isinstance(value, bool):
            raise ValueError
        share = parse_amount(text.removesuffix("%").rstrip())
    except ValueError:
        raise ValueError(f"{value!r} is not a share, such as 80% or 0.8") from None
    return share / 100 if text.endswith("%") else share


def format_share(share: Fraction) -> str:
    """As a percentage: "80%", "66.6%"."""
    percent = Decimal(share.numerator * 100) / share.denominator
    return f"{percent.normalize():f}%"


def budget_name(budget: Budget) -> str:
    """Whose it is and what it counts, for people: "team support", "key key_1, tokens", "tag batch, gpt-4"."""
    name = "organization" if budget.subject_kind == "organization" else f"{budget.subject_kind} {budget.subject_id}"
    counted: list[str] = [] if budget.unit == "usd" else ["at once" if budget.unit == "parallel" else budget.unit]
    counted += [part for part in (budget.model, budget.tier) if part is not None]
    return ", ".join([name, *counted])


def amount_in_unit(budget: Budget, amount: int) -> str:
    """`amount` without its unit: exact decimal dollars, or a count."""
    return format_usd(amount) if budget.unit == "usd" else str(amount)
