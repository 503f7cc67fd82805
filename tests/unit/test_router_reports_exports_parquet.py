"""What is written as Parquet comes back by another reader: exact amounts, types, nulls, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.reports.exports.parquet import TypedColumn, parquet_bytes

NANOS = st.integers(-(2**63) + 1, 2**63 - 1)


def read(tmp_path: Path, content: bytes, query: str = "SELECT * FROM '{file}'") -> list[tuple[Any, ...]]:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with duckdb.connect() as connection:
        return connection.sql(query.format(file=path)).fetchall()


def written(*columns: TypedColumn) -> bytes:
    return parquet_bytes(columns, {"of": "tests"})


COLUMNS = (
    TypedColumn("team", "text", ["süpport", None, "'); DROP TABLE teams; --"]),
    TypedColumn("requests", "integer", [1, None, 2**62]),
    TypedColumn("cost", "amount", [1, None, -12_345_678_901_234_567_890]),
    TypedColumn("nanos", "billionths", [1, None, -(10**37)]),
    TypedColumn("share", "decimal", [Decimal("12.5"), None, Decimal("-0.000000001")]),
    TypedColumn("at", "instant", [1_795_336_200_123, None, 0]),
    TypedColumn("simulated", "boolean", [True, None, False]),
)


def test_every_type_comes_back_as_it_was(tmp_path: Path) -> None:
    query = 'SELECT * REPLACE (epoch_ms("at") AS "at") FROM \'{file}\''
    first, second, third = read(tmp_path, written(*COLUMNS), query)
    assert first == ("süpport", 1, Decimal("1E-9"), 1, Decimal("12.5"), 1_795_336_200_123, True)
    assert second == (None,) * len(COLUMNS)
    nano = Decimal("-0.000000001")
    assert third == ("'); DROP TABLE teams; --", 2**62, Decimal("-12345678901.234567890"), -(10**37), nano, 0, False)


def test_the_types_are_those_of_a_ledger(tmp_path: Path) -> None:
    rows = read(tmp_path, written(*COLUMNS), "DESCRIBE SELECT * FROM '{file}'")
    assert [row[1] for row in rows] == [
        "VARCHAR", "BIGINT", "DECIMAL(38,9)", "DECIMAL(38,0)", "DECIMAL(38,9)", "TIMESTAMP WITH TIME ZONE", "BOOLEAN",
    ]  # fmt: skip


def test_what_the_file_rests_on_is_in_its_footer(tmp_path: Path) -> None:
    rows = read(tmp_path, written(*COLUMNS), "SELECT key, value FROM parquet_kv_metadata('{file}')")
    assert (b"of", b"tests") in rows


def test_a_table_of_no_rows_still_has_its_columns(tmp_path: Path) -> None:
    empty = [TypedColumn(column.name, column.type, []) for column in COLUMNS]
    assert read(tmp_path, written(*empty)) == []
    names = [row[0] for row in read(tmp_path, written(*empty), "DESCRIBE SELECT * FROM '{file}'")]
    assert names == [column.name for column in COLUMNS]


@settings(max_examples=25)
@example([-(2**63) + 1, 2**63 - 1, 0, None, 1, -1, 10**9, -(10**9) + 1])
@given(st.lists(NANOS | st.none(), max_size=50))
def test_no_amount_loses_a_billionth(tmp_path_factory: pytest.TempPathFactory, nanos: Sequence[int | None]) -> None:
    columns = (TypedColumn("cost", "amount", nanos), TypedColumn("nano", "billionths", nanos))
    rows = read(tmp_path_factory.getbasetemp(), written(*columns))
    assert [nano for _, nano in rows] == list(nanos)
    assert [None if cost is None else int(cost * 10**9) for cost, _ in rows] == list(nanos)


def test_a_decimal_that_would_be_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 9 places"):
        written(TypedColumn("share", "decimal", [Decimal("0.0000000001")]))


def test_what_does_not_fit_is_never_silently_null() -> None:
    with pytest.raises(AssertionError, match="cost holds what amount cannot"):
        written(TypedColumn("cost", "amount", [10**38]))
