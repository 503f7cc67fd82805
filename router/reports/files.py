"""A report's table as the bytes of a file, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson

from router.reports.exports.formats import export
from router.reports.render import table_as_csv, table_as_json
from router.reports.tables import ReportTable

FileFormat = Literal["json", "csv", "html", "parquet"]


def table_as_bytes(table: ReportTable, format: FileFormat, curves: Sequence[str] = ()) -> bytes:
    """`curves` are pictures for a page to show, which the table alone does not hold."""
    if format == "json":
        return orjson.dumps(table_as_json(table), option=orjson.OPT_INDENT_2) + b"\n"
    if format == "csv":
        return table_as_csv(table).encode()
    return export(table, format, curves)
