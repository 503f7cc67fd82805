"""A report as the bytes of a file, in any of its formats, and what the file is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import orjson

from router.reports.exports.drawing import Picture
from router.reports.exports.formats import export
from router.reports.overview import Overview, overview_as_csv, overview_as_json
from router.reports.periods import ReportPeriod
from router.reports.render import table_as_csv, table_as_json
from router.reports.tables import ReportTable

FileFormat = Literal["json", "csv", "html", "parquet"]
OverviewFormat = Literal["json", "csv"]
"""The others hold one table, which an overview is not."""


def file_name(report: str, period: ReportPeriod, suffix: str, by: Sequence[str] = ()) -> str:
    """`savings-by-team-2026-11.html`: the same for each making of the same report, by a schedule or by hand."""
    return f"{'-'.join((report, *(('by', *by) if by else ()), period.label))}.{suffix}"


def table_as_bytes(table: ReportTable, format: FileFormat, curves: Sequence[Picture] = ()) -> bytes:
    """`curves` are pictures for a page to show, which the table alone does not hold."""
    if format == "json":
        return _json_bytes(table_as_json(table))
    if format == "csv":
        return table_as_csv(table).encode()
    return export(table, format, curves)


def overview_as_bytes(shown: Overview, format: OverviewFormat) -> bytes:
    return _json_bytes(overview_as_json(shown)) if format == "json" else overview_as_csv(shown).encode()


def _json_bytes(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"
