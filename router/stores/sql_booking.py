"""`Booking`: changes rows of the ledger and the sums of their hours together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import add, sub
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, exc, select, text

from router.stores.cells import HOUR_MS
from router.stores.sql_partitions import make_partitions
from router.stores.sql_rows import ATTRIBUTES, DIMENSIONS, ROW_COLUMNS, SUMS, TEMPLATES, StoredRow
from router.stores.sql_schema import (
    LEDGER,
    LEDGER_ATTRIBUTES,
    LEDGER_DIMENSIONS,
    LEDGER_ROWS,
    LEDGER_TEMPLATES,
)
from router.stores.sql_texts import Texts, Values, in_parts
from router.stores.sql_turns import take_turn

_NEAR_MS = 31 * 24 * HOUR_MS
"""A record that comes again comes with the time that it had. So far around it a known one is looked for, in two or
three partitions instead of all."""

Known = Row[Any]
"""What a change must know of a row that is booked: `stored_id`, `started_at_ms`, `status`, `dimension_id`, SUMS."""


class Booker:
    """Remembers the ids of texts from one transaction to the next."""

    def __init__(self) -> None:
        self.dimensions = Texts(LEDGER_DIMENSIONS, DIMENSIONS)
        self.attributes = Texts(LEDGER_ATTRIBUTES, ATTRIBUTES)
        self.templates = Texts(LEDGER_TEMPLATES, TEMPLATES)

    def begin(self, connection: Connection) -> Booking:
        take_turn(connection)
        return Booking(self, connection)


class Booking:
    """One transaction. `done` is for when it is committed."""

    def __init__(self, booker: Booker, connection: Connection) -> None:
        self._booker = booker
        self._connection = connection
        self._found: list[tuple[Texts, dict[Values, int]]] = []

    def known(self, rows: Sequence[StoredRow]) -> dict[bytes, Known]:
        """Those that are booked already, by id."""
        times_ms = [row.record.started_at_ms for row in rows]
        query = _KNOWN.where(LEDGER.c.started_at_ms.between(min(times_ms) - _NEAR_MS, max(times_ms) + _NEAR_MS))
        found = {}
        for ids in in_parts({row.id for row in rows}):
            for row in self._connection.execute(query.where(LEDGER.c.stored_id.in_(ids))):
                found[bytes(row.stored_id)] = row
        return found

    def replace(self, old: Sequence[Known], new: Sequence[StoredRow]) -> None:
        """Takes `old` out, puts `new` in, and adds the difference to the sums of their hours."""
        sums: dict[tuple[int, int], Sequence[int]] = defaultdict(lambda: (0,) * (1 + len(SUMS)))
        for known in old:
            at = known.dimension_id, _hour(known.started_at_ms)
            sums[at] = tuple(map(sub, sums[at], (1, *known[-len(SUMS) :])))
        if old:
            gone = [{"id": known.stored_id, "at_ms": known.started_at_ms} for known in old]
            self._connection.execute(_DELETE, gone)
        for row, ids in zip(new, rows_ids := self._ids(new), strict=True):
            at = ids[0], _hour(row.record.started_at_ms)
            sums[at] = tuple(map(add, sums[at], row.sums))
        make_partitions(self._connection, {row.record.started_at_ms for row in new})
        _insert(self._connection, [(*ids, *row.values) for row, ids in zip(new, rows_ids, strict=True)])
        # In one order: neighbours in the table are written one after the other.
        self._connection.execute(_ADD, [dict(zip(_NAMES, (*at, *sums[at]), strict=True)) for at in sorted(sums)])

    def done(self) -> None:
        for texts, ids in self._found:
            texts.remember(ids)

    def _ids(self, rows: Sequence[StoredRow]) -> list[tuple[int, ...]]:
        dimensions = self._texts(self._booker.dimensions, {row.dimensions for row in rows})
        attributes = self._texts(self._booker.attributes, {row.attributes for row in rows})
        templates = self._texts(self._booker.templates, {row.template for row in rows})
        return [(dimensions[row.dimensions], attributes[row.attributes], templates[row.template]) for row in rows]

    def _texts(self, texts: Texts, wanted: set[Values]) -> dict[Values, int]:
        ids = texts.ids(self._connection, wanted)
        self._found.append((texts, ids))
        return ids


_KNOWN: Select[Any] = select(
    LEDGER.c.stored_id,
    LEDGER.c.started_at_ms,
    LEDGER.c.status,
    LEDGER.c.dimension_id,
    *(LEDGER.c[name] for name in SUMS),
)
_DELETE = delete(LEDGER_ROWS).where(
    LEDGER_ROWS.c.request_id == bindparam("id"), LEDGER_ROWS.c.started_at_ms == bindparam("at_ms")
)
_NAMES = ("dimension_id", "hour_ms", "request_count", *SUMS)
_ADD = text(
    f"INSERT INTO hourly_sums ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "
    "ON CONFLICT (dimension_id, hour_ms) DO UPDATE SET "
    + ", ".join(f"{name} = hourly_sums.{name} + excluded.{name}" for name in _NAMES[2:])
)


def _hour(at_ms: int) -> int:
    return at_ms - at_ms % HOUR_MS


def _insert(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    columns = ", ".join(ROW_COLUMNS)
    if connection.dialect.name != "postgresql":
        places = ", ".join("?" * len(ROW_COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO ledger_rows ({columns}) VALUES ({places})", list(rows))
        return
    driver: Any = connection.connection.driver_connection
    dbapi: Any = connection.dialect.dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY ledger_rows ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except dbapi.Error as error:  # SQLAlchemy translates only what goes through it
        raise exc.DBAPIError.instance("COPY ledger_rows", None, error, dbapi.Error) from error
