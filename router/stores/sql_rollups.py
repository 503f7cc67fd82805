"""Building the hourly sums anew from the records: for whoever doubts them, or mended rows by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine, delete, func, insert, select, union

from router.stores.cells import HOUR_MS
from router.stores.sql_engine import reading, writing
from router.stores.sql_rows import SUMS
from router.stores.sql_schema import HOURLY_SUMS, LEDGER, LEDGER_ROWS
from router.stores.sql_state import rows_from_ms
from router.stores.sql_turns import take_turn

_PART_MS = 24 * HOUR_MS
"""So much is built at a time: writers wait no longer than for that."""


def rebuild_rollups(engine: Engine, advance: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Sums up every hour anew whose records are there, and returns how many days that took.

    `advance` is told how many days are done, and of how many. What is booked meanwhile is in the sums like the rest;
    broken off, it leaves sums that are right, and is begun anew. Raises StoreUnavailable.
    """
    with reading(engine) as connection:
        starts = _starts(connection)
    for done, start_ms in enumerate(starts, start=1):
        with writing(engine) as connection:
            take_turn(connection)
            # Asked each time, for records may be let go meanwhile. The sums of their hours are all that is left.
            _rebuild(connection, max(start_ms, _first_whole_hour_ms(connection)), start_ms + _PART_MS)
        advance(done, len(starts))
    return len(starts)


def _starts(connection: Connection) -> list[int]:
    """Of the days that there are records or sums of: years may lie between two of them."""
    columns = LEDGER_ROWS.c.started_at_ms, HOURLY_SUMS.c.hour_ms
    days = union(*(select((column // _PART_MS).label("day")) for column in columns))
    first_ms = _first_whole_hour_ms(connection)
    starts = sorted(day * _PART_MS for day in connection.execute(days).scalars())
    return [start_ms for start_ms in starts if start_ms + _PART_MS > first_ms]


def _first_whole_hour_ms(connection: Connection) -> int:
    """From which on all records of an hour are there."""
    return -(-rows_from_ms(connection) // HOUR_MS) * HOUR_MS


def _rebuild(connection: Connection, from_ms: int, to_ms: int) -> None:
    hour = (LEDGER.c.started_at_ms // HOUR_MS * HOUR_MS).label("hour_ms")
    names: Sequence[str] = ("dimension_id", "hour_ms", "request_count", *SUMS)
    summed = (
        select(LEDGER.c.dimension_id, hour, func.count(), *(func.sum(LEDGER.c[name]) for name in SUMS))
        .where(LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms)
        .group_by(LEDGER.c.dimension_id, hour)
    )
    connection.execute(delete(HOURLY_SUMS).where(HOURLY_SUMS.c.hour_ms >= from_ms, HOURLY_SUMS.c.hour_ms < to_ms))
    connection.execute(insert(HOURLY_SUMS).from_select(names, summed))
