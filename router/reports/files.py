"""A report's table as the bytes of a file, in any of its formats, and what the file is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson

from router.reports.exports.drawing import Picture
from router.reports.exports.formats import export
from router.reports.periods import ReportPeriod
from router.reports.render import table_as_csv, table_as_json
from router.reports.tables import ReportTable

FileFormat = Literal["json", "csv", "html", "parquet"]


def file_name(report: str, period: ReportPeriod, suffix: str, by: Sequence[str] = ()) -> str:
    """`savings-by-team-2026-11.html`: the same for each making of the same report, by a schedule or by hand."""
    return f"{'-'.join((report, *(('by', *by) if by else ()), period.label))}.{suffix}"


def table_as_bytes(table: ReportTable, format: FileFormat, curves: Sequence[Picture] = ()) -> bytes:
    """`curves` are pictures for a page to show, which the table alone does not hold."""
    if format == "json":
        return orjson.dumps(table_as_json(table), option=orjson.OPT_INDENT_2) + b"\n"
    if format == "csv":
        return table_as_csv(table).encode()
    return export(table, format, curves)
