"""Reports' tables for tests: of savings, by what is asked for, that add up as real ones do."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from router.reports.tables import Column, Provenance, ReportTable, Value

DRIVERS = ("smaller_model", "response_cache", "idle_gpu")
OF_SAVINGS = (
    Column("request_count", "requests", "count", "requests", adds_up=True),
    Column("effective_cost", "spent", "money", "USD", adds_up=True),
    Column("counterfactual", "on the baseline", "money", "USD", adds_up=True),
    Column("counterfactual_low", "at least", "money", "USD"),
    Column("counterfactual_high", "at most", "money", "USD"),
    Column("savings", "saved", "money", "USD", adds_up=True, description="Counterfactual less effective cost."),
    Column("savings_low", "saved at least", "money", "USD", detail=True),
    Column("savings_high", "saved at most", "money", "USD", detail=True),
    Column("savings_percent", "saved", "percent", "%"),
    *(Column(f"driver_{name}", name.replace("_", " "), "money", "USD", adds_up=True, detail=True) for name in DRIVERS),
)


def savings_row(counterfactual: int, drivers: Sequence[int], width: int = 0) -> tuple[Value, ...]:
    saved = sum(drivers)
    percent = None if counterfactual == 0 else round(Decimal(100 * saved) / counterfactual, 1)
    return (
        3, counterfactual - saved, counterfactual, counterfactual - width, counterfactual + width, saved,
        saved - width, saved + width, percent, *drivers,
    )  # fmt: skip


def savings_table(
    rows: dict[tuple[str, ...], tuple[Value, ...]], by: Sequence[str] = ("team",), *, simulated: bool = False
) -> ReportTable:
    columns = (*(Column(name, name.title(), "text", dimension=True) for name in by), *OF_SAVINGS)
    lines = tuple((*names, *values) for names, values in rows.items())
    sums = [
        sum(line[at] or 0 for line in lines) if column.adds_up else None  # type: ignore[misc]
        for at, column in enumerate(columns)
    ]
    return ReportTable(
        name="savings",
        title="Savings",
        from_ms=1_793_491_200_000,
        to_ms=1_796_083_200_000,
        timezone="Europe/Berlin",
        generated_at_ms=1_796_090_000_000,
        columns=columns,
        rows=lines,
        total=tuple("total" if at == 0 and by else value for at, value in enumerate(sums)),
        basis=("The counterfactual is an estimate & no more.",),
        simulated=simulated,
        provenance=Provenance("ab" * 32, ("length/1",), 1_796_083_200_000, {"mistral-7b": None}),
    )
