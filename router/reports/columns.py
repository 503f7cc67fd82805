"""What the tables of accounts have in common: columns, names, totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policies.drivers import DRIVERS
from router.reports.account import Account, Line
from router.reports.dimensions import CAUSE, CAUSES, DRIVER, NO_DRIVER, title_of
from router.reports.tables import Column, Provenance, ReportTable, Value

COUNTS = (
    ("request_count", "requests", "requests"),
    ("measuring_count", "shadow and judge calls", "requests"),
    ("input_tokens", "input tokens", "tokens"),
    ("output_tokens", "output tokens", "tokens"),
    ("cached_input_tokens", "cached input tokens", "tokens"),
    ("reasoning_tokens", "reasoning tokens", "tokens"),
)
"""Of `Figures`: name, title, unit. Tokens are those of all calls."""
_WORDS: dict[str, dict[str, str]] = {
    DRIVER: {**{str(name): words for name, words in DRIVERS.items()}, NO_DRIVER: "no difference"},
    CAUSE: CAUSES,
}


def _by_columns(by: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, title_of(name), "text", dimension=True) for name in by)


def _names_of(line: Line, by: Sequence[str]) -> tuple[str, ...]:
    """For people: drivers and causes in words."""
    return tuple(_WORDS.get(name, {}).get(label, label) for name, label in zip(by, line.names, strict=True))


def counts() -> tuple[Column, ...]:
    return tuple(
        Column(name, title, "count", unit, adds_up=True, detail=name != "request_count") for name, title, unit in COUNTS
    )


def money(
    name: str, title: str, currency: str, description: str = "", *, adds_up: bool = True, detail: bool = False
) -> Column:
    return Column(name, title, "money", currency, adds_up=adds_up, description=description, detail=detail)


def account_table(
    account: Account,
    by: Sequence[str],
    *,
    name: str,
    columns: Sequence[Column],
    values_of: Callable[[Line], Iterable[Value]],
    basis: Iterable[str],
    made: Provenance,
    generated_at_ms: int,
) -> ReportTable:
    """One row for each line by `by`, and the total. `columns` are those of `values_of`."""
    question, total = account.question, account.total
    return ReportTable(
        name=name,
        title=name.capitalize(),
        from_ms=question.period.from_ms,
        to_ms=question.period.to_ms,
        timezone=question.period.timezone,
        generated_at_ms=generated_at_ms,
        columns=(*_by_columns(by), *columns),
        rows=tuple((*_names_of(line, by), *values_of(line)) for line in account.lines(by)),
        total=(*("total" if at == 0 else None for at in range(len(by))), *values_of(total)),
        basis=tuple(basis),
        filters=question.filters,
        unmatched=account.unmatched,
        currency=question.currency.code,
        simulated=account.simulated,
        provenance=made,
    )
