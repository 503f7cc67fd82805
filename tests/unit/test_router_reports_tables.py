"""The neutral table of reports: rows by name, and no table that does not add up."""

from __future__ import annotations

from typing import Any

import pytest

from router.reports.tables import Column, ReportTable

COLUMNS = (
    Column("team", "Team", "text", dimension=True),
    Column("requests", "requests", "count", "requests", adds_up=True),
    Column("savings", "saved", "money", "USD", adds_up=True),
)


def table(**changes: Any) -> ReportTable:
    values: dict[str, Any] = {
        "name": "savings",
        "title": "Savings",
        "from_ms": 0,
        "to_ms": 1,
        "timezone": "UTC",
        "generated_at_ms": 2,
        "columns": COLUMNS,
        "rows": (("sales", 1, 5), ("support", 2, -7)),
        "total": ("total", 3, -2),
    }
    return ReportTable(**{**values, **changes})


def test_rows_are_read_by_name() -> None:
    assert list(table().records())[1] == {"team": "support", "requests": 2, "savings": -7}
    assert table().total_record() == {"team": "total", "requests": 3, "savings": -2}
    assert table(total=None).total_record() == {}


def test_nothing_counts_as_nothing() -> None:
    assert table(rows=(("sales", None, 5), ("support", 3, -7))).total_record()["requests"] == 3


def test_a_table_that_does_not_add_up_cannot_be_made() -> None:
    with pytest.raises(AssertionError, match="savings adds up to -2, not to -1"):
        table(total=("total", 3, -1))


def test_a_row_has_a_value_for_each_column() -> None:
    with pytest.raises(AssertionError, match="2 values for 3 columns"):
        table(rows=(("sales", 1),))
