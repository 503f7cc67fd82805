"""`export`: a report's table as the bytes of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import orjson

from router.reports.exports.drawing import Picture
from router.reports.exports.page import html_page
from router.reports.exports.parquet import PhysicalType, TypedColumn, parquet_bytes
from router.reports.tables import Column, ColumnKind, ReportTable

Format = Literal["html", "parquet"]
CONTENT_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
"""By format, which is the suffix of its files, too. CSV and JSON are made in `router.reports.render`."""

_TYPES: dict[ColumnKind, PhysicalType] = {
    "text": "text",
    "count": "integer",
    "percent": "decimal",
    "number": "decimal",
    "instant": "instant",
}


def export(table: ReportTable, format: Format, curves: Sequence[Picture] = ()) -> bytes:
    """The whole file. `curves` are pictures for a page to show, which the table alone does not hold."""
    return html_page(table, curves) if format == "html" else table_as_parquet(table)


def table_as_parquet(table: ReportTable) -> bytes:
    """The rows, without their total: who reads them adds up for themselves.

    Money stands there twice, as in JSON: `savings_usd` is the decimal, `savings_nusd` the integer of billionths from
    which it comes. What the report rests on is in the metadata of the file.
    """
    columns = list(_typed_columns(table))
    return parquet_bytes(columns, {"parsimony.report": orjson.dumps(_about(table)).decode()})


def _typed_columns(table: ReportTable) -> Iterator[TypedColumn]:
    for at, column in enumerate(table.columns):
        values = [row[at] for row in table.rows]
        if column.kind == "money":
            unit = column.unit.lower()
            yield TypedColumn(f"{column.name}_{unit}", "amount", values, True, _description(column))
            yield TypedColumn(f"{column.name}_n{unit}", "billionths", values, True, f"billionths of {column.unit}")
        else:
            yield TypedColumn(column.name, _TYPES[column.kind], values, True, _description(column))


def _description(column: Column) -> str:
    return "; ".join(filter(None, (column.description or column.title, column.unit)))


def _about(table: ReportTable) -> dict[str, Any]:
    provenance = table.provenance
    return {
        "name": table.name,
        "title": table.title,
        "from_ms": table.from_ms,
        "to_ms": table.to_ms,
        "timezone": table.timezone,
        "generated_at_ms": table.generated_at_ms,
        "currency": table.currency,
        "simulated": table.simulated,
        "basis": table.basis,
        "filters": table.filters,
        "prices_sha256": provenance.prices_sha256,
        "estimators": provenance.estimators,
        "ledger_until_ms": provenance.ledger_until_ms,
        "closed_until_ms": dict(provenance.closed_until_ms),
    }
