"""Where sums over a span of time come from: whole hours from the hourly sums, the rest from the records."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, false, func, literal, or_
from sqlalchemy.sql.elements import ColumnElement

from router.stores.cells import HOUR_MS
from router.stores.sql_rows import SUMS
from router.stores.sql_schema import HOURLY_SUMS, LEDGER, LEDGER_DIMENSIONS


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows that can be summed up: `source` holds them, within `within`, beside their dimensions."""

    source: FromClause
    within: tuple[ColumnElement[bool], ColumnElement[bool]]
    rolled_up: bool

    def column(self, name: str) -> ColumnElement[Any]:
        """A dimension, or what is summed up."""
        if name == "hour_ms":
            return HOURLY_SUMS.c.hour_ms if self.rolled_up else LEDGER.c.started_at_ms // HOUR_MS * HOUR_MS
        if not self.rolled_up:
            return literal(1) if name == "request_count" else LEDGER.c[name]
        return HOURLY_SUMS.c[name] if name in ("request_count", *SUMS) else LEDGER_DIMENSIONS.c[name]

    def bucket(self, bucket_ms: int) -> ColumnElement[int]:
        """The number of the part of `bucket_ms` since 1970; of hourly sums, of no parts but hours."""
        return (HOURLY_SUMS.c.hour_ms if self.rolled_up else LEDGER.c.started_at_ms) // bucket_ms

    def total(self, name: str) -> ColumnElement[int]:
        return func.count() if name == "request_count" and not self.rolled_up else func.sum(self.column(name))


def facts(from_ms: int, to_ms: int, *, by_hours: bool) -> Iterator[Facts]:
    """All that started in [from_ms, to_ms). Without `by_hours` the records are asked, for what no sum has."""
    first_ms, end_ms = -(-from_ms // HOUR_MS) * HOUR_MS, to_ms // HOUR_MS * HOUR_MS
    if not by_hours or first_ms >= end_ms:
        yield from _of_records(from_ms, to_ms)
        return
    yield from _of_records(from_ms, first_ms)
    yield Facts(_HOURS, (HOURLY_SUMS.c.hour_ms >= first_ms, HOURLY_SUMS.c.hour_ms < end_ms), rolled_up=True)
    yield from _of_records(end_ms, to_ms)


_HOURS = LEDGER_DIMENSIONS.join(HOURLY_SUMS, HOURLY_SUMS.c.dimension_id == LEDGER_DIMENSIONS.c.id)


def _of_records(from_ms: int, to_ms: int) -> Iterator[Facts]:
    if from_ms < to_ms:
        yield Facts(LEDGER, (LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms), rolled_up=False)


def let_in(column: ColumnElement[Any], values: Collection[str | bool | None]) -> ColumnElement[bool]:
    """Whether it holds one of `values`."""
    known = [value for value in values if value is not None]
    found = column.in_(known) if known else false()
    return or_(found, column.is_(None)) if None in values else found
