"""What was spent beside what the same traffic would have cost on the baseline, and why the two differ."""

from __future__ import annotations

from collections.abc import Sequence

from policies.drivers import DRIVERS
from router.reports.account import Account, Line
from router.reports.basis import savings_basis
from router.reports.columns import COUNTS, account_table, counts, money
from router.reports.tables import Column, Provenance, ReportTable, Value

_AMOUNTS = (
    ("list_cost", "list cost", "What was booked, at list price."),
    ("idle_cost", "idle machines", "What machines cost beyond what was booked for them."),
    ("router_cost", "router's machine", "What the machine of Parsimony itself cost."),
    ("effective_cost", "spent", "List cost, idle machines and the router's machine."),
    ("booked_counterfactual", "booked counterfactual", "As estimated when each request was answered."),
    ("correction", "correction", "What shadow samples add to it."),
    ("counterfactual", "on the baseline", "What the baseline would have charged."),
)
_SHOWN = ("effective_cost", "counterfactual")


def _columns(currency: str) -> tuple[Column, ...]:
    return (
        *counts(),
        *(money(name, title, currency, about, detail=name not in _SHOWN) for name, title, about in _AMOUNTS),
        money("counterfactual_low", "at least", currency, "Lower end of the 95 % interval.", adds_up=False),
        money("counterfactual_high", "at most", currency, "Upper end of the 95 % interval.", adds_up=False),
        money("savings", "saved", currency, "Counterfactual less effective cost."),
        *(
            money(f"savings_{end}", f"saved {words}", currency, "End of the 95 % interval.", adds_up=False, detail=True)
            for end, words in (("low", "at least"), ("high", "at most"))
        ),
        Column("savings_percent", "saved", "percent", "%", description="Of the counterfactual."),
        *(
            money(f"driver_{driver}", words, currency, "Part of the savings; costs are negative.", detail=True)
            for driver, words in DRIVERS.items()
        ),
    )


def savings_table(account: Account, by: Sequence[str], made: Provenance, generated_at_ms: int) -> ReportTable:
    """One row for each line by `by`. Every column adds up to its total, but for percentages and ends of intervals."""
    return account_table(
        account,
        by,
        name="savings",
        columns=_columns(account.question.currency.code),
        values_of=_values,
        basis=savings_basis(account, made),
        made=made,
        generated_at_ms=generated_at_ms,
    )


def _values(line: Line) -> tuple[Value, ...]:
    figures = line.figures
    return (
        *(getattr(figures, name) for name, _, _ in COUNTS),
        *(getattr(figures, name) for name, _, _ in _AMOUNTS),
        line.low,
        line.high,
        figures.savings,
        line.low - figures.effective_cost,
        line.high - figures.effective_cost,
        figures.savings_percent,
        *(line.drivers.get(driver, 0) for driver in DRIVERS),
    )
