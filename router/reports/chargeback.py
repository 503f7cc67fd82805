"""Who is charged what: every nano-dollar that a period really cost, shared out among those who used it."""

from __future__ import annotations

from collections.abc import Sequence

from router.reports.account import Account, Line
from router.reports.basis import cost_basis
from router.reports.columns import COUNTS, account_table, counts, money
from router.reports.dimensions import DIMENSIONS, DRIVER
from router.reports.tables import Column, Provenance, ReportTable, Value

CHARGEABLE = tuple(name for name in DIMENSIONS if name != DRIVER)
_BY_WHAT = (
    "Hours of a machine that nobody used are charged to those who used it at other times, by what was booked for them, "
    "and the router's machine by requests. What nobody used at all is charged to nobody, on a line of its own."
)


def _columns(currency: str) -> tuple[Column, ...]:
    return (
        *counts(),
        money("list_cost", "list cost", currency, "Requests at list price."),
        money("measuring_cost", "shadow and judge calls", currency, "What measuring cost, at list price."),
        money("idle_cost", "idle machines", currency, "What machines cost beyond what was booked for them."),
        money("router_cost", "router's machine", currency, "Shared out by requests."),
        money("charged", "charged", currency, "The sum of these: the effective cost."),
    )


def chargeback_table(account: Account, by: Sequence[str], made: Provenance, generated_at_ms: int) -> ReportTable:
    """`account` was taken with `spread`. What is charged adds up to the effective cost of the period exactly."""
    return account_table(
        account,
        by,
        name="chargeback",
        columns=_columns(account.question.currency.code),
        values_of=_values,
        basis=(*cost_basis(account, made), _BY_WHAT),
        made=made,
        generated_at_ms=generated_at_ms,
    )


def _values(line: Line) -> tuple[Value, ...]:
    figures = line.figures
    return (
        *(getattr(figures, name) for name, _, _ in COUNTS),
        figures.list_cost - figures.measuring_cost,
        figures.measuring_cost,
        figures.idle_cost,
        figures.router_cost,
        figures.effective_cost,
    )
