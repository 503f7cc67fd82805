"""What the database holds: how many records, how old and how new, how large, and until when hours are closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select, text

from router.stores.cells import HOUR_MS
from router.stores.sql_engine import reading
from router.stores.sql_schema import HOUR_COSTS, HOURLY_SUMS, LEDGER
from router.stores.sql_state import rows_from_ms


@dataclass(frozen=True, slots=True)
class Holdings:
    """Times are Unix milliseconds, None where there is nothing.

    `request_count` counts all that was ever booked, those let go, too (before `kept_from_ms`, 0 where all are kept);
    `rolled_up_until_ms` is the end of the newest hour with sums. `partitions` by name, with their bytes; none on
    SQLite. `closed_until_ms` by machine.
    """

    database: str
    database_bytes: int
    request_count: int
    oldest_ms: int | None
    newest_ms: int | None
    kept_from_ms: int
    rolled_up_until_ms: int | None
    rollup_count: int
    partitions: Mapping[str, int]
    closed_until_ms: Mapping[str, int]


def holdings(engine: Engine) -> Holdings:
    """Reads sums and the ends of indexes, not the records. Raises StoreUnavailable."""
    with reading(engine) as connection:
        oldest, newest = (
            connection.execute(select(edge(LEDGER.c.started_at_ms))).scalar() for edge in (func.min, func.max)
        )
        counted, sums, newest_hour = connection.execute(
            select(func.sum(HOURLY_SUMS.c.request_count), func.count(), func.max(HOURLY_SUMS.c.hour_ms))
        ).one()
        closed = connection.execute(
            select(HOUR_COSTS.c.source, func.max(HOUR_COSTS.c.hour_ms))
            .group_by(HOUR_COSTS.c.source)
            .order_by(HOUR_COSTS.c.source)
        )
        return Holdings(
            database=connection.dialect.name,
            database_bytes=_bytes(connection),
            request_count=int(counted or 0),
            oldest_ms=oldest,
            newest_ms=newest,
            kept_from_ms=rows_from_ms(connection),
            rolled_up_until_ms=None if newest_hour is None else int(newest_hour) + HOUR_MS,
            rollup_count=int(sums),
            partitions=_partitions(connection),
            closed_until_ms={source: int(hour) + HOUR_MS for source, hour in closed},
        )


def _bytes(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    pages, size = (connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("page_count", "page_size"))
    return int(pages) * int(size)


def _partitions(connection: Connection) -> dict[str, int]:
    """With their indexes."""
    if connection.dialect.name != "postgresql":
        return {}
    rows = connection.execute(
        text(
            "SELECT inhrelid::regclass::text, pg_total_relation_size(inhrelid) FROM pg_inherits "
            "WHERE inhparent = 'ledger_rows'::regclass ORDER BY 1"
        )
    )
    return {str(name): int(size) for name, size in rows}
