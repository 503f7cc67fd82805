"""`Booking`: changes rows of the ledger and the sums of their hours together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from operator import neg
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exc

from policies.repricing import Amounts
from policies.spend import SpendRecord
from router.stores.cells import HOUR_MS
from router.stores.sql_amounts import PRICED, change_amounts, keep_amounts
from router.stores.sql_partitions import make_partitions
from router.stores.sql_rows import (
    ATTRIBUTES,
    DIMENSIONS,
    PACKED_COUNT,
    ROW_COLUMNS,
    SUMS,
    TEMPLATES,
    StoredRow,
    Values,
    repriced_texts,
    stored,
)
from router.stores.sql_schema import (
    LEDGER_ATTRIBUTES,
    LEDGER_DIMENSIONS,
    LEDGER_ROWS,
    LEDGER_TEMPLATES,
)
from router.stores.sql_texts import Texts, array, array_of_bytes, in_parts
from router.stores.sql_turns import take_turn

Key = tuple[bytes, int]
"""Stored id and time. A record that comes again comes with the time that it had, which says in what month to look."""

_KNOWN = ("stored_id", "started_at_ms", "status", "dimension_id")
Known = Row[Any]
"""What a change must know of a row that is booked: _KNOWN and SUMS."""


class Booker:
    """Remembers the ids of texts from one transaction to the next."""

    def __init__(self) -> None:
        self.dimensions = Texts(LEDGER_DIMENSIONS, DIMENSIONS)
        self.attributes = Texts(LEDGER_ATTRIBUTES, ATTRIBUTES)
        self.templates = Texts(LEDGER_TEMPLATES, TEMPLATES)

    def stored(self, records: Iterable[SpendRecord]) -> list[StoredRow]:
        """Raises LedgerRefused."""
        lookups = self.dimensions.remembered, self.attributes.remembered, self.templates.remembered
        return [stored(record, lookups) for record in records]

    def begin(self, connection: Connection) -> Booking:
        take_turn(connection)
        return Booking(self, connection)


class Booking:
    """One transaction. `done` is for when it is committed."""

    def __init__(self, booker: Booker, connection: Connection) -> None:
        self.booker = booker
        self._connection = connection
        self._found: list[tuple[Texts, dict[Values, int]]] = []

    def known(self, keys: Collection[Key]) -> dict[Key, Known]:
        """Those that are booked already."""
        found: dict[Key, Known] = {}
        for some in in_parts(keys):
            ids, times_ms = zip(*some, strict=True)
            if self._connection.dialect.name == "postgresql":
                wanted = (array_of_bytes(ids), array(times_ms))
                rows = self._connection.exec_driver_sql(_KNOWN_PAIRS, wanted)
            else:
                places = ", ".join("?" * len(ids))
                rows = self._connection.exec_driver_sql(f"{_KNOWN_SQL} WHERE stored_id IN ({places})", ids)
            found |= {(bytes(row.stored_id), row.started_at_ms): row for row in rows}
        return found

    def replace(self, old: Sequence[Known], new: Sequence[StoredRow]) -> None:
        """Takes `old` out, puts `new` in, and adds the difference to the sums of their hours."""
        differences = _Differences()
        for known in old:
            differences.subtract(known.dimension_id, known.started_at_ms, (1, *_sums_of(known)))
        if old:
            gone = [{"id": known.stored_id, "at_ms": known.started_at_ms} for known in old]
            self._connection.execute(_DELETE, gone)
        rows = self._with_ids(new)
        for row, values in zip(new, rows, strict=True):
            differences.add(values[0], row.record.started_at_ms, (1, *row.sums))
        make_partitions(self._connection, (row.record.started_at_ms for row in new))
        _insert(self._connection, rows)
        differences.write(self._connection)

    def reprice(self, repricing_id: int, changes: Sequence[tuple[Known, SpendRecord, Amounts]]) -> None:
        """Gives booked rows other amounts where they lie, and adds the difference to the sums of their hours; what
        they said is kept as that which `repricing_id` replaced. Of a row, the record is as it was read."""
        texts = [repriced_texts(record, amounts) for _, record, amounts in changes]
        dimensions = self._texts(self.booker.dimensions, [each[0] for each in texts])
        attributes = self._texts(self.booker.attributes, [each[1] for each in texts])
        differences, rows = _Differences(), []
        for (known, _, amounts), dimension_id, attribute_id in zip(changes, dimensions, attributes, strict=True):
            sums = _sums_of(known)
            differences.subtract(known.dimension_id, known.started_at_ms, (1, *sums))
            differences.add(dimension_id, known.started_at_ms, (1, *_with_amounts(sums, amounts)))
            new = [getattr(amounts, name) for name in PRICED]
            rows.append((*new, dimension_id, attribute_id, bytes(known.stored_id), known.started_at_ms))
        keep_amounts(self._connection, repricing_id, [row[-2:] for row in rows])
        change_amounts(self._connection, rows)
        differences.write(self._connection)

    def done(self) -> None:
        for texts, ids in self._found:
            texts.remember(ids)

    def _with_ids(self, rows: Sequence[StoredRow]) -> list[Values]:
        """The values of `rows`, with the ids of their texts."""
        unknown = [row.texts for row in rows if row.texts is not None]
        if not unknown:
            return [row.values for row in rows]
        tables = self.booker.dimensions, self.booker.attributes, self.booker.templates
        ids = zip(*map(self._texts, tables, zip(*unknown, strict=True)), strict=True)
        return [row.values if row.texts is None else (*next(ids), *row.values[len(tables) :]) for row in rows]

    def _texts(self, texts: Texts, wanted: Sequence[Values]) -> list[int]:
        ids = texts.ids(self._connection, set(wanted))
        self._found.append((texts, ids))
        return [ids[values] for values in wanted]


# As the drivers take it: SQLAlchemy's parameters, thousands of them, cost several times the search itself.
_KNOWN_SQL = f"SELECT {', '.join(f'ledger.{name}' for name in (*_KNOWN, *SUMS))} FROM ledger"
# A join, since by two conditions PostgreSQL would read every record of the time, so long as it has not counted them.
_KNOWN_PAIRS = (
    f"{_KNOWN_SQL} JOIN unnest(%s::bytea[], %s::bigint[]) AS wanted (id, at_ms) "
    "ON ledger.stored_id = wanted.id AND ledger.started_at_ms = wanted.at_ms"
)
_DELETE = delete(LEDGER_ROWS).where(
    LEDGER_ROWS.c.request_id == bindparam("id"), LEDGER_ROWS.c.started_at_ms == bindparam("at_ms")
)
_NAMES = ("dimension_id", "hour_ms", "request_count", *SUMS)
_PLACES = ", ".join("?" * len(_NAMES))
_ARRAYS = ", ".join(["%s::bigint[]"] * len(_NAMES))
_ON_CONFLICT = "ON CONFLICT (dimension_id, hour_ms) DO UPDATE SET " + ", ".join(
    f"{name} = hourly_sums.{name} + excluded.{name}" for name in _NAMES[2:]
)
_ADD_ON_SQLITE = f"INSERT INTO hourly_sums ({', '.join(_NAMES)}) VALUES ({_PLACES}) {_ON_CONFLICT}"
_ADD_ON_POSTGRESQL = f"INSERT INTO hourly_sums ({', '.join(_NAMES)}) SELECT * FROM unnest({_ARRAYS}) {_ON_CONFLICT}"


class _Differences:
    """Of the sums of hours, each by dimension and hour: `request_count` and SUMS."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, int], list[Iterable[int]]] = defaultdict(list)

    def add(self, dimension_id: int, at_ms: int, sums: Iterable[int]) -> None:
        self._parts[dimension_id, at_ms - at_ms % HOUR_MS].append(sums)

    def subtract(self, dimension_id: int, at_ms: int, sums: Iterable[int]) -> None:
        self.add(dimension_id, at_ms, map(neg, sums))

    def write(self, connection: Connection) -> None:
        # In one order: neighbours in the table are written one after the other.
        rows = [(*at, *map(sum, zip(*parts, strict=True))) for at, parts in sorted(self._parts.items())]
        if connection.dialect.name == "postgresql":
            # One statement that takes whole columns: a statement for each row took three times as long.
            connection.exec_driver_sql(_ADD_ON_POSTGRESQL, tuple(map(array, zip(*rows, strict=True))))
        else:
            connection.exec_driver_sql(_ADD_ON_SQLITE, rows)


