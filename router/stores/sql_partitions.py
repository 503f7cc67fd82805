"""The months of the ledger: a partition for each on PostgreSQL, and how old ones are let go, there and on SQLite."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf

from sqlalchemy import Connection, Engine, bindparam, delete, select, text

from policies.schedules import DAY_MS
from router.stores.sql_engine import writing
from router.stores.sql_samples import keep_samples
from router.stores.sql_schema import LEDGER_ROWS
from router.stores.sql_state import remember_that_rows_begin
from router.stores.sql_turns import take_turn

logger = logging.getLogger(__name__)

Month = tuple[int, int]
"""Year and month, UTC."""

_FIRST: Month = (2020, 1)
_LAST: Month = (2099, 12)
"""What claims to be from before or after is kept in a partition for all such: no clock makes thousands of tables."""

_AHEAD = 2
_DELETED_AT_ONCE = 5_000


def month_of(at_ms: int) -> Month | None:
    """The month whose partition a record belongs to; None where it is of no month that has one."""
    if not month_start_ms(_FIRST) <= at_ms < month_start_ms(_after(_LAST)):
        return None
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return at.year, at.month


def month_start_ms(month: Month) -> int:
    return int(datetime(*month, 1, tzinfo=UTC).timestamp()) * 1000


def months_before(at_ms: int, months: int) -> int:
    """The beginning of the month that was so many months before the one of `at_ms`, in Unix milliseconds."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    year, month = divmod(at.year * 12 + at.month - 1 - months, 12)
    return month_start_ms((year, month + 1))


def make_partitions(connection: Connection, times_ms: Iterable[int]) -> None:
    """Makes those that records of these times need, however late they are, and those of two months ahead of them.

    Ahead of time, because the making waits until nobody reads the ledger, and others wait with it.
    """
    if connection.dialect.name != "postgresql":
        return
    days = {at_ms // DAY_MS for at_ms in times_ms}
    months = {month for day in days if (month := month_of(day * DAY_MS)) is not None}
    if months:
        newest = max(months)
        for _ in range(_AHEAD):
            newest = _after(newest)
            months.add(newest)
    known = set(_partitions(connection))
    for month in sorted(months - known):
        if month <= _LAST:
            connection.execute(
                text(
                    f"CREATE TABLE {_name(month)} PARTITION OF ledger_rows "
                    f"FOR VALUES FROM ({month_start_ms(month)}) TO ({month_start_ms(_after(month))})"
                )
            )


def make_partitions_ahead(engine: Engine, now_ms: int) -> None:
    """So that no record waits for the making of its month. Raises StoreUnavailable."""
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            take_turn(connection)
            make_partitions(connection, [now_ms])


def drop_rows_before(engine: Engine, before_ms: int, at_most: float = inf) -> int:
    """Lets go of the records that started before then, and returns how many; the hourly sums and the shadow samples
    stay.

    On PostgreSQL whole partitions go at once, so `before_ms` should be the beginning of a month (`months_before`).
    Other rows go a few thousand at a time, and it ends with `at_most` or a few more; 0 says that none are left.
    """
    with writing(engine) as connection:
        take_turn(connection)
        keep_samples(connection, before_ms)
        remember_that_rows_begin(connection, before_ms)
        dropped = _drop_partitions(connection, before_ms)
    while dropped < at_most:
        with writing(engine) as connection:
            take_turn(connection)
            some = (
                select(LEDGER_ROWS.c.request_id, LEDGER_ROWS.c.started_at_ms)
                .where(LEDGER_ROWS.c.started_at_ms < before_ms)
                .limit(_DELETED_AT_ONCE)
            )
            rows = [{"id": bytes(id_), "at_ms": at_ms} for id_, at_ms in connection.execute(some)]
            if not rows:
                break
            connection.execute(_DELETE, rows)
        dropped += len(rows)
        logger.info("let go of %d records from before %d", dropped, before_ms)
    return dropped


_DELETE = delete(LEDGER_ROWS).where(
    LEDGER_ROWS.c.request_id == bindparam("id"), LEDGER_ROWS.c.started_at_ms == bindparam("at_ms")
)


def _drop_partitions(connection: Connection, before_ms: int) -> int:
    if connection.dialect.name != "postgresql":
        return 0
    dropped = 0
    for month in _partitions(connection):
        if month_start_ms(_after(month)) <= before_ms:
            dropped += connection.execute(text(f"SELECT count(*) FROM {_name(month)}")).scalar() or 0
            connection.execute(text(f"DROP TABLE {_name(month)}"))
            logger.info("let go of the records of %d-%02d", *month)
    return dropped


def _partitions(connection: Connection) -> list[Month]:
    names = connection.execute(
        text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger_rows'::regclass")
    ).scalars()
    parts = [name.rsplit("_", 2)[1:] for name in names]
    return sorted((int(year), int(month)) for year, month in parts if year.isdigit())


def _name(month: Month) -> str:
    return f"ledger_rows_{month[0]}_{month[1]:02}"


def _after(month: Month) -> Month:
    year, number = month
    return (year, number + 1) if number < 12 else (year + 1, 1)
