"""`ReportTable`: what every report comes to, and all that those who print, export or send one need to know.

A table that does not add up cannot be made: its total is checked against its rows, to the last billionth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

ColumnKind = Literal["text", "count", "money", "percent", "number", "instant"]
"""How a column's values are written:

- `text`: str.
- `count`: int, of what `unit` says (requests, tokens, hours).
- `money`: int, billionths of the currency that `unit` names: 1_500_000_000 with unit USD is $1.50.
- `percent`: Decimal, 12.5 is 12.5 %.
- `number`: Decimal, of what `unit` says.
- `instant`: int, Unix milliseconds.
"""
Value = str | int | Decimal | None
"""None where there is no such value: a percentage of nothing."""


@dataclass(frozen=True, slots=True)
class Column:
    """`name` is for programs and never changes; `title` is for people.

    A column that `adds_up` has the sum of its rows as its total. A `dimension` is one of those in which the rows
    differ: teams, models, days. A `detail` is left out where there is room for a few columns only.
    """

    name: str
    title: str
    kind: ColumnKind
    unit: str = ""
    adds_up: bool = False
    dimension: bool = False
    description: str = ""
    detail: bool = False


@dataclass(frozen=True, slots=True)
class Provenance:
    """From what a report was made, so that it can be made again.

    `prices_sha256` is the hash of the price file, `estimators` the versions that estimated counterfactuals, in the
    ledger and in the report; `ledger_until_ms` the end of the newest hour of the ledger in the report,
    `closed_until_ms` by machine the end of its newest closed hour, None where none is closed.
    """

    prices_sha256: str | None = None
    estimators: tuple[str, ...] = ()
    ledger_until_ms: int | None = None
    closed_until_ms: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows and their total over [from_ms, to_ms), Unix milliseconds. `name` is that of the report: savings, chargeback.

    `basis` says in sentences what the figures rest on: whoever shows the table shows them, too. Days and months are
    those of `timezone`. `filters` are the names and values that it is restricted to, `unmatched` those of them that
    nothing in it answers to. A report that has no sense of a total has None for it.
    """

    name: str
    title: str
    from_ms: int
    to_ms: int
    timezone: str
    generated_at_ms: int
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    total: tuple[Value, ...] | None
    basis: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    unmatched: tuple[tuple[str, str], ...] = ()
    currency: str = "USD"
    simulated: bool = False
    """Whether any of it was never paid to anyone."""
    provenance: Provenance = Provenance()

    def __post_init__(self) -> None:
        for row in (*self.rows, *([] if self.total is None else [self.total])):
            assert len(row) == len(self.columns), f"{len(row)} values for {len(self.columns)} columns: {row}"
        for at, column in enumerate(self.columns):
            if column.adds_up and self.total is not None:
                found = sum(row[at] or 0 for row in self.rows)  # type: ignore[misc]
                assert found == self.total[at], f"{column.name} adds up to {found}, not to {self.total[at]}"

    def records(self) -> Iterator[dict[str, Value]]:
        """The rows by the names of their columns."""
        return map(self.as_record, self.rows)

    def total_record(self) -> dict[str, Value]:
        """The total by the names of the columns; empty where there is none."""
        return self.as_record(self.total) if self.total is not None else {}

    def as_record(self, row: Sequence[Value]) -> dict[str, Value]:
        return dict(zip((column.name for column in self.columns), row, strict=True))
