"""A report's table for people, for programs (JSON) and for spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from policies.money import format_usd
from router.reports.budgets import TABLE_DECIMALS
from router.reports.dimensions import TIMES
from router.reports.periods import local_text
from router.reports.tables import Column, Provenance, ReportTable, Value
from router.stores.entries import as_iso

_RUNS_AS_FORMULA = "=+-@\t\r"
_NAME_WIDTH = 16
"""Cells of the terminal that a name has at least, if it is so long."""
UNFOLDED_COLUMNS = 100_000
"""The width of what is no terminal: more than any line has."""

# ---- for people ----------------------------------------------------------------------------------


def print_table(table: ReportTable, console: Console, *, details: bool = False) -> None:
    """Title, rows, total, and what the figures rest on. With `details` the columns of detail, too.

    Where the columns have no room beside each other they are written below each other, a block a row.
    """
    at = [index for index, column in enumerate(table.columns) if details or not column.detail]
    columns = [table.columns[index] for index in at]
    rows = [
        (row is table.total, [_shown(table.columns[index], row[index], table.timezone) for index in at])
        for row in _rows_and_total(table)
    ]
    console.print(Text(title_of(table), style="bold"))
    widths = _widths(columns, [cells for _, cells in rows], console.width)
    if not table.rows:
        console.print("nothing in this time", "")
    elif widths:
        console.print(_grid(columns, widths, rows), "")
    else:
        for _, cells in rows:
            console.print(_block(columns, cells, console.width), "")
    for sentence in table.basis:
        console.print(Text(sentence, style="bold yellow" if sentence.startswith("SIMULATED") else "dim"))


def title_of(table: ReportTable) -> str:
    return title_text(table.title, table.filters, table.from_ms, table.to_ms, table.timezone)


def title_text(title: str, filters: Iterable[tuple[str, str]], from_ms: int, to_ms: int, timezone: str) -> str:
    only = "".join(f", {name} {value}" for name, value in filters)
    return f"{title}{only}: {_span_text(from_ms, to_ms, timezone)}"


def _span_text(from_ms: int, to_ms: int, timezone: str) -> str:
    """To the minute; with offsets where one time of the clock stands for both ends, for an hour may come twice."""
    start, end = (local_text(at, timezone).replace("T", " ") for at in (from_ms, to_ms))
    return f"{start} to {end} {timezone}" if start[:16] == end[:16] else f"{start[:16]} to {end[:16]} {timezone}"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """The width of each column beside the others; none where there is no room for all of them.

    Amounts and times are never cut short: only headings, between words, and long names fold. Reckoned here, for rich
    takes what is missing from the widest columns, whatever they say that they need.
    """
    least, most = [], []
    for column, cells in zip(columns, zip(*rows, strict=True), strict=False):
        widest, heading = max(map(cell_len, cells)), _heading(column)
        whole = min(widest, _NAME_WIDTH) if _is_name(column) else widest
        least.append(max(whole, _longest_word(heading)))
        most.append(max(widest, cell_len(heading)))
    spare = room - sum(least) - (len(least) - 1)
    if spare < 0:
        return []
    widths = []
    for narrow, wide in zip(least, most, strict=True):
        more = min(spare, wide - narrow)
        spare -= more
        widths.append(narrow + more)
    return widths


def _grid(columns: Sequence[Column], widths: Sequence[int], rows: Iterable[tuple[bool, Sequence[str]]]) -> Table:
    """Of each row whether it is the total, and its cells."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        is_text = column.kind in ("text", "instant")
        grid.add_column(_heading(column), justify="left" if is_text else "right", overflow="fold", width=width)
    for is_total, cells in rows:
        grid.add_row(*(Text(cell, style="bold" if is_total else "") for cell in cells))
    return grid


def _rows_and_total(table: ReportTable) -> Iterator[tuple[Value, ...]]:
    """The total of a single row would be the row again."""
    yield from table.rows
    if table.total is not None and len(table.rows) > 1:
        yield table.total