def _sums_of(known: Known) -> tuple[int, ...]:
    """SUMS."""
    return tuple(known[-len(SUMS) :])


def _with_amounts(sums: tuple[int, ...], amounts: Amounts) -> list[int]:
    return [getattr(amounts, name) if name in PRICED else value for name, value in zip(SUMS, sums, strict=True)]


def _insert(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    columns = ", ".join(ROW_COLUMNS)
    if connection.dialect.name != "postgresql":
        places = ", ".join("?" * len(ROW_COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO ledger_rows ({columns}) VALUES ({places})", rows)
        return
    driver: Any = connection.connection.driver_connection
    dbapi: Any = connection.dialect.dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY ledger_rows ({columns}) FROM STDIN") as copy:
            for at in range(0, len(rows), _COPIED_AT_ONCE):  # the server stores some while the next are written out
                copy.write("".join(map(_line, rows[at : at + _COPIED_AT_ONCE])))
    except dbapi.Error as error:  # SQLAlchemy translates only what goes through it
        raise exc.DBAPIError.instance("COPY ledger_rows", None, error, dbapi.Error) from error


def _line(row: tuple[Any, ...]) -> str:
    """As COPY reads it; the driver takes three times as long to write one. Numbers print faster as a tuple."""
    numbers = str(row[:-PACKED_COUNT])[1:-1].replace(", ", "\t").replace("None", _NULL)
    id_, parent_id, end_user, tags, detail_numbers = row[-PACKED_COUNT:]
    parent = _NULL if parent_id is None else f"\\\\x{parent_id.hex()}"
    texts = f"{end_user.translate(_ESCAPES)}\t{tags.translate(_ESCAPES)}" if end_user or tags else "\t"
    return f"{numbers}\t\\\\x{id_.hex()}\t{parent}\t{texts}\t\\\\x{detail_numbers.hex()}\n"


_COPIED_AT_ONCE = 100
_NULL = "\\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
