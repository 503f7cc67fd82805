"""Where budgets stand, how long they will last, and what was used of them in windows gone by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from policies.budget import Budget, BudgetState
from policies.budget_terms import amount_in_unit, budget_name
from policies.forecast import exhausted_at, recent_span
from policies.money import NUSD_PER_USD, format_usd
from policies.periods import Period, period_at
from router.reports.bars import BAR_CELLS, bar, bare_table
from router.stores.administration import used_in
from router.stores.base import Ledger
from router.stores.entries import amount_as_json, budget_state_as_json

TABLE_DECIMALS = 4
STANDING_COLUMNS = 136
"""How wide a terminal must be for the table of standings with a name of usual length."""
MAX_WINDOWS = 120


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget's state, when its window ends, if ever, and when it will be used up (None: it will last)."""

    state: BudgetState
    ends_at: datetime | None
    exhausted_at: datetime | None


@dataclass(frozen=True, slots=True)
class WindowUse:
    """What was used of a budget in one window, in its unit; `users` is how many did, for a budget of every user."""

    period: Period
    used: int
    users: int


# ---- facts ---------------------------------------------------------------------------------------


def standings(ledger: Ledger, states: Sequence[BudgetState], now: datetime) -> tuple[Standing, ...]:
    """Each state with its forecast, for which the ledger is asked how fast each budget was used of late."""
    return tuple(Standing(state, window_end(state.budget, now), forecast(ledger, state, now)) for state in states)


def window_end(budget: Budget, now: datetime) -> datetime | None:
    """When the current window of a calendar ends; the others end never, or always."""
    window = budget.parsed_window
    return period_at(window, now, budget.timezone).end if window.is_calendar else None


def history(ledger: Ledger, budget: Budget, now: datetime, count: int) -> tuple[WindowUse, ...]:
    """The last `count` windows, the current one first, by the ledger; none for what is only held, as requests at once.

    A rolling window's are the spans of its length that end now, one length ago, and so on.
    """
    if budget.unit == "parallel":
        return ()
    found = []
    for period in _windows_back(budget, now, min(count, MAX_WINDOWS)):
        used = used_in(ledger, budget, period)
        users = sum(amount > 0 for amount in used.values()) if budget.is_of_every_user else 0
        found.append(WindowUse(period, sum(used.values()), users))
    return tuple(found)


def forecast(ledger: Ledger, state: BudgetState, now: datetime) -> datetime | None:
    """When the budget will be used up at the rate of late, by the ledger; None where it will last."""
    span = recent_span(state.budget)
    if span is None:
        return None
    recent = 0
    if state.spent:  # a budget that nobody has drawn on lasts: thousands of idle keys must not cost a query each
        recent = used_in(ledger, state.budget, Period("", now - span, now)).get(state.end_user, 0)
    return exhausted_at(state, recent, now)


def _windows_back(budget: Budget, now: datetime, count: int) -> Iterator[Period]:
    window, instant = budget.parsed_window, now
    for _ in range(count):
        period = period_at(window, instant, budget.timezone)
        yield period
        if window.name == "lifetime":
            return
        # A calendar's window before this one holds the moment before its beginning; a rolling one's ends there.
        instant = period.start if window.rolling_s else period.start - timedelta(milliseconds=1)


# ---- as JSON values ------------------------------------------------------------------------------


def standing_as_json(standing: Standing) -> dict[str, Any]:
    return budget_state_as_json(standing.state) | {
        "window_ends_at": _iso(standing.ends_at),
        "exhausted_at": _iso(standing.exhausted_at),
    }


def window_use_as_json(budget: Budget, use: WindowUse) -> dict[str, Any]:
    return {
        "window_label": use.period.label,
        "from": _iso(use.period.start),
        "to": _iso(use.period.end),
        **amount_as_json(budget, "used", use.used),
        **({"users": use.users} if budget.is_of_every_user else {}),
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat(timespec="milliseconds")


# ---- for people ----------------------------------------------------------------------------------


def budget_table(budgets: Sequence[BudgetState], cells: int = BAR_CELLS) -> Table:
    """Where each budget stands; the bar is what is spent or held for requests under way."""
    only_money = all(state.budget.unit == "usd" for state in budgets)
    table = _table_of_amounts(" $" if only_money else "")
    table.add_column("", width=cells)
    for state in budgets:
        table.add_row(*_cells(state, "" if only_money else "$"), _bar(state, cells))
    return table


def standing_table(found: Sequence[Standing], cells: int = BAR_CELLS) -> Table:
    """As `budget_table`, with what decides: when the window ends, and when the budget will be used up."""
    table = _table_of_amounts("")
    table.add_column("used", width=cells + 7)
    table.add_column("window ends", no_wrap=True)
    table.add_column("used up by", no_wrap=True)
    for standing in found:
        state = standing.state
        drawn = Text.assemble(f"{_used_percent(state):>4.0f} % ", _bar(state, cells))
        exhausted = "now" if state.available == 0 else _minute(standing.exhausted_at, "-")
        ends = _minute(standing.ends_at, "rolls on" if state.budget.parsed_window.rolling_s else "never")
        table.add_row(*_cells(state, "$"), drawn, ends, Text(exhausted, style="" if exhausted == "-" else "red"))
    return table


def _table_of_amounts(sign: str) -> Table:
    table = bare_table("Budget")
    table.add_column("window", min_width=8)
    for heading, width in (("limit", 9), ("spent", 10), ("held", 9), ("left", 8)):
        table.add_column(f"{heading}{sign}", justify="right", min_width=width, no_wrap=True)
    return table


def _cells(state: BudgetState, sign: str) -> tuple[Text, ...]:
    budget = state.budget
    name = f"{budget_name(budget)} ({state.end_user})" if state.end_user else budget_name(budget)
    amounts = [_amount(budget, amount, sign) for amount in (state.spent, state.reserved, state.available)]
    limit = amount_in_unit(budget, budget.limit)
    if budget.unit == "usd":
        limit = sign + format_usd(budget.limit, 2 if budget.limit >= NUSD_PER_USD else TABLE_DECIMALS)
    # A label tells one window from the next; where there is no next one, the window's name says more.
    label = state.window_label if budget.parsed_window.is_calendar else budget.window
    return tuple(map(Text, (name, label, limit, *amounts)))


def _amount(budget: Budget, amount: int, sign: str) -> str:
    return f"{sign}{format_usd(amount, TABLE_DECIMALS)}" if budget.unit == "usd" else str(amount)


def _bar(state: BudgetState, cells: int) -> Text:
    return bar(_used_percent(state), cells, style="red" if state.available == 0 else "cyan")


def _used_percent(state: BudgetState) -> Decimal:
    used, limit = state.spent + state.reserved, state.budget.limit
    return (Decimal(100 * used) / limit).quantize(Decimal("0.1")) if limit else Decimal("100.0")


def _minute(instant: datetime | None, otherwise: str) -> str:
    return otherwise if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"
