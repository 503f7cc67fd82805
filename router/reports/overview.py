"""The savings report that nobody narrowed down: one total, and several ways to break it down."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.budget import BudgetState
from policies.drivers import DRIVERS
from router.reports.account import Account, Line
from router.reports.basis import provenance, savings_basis
from router.reports.columns import COUNTS
from router.reports.dimensions import CAUSES
from router.reports.library import ReportSource, ReportTerms, account_of, prices_sha256
from router.reports.periods import unix_ms
from router.reports.render import amounts_as_json, filters_as_json, provenance_as_json, without_formula
from router.reports.tables import Provenance
from router.stores.entries import as_iso, budget_state_as_json

BREAKDOWNS = ("cause", "team", "model", "alias", "status")
_AMOUNTS = ("list_cost", "idle_cost", "router_cost", "booked_counterfactual", "exact_counterfactual", "correction")


@dataclass(frozen=True)
class Overview:
    """`budgets` are those to show; where they stand is for the caller to say."""

    account: Account
    made: Provenance
    generated_at_ms: int
    budgets: tuple[BudgetState, ...] = ()

    @property
    def total(self) -> Line:
        return self.account.total

    @property
    def basis(self) -> tuple[str, ...]:
        return savings_basis(self.account, self.made)

    @property
    def currency(self) -> str:
        return self.account.question.currency.code

    @property
    def baseline_models(self) -> tuple[str, ...]:
        return tuple(sorted({str(posting.cell.key["baseline_model"]) for posting in self.account.postings}))

    def lines(self, breakdown: str) -> tuple[Line, ...]:
        lines = self.account.lines((breakdown,))
        return lines if breakdown != "cause" else tuple(sorted(lines, key=_order_of_causes))


def overview(source: ReportSource, terms: ReportTerms, now: datetime, budgets: Sequence[BudgetState] = ()) -> Overview:
    """Raises ValueError with a sentence for a currency or filters that there are not, and StoreUnavailable."""
    account = account_of(source, terms, BREAKDOWNS)
    made = provenance(source.books, account, prices_sha256(source.config))
    return Overview(account, made, unix_ms(now), tuple(budgets))


def _order_of_causes(line: Line) -> int:
    known = list(CAUSES)
    return known.index(line.names[0]) if line.names[0] in known else len(known)


# ---- for programs --------------------------------------------------------------------------------


def overview_as_json(shown: Overview) -> dict[str, Any]:
    """Amounts twice: as decimals (strings, exact) and as integer billionths."""
    account, figures = shown.account, shown.total.figures
    period, where = account.question.period, account.question.where
    return {
        "from": as_iso(period.from_ms),
        "to": as_iso(period.to_ms),
        "timezone": period.timezone,
        "generated_at": as_iso(shown.generated_at_ms),
        "currency": shown.currency,
        "team": next(iter(where.get("team", ())), None),
        "filters": filters_as_json(account.question.filters),
        "unmatched_filters": filters_as_json(account.unmatched),
        "baseline_models": list(shown.baseline_models),
        "total": line_as_json(shown.total, shown.currency),
        **{f"by_{name}": [line_as_json(line, shown.currency) for line in shown.lines(name)] for name in BREAKDOWNS},
        "counterfactual": {
            "estimate": figures.exact_counterfactual != figures.counterfactual,
            "basis": list(shown.basis),
            "sample_count": account.corrections.sample_count,
            **amounts_as_json("measured", figures.exact_counterfactual, shown.currency),
        },
        "simulated": account.simulated,
        "simulated_request_count": figures.simulated_count,
        "provenance": provenance_as_json(shown.made),
        "budgets": [budget_state_as_json(state) for state in shown.budgets],
    }


def line_as_json(line: Line, currency: str) -> dict[str, Any]:
    figures = line.figures
    amounts = {
        "realised": figures.effective_cost,
        "counterfactual": figures.counterfactual,
        "counterfactual_low": line.low,
        "counterfactual_high": line.high,
        "saved": figures.savings,
        **{name: getattr(figures, name) for name in _AMOUNTS},
        **{f"driver_{driver}": line.drivers.get(driver, 0) for driver in DRIVERS},
    }
    values: dict[str, Any] = {"name": line.names[0]} | {name: getattr(figures, name) for name, _, _ in COUNTS}
    for name, amount in amounts.items():
        values |= amounts_as_json(name, amount, currency)
    share = figures.savings_percent
    return values | {"saved_percent": None if share is None else str(share)}


# ---- for spreadsheets ----------------------------------------------------------------------------


def overview_as_csv(shown: Overview) -> str:
    """One row a line of every breakdown, the total first; `breakdown` tells them apart."""
    rows = [{"breakdown": "total"} | line_as_json(shown.total, shown.currency)]
    for name in BREAKDOWNS:
        rows += [{"breakdown": f"by_{name}"} | line_as_json(line, shown.currency) for line in shown.lines(name)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"name": without_formula(row["name"])} for row in rows)
    return text.getvalue()
