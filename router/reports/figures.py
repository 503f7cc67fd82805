"""The figures of one line of a report: those that are added up, and those that follow from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from operator import attrgetter

from router.reports.currency import convert


@dataclass(frozen=True, slots=True)
class Figures:
    """Amounts are billionths of the report's currency.

    `list_cost` is what was booked at list price, `idle_cost` what machines cost more than was booked for them
    (negative where less), `router_cost` what Parsimony's own machine cost. `exact_counterfactual` is the part of
    `booked_counterfactual` that is no estimate, `correction` what shadow samples add to it.
    """

    request_count: int = 0
    measuring_count: int = 0
    simulated_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    list_cost: int = 0
    measuring_cost: int = 0
    """The part of `list_cost` that shadow and judge calls cost."""
    idle_cost: int = 0
    router_cost: int = 0
    booked_counterfactual: int = 0
    exact_counterfactual: int = 0
    correction: int = 0

    @property
    def effective_cost(self) -> int:
        return self.list_cost + self.idle_cost + self.router_cost

    @property
    def counterfactual(self) -> int:
        return self.booked_counterfactual + self.correction

    @property
    def savings(self) -> int:
        """Negative where routing cost more."""
        return self.counterfactual - self.effective_cost

    @property
    def savings_percent(self) -> Decimal | None:
        """Of the counterfactual; None where that is nothing."""
        return percent(self.savings, self.counterfactual)

    def converted(self, rate: Fraction) -> Figures:
        if rate == 1:
            return self
        amounts = {name: convert(getattr(self, name), rate) for name in MONEY}
        return Figures(**{name: getattr(self, name) for name in COUNTS}, **amounts)


COUNTS = (
    "request_count", "measuring_count", "simulated_count",
    "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens",
)  # fmt: skip
MONEY = tuple(field.name for field in fields(Figures) if field.name not in COUNTS)
_values = attrgetter(*(field.name for field in fields(Figures)))


def add_up(many: Iterable[Figures]) -> Figures:
    return Figures(*map(sum, zip(*map(_values, many), strict=True)))


def percent(part: int, whole: int) -> Decimal | None:
    """To a tenth; None where the whole is nothing."""
    if whole == 0:
        return None
    return (Decimal(100 * part) / whole).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN)