def _block(columns: Sequence[Column], cells: Sequence[str], room: int) -> Table:
    """Headings give way to amounts, as far as to their longest word."""
    headings = [_heading(column) for column in columns]
    amounts = [cell_len(cell) for column, cell in zip(columns, cells, strict=True) if not _is_name(column)]
    beside = max(max(amounts, default=0), room - 1 - max(map(cell_len, headings)))
    width = min(beside, room - 1 - max(map(_longest_word, headings)), max(map(cell_len, cells)))
    block = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    block.add_column(overflow="fold")
    block.add_column(justify="right", overflow="fold", width=max(width, 1))
    for column, heading, cell in zip(columns, headings, cells, strict=True):
        style = "bold" if column.dimension else ""
        block.add_row(Text(heading, style=style), Text(cell, style=style))
    return block


def _is_name(column: Column) -> bool:
    """Whether it may be folded: an hour is a text, and yet a time."""
    return column.kind == "text" and column.name not in TIMES


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _heading(column: Column) -> str:
    sign = "$" if column.unit == "USD" else column.unit
    return f"{column.title} {sign}" if column.kind == "money" else column.title


def _shown(column: Column, value: Value, timezone: str) -> str:
    if value is None:
        return "" if column.dimension else "-"
    if column.kind == "money":
        return format_usd(int(value), TABLE_DECIMALS)
    if column.kind == "instant":
        return local_text(int(value), timezone)
    return f"{value} %" if column.kind == "percent" else str(value)


# ---- for programs --------------------------------------------------------------------------------


def table_as_json(table: ReportTable) -> dict[str, Any]:
    """Amounts twice: as decimals (strings, exact) and as integer billionths of the currency."""
    return {
        "report": table.name,
        "title": table.title,
        "from": as_iso(table.from_ms),
        "to": as_iso(table.to_ms),
        "timezone": table.timezone,
        "currency": table.currency,
        "generated_at": as_iso(table.generated_at_ms),
        "filters": filters_as_json(table.filters),
        "unmatched_filters": filters_as_json(table.unmatched),
        "columns": [_column_as_json(column) for column in table.columns],
        "rows": [row_as_json(table, row) for row in table.rows],
        "total": None if table.total is None else row_as_json(table, table.total),
        "basis": list(table.basis),
        "simulated": table.simulated,
        "provenance": provenance_as_json(table.provenance),
    }


def row_as_json(table: ReportTable, row: Sequence[Value]) -> dict[str, Any]:
    return {
        key: value for column, cell in zip(table.columns, row, strict=True) for key, value in _as_json(column, cell)
    }


def amounts_as_json(name: str, amount: int | None, currency: str) -> dict[str, str | int | None]:
    """Under `<name>_usd` the decimal, under `<name>_nusd` the billionths; other currencies likewise."""
    unit = currency.lower()
    return {f"{name}_{unit}": None if amount is None else format_usd(amount), f"{name}_n{unit}": amount}


def filters_as_json(filters: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in filters]


def provenance_as_json(made: Provenance) -> dict[str, Any]:
    return {
        "prices_sha256": made.prices_sha256,
        "estimators": list(made.estimators),
        "ledger_until": as_iso(made.ledger_until_ms),
        "closed_until": {source: as_iso(end_ms) for source, end_ms in made.closed_until_ms.items()},
    }


def _as_json(column: Column, value: Value) -> Iterator[tuple[str, Any]]:
    if column.kind == "money":
        yield from amounts_as_json(column.name, None if value is None else int(value), column.unit).items()
    elif column.kind == "instant":
        yield column.name, as_iso(None if value is None else int(value))
    else:
        yield column.name, str(value) if isinstance(value, Decimal) else value


def _column_as_json(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "title": column.title,
        "kind": column.kind,
        "unit": column.unit,
        "dimension": column.dimension,
        "adds_up": column.adds_up,
        "description": column.description,
    }


# ---- for spreadsheets ----------------------------------------------------------------------------


def table_as_csv(table: ReportTable) -> str:
    """One row a line, and the total last, which `line` tells apart; amounts as in JSON."""
    dimensions = [column.name for column in table.columns if column.dimension]
    rows = [{"line": "line"} | row_as_json(table, row) for row in table.rows]
    if table.total is not None:
        rows.append({"line": "total"} | row_as_json(table, table.total))
    heads = [key for column in table.columns for key, _ in _as_json(column, None)]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["line", *heads], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {name: without_formula(row[name]) for name in dimensions})
    return text.getvalue()


def without_formula(name: str | None) -> str | None:
    """A spreadsheet would run a name that looks like a formula."""
    return f"'{name}" if name and name[:1] in _RUNS_AS_FORMULA else name
