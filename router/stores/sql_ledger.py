"""`SqlLedger`: the append-only account of every request, and the sums that reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

import orjson
from sqlalchemy import Column, Connection, Engine, exc, func, select
from sqlalchemy.sql.elements import ColumnElement

from policies.budget import SubjectKind
from policies.spend import FIELD_NAMES, SpendRecord
from router.stores.base import LedgerRefused, SpendGroup
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import KEYS, LEDGER

_PLAIN_FIELDS = FIELD_NAMES[:-1]  # all but `detail`, which is stored as JSON
_plain_values = attrgetter(*_PLAIN_FIELDS)

_GROUP_COLUMNS: tuple[ColumnElement[Any], ...] = (
    LEDGER.c.team_id,
    LEDGER.c.alias,
    LEDGER.c.deployment,
    LEDGER.c.request_model,
    LEDGER.c.reason,
    LEDGER.c.cache,
    LEDGER.c.status,
    LEDGER.c.usage_source,
    LEDGER.c.baseline_model,
    LEDGER.c.simulated,
)
_SUM_COLUMNS: tuple[ColumnElement[Any], ...] = (
    func.count().label("request_count"),
    func.sum(LEDGER.c.input_tokens).label("input_tokens"),
    func.sum(LEDGER.c.output_tokens).label("output_tokens"),
    func.sum(LEDGER.c.cost_nusd).label("cost_nusd"),
    func.sum(LEDGER.c.baseline_cost_nusd).label("baseline_cost_nusd"),
)


class SqlLedger:
    """`router.stores.base.Ledger` in the tables of `sql_schema`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert = _insert_sql(engine)

    def append(self, records: Sequence[SpendRecord]) -> int:
        """Books `records` in one transaction; returns how many were new."""
        if not records:
            return 0
        rows = [_row(record) for record in records]
        try:
            with writing(self._engine) as connection:
                return _insert(connection, self._insert, rows)
        except (exc.IntegrityError, exc.DataError, OverflowError, UnicodeEncodeError) as error:
            raise LedgerRefused(f"the ledger refuses the records: {' '.join(str(error).split())}") from error

    def get(self, request_id: str) -> SpendRecord | None:
        with reading(self._engine) as connection:
            row = connection.execute(select(LEDGER).where(LEDGER.c.request_id == request_id)).mappings().one_or_none()
        if row is None:
            return None
        return SpendRecord.from_json({**row, "detail": orjson.loads(row["detail"])})

    def spend_groups(self, from_ms: int, to_ms: int, team_id: str | None = None) -> tuple[SpendGroup, ...]:
        """Sums over the requests that started in [from_ms, to_ms), by everything reports are broken down by."""
        query = (
            select(*_GROUP_COLUMNS, *_SUM_COLUMNS)
            .where(*_within(from_ms, to_ms))
            .group_by(*_GROUP_COLUMNS)
            .order_by(*_GROUP_COLUMNS)
        )
        if team_id is not None:
            query = query.where(LEDGER.c.team_id == team_id)
        with reading(self._engine) as connection:
            return tuple(_group(row) for row in connection.execute(query).mappings())

    def spent_by_subject(self, from_ms: int, to_ms: int) -> dict[tuple[SubjectKind, str], int]:
        """Nano-USD by ("team", id) and ("key", id); a replaced key's under the key that stands in for it."""
        key_id = func.coalesce(KEYS.c.replaced_by, LEDGER.c.key_id)
        query = (
            select(LEDGER.c.team_id, key_id, func.sum(LEDGER.c.cost_nusd))
            .select_from(LEDGER.outerjoin(KEYS, KEYS.c.id == LEDGER.c.key_id))
            .where(*_within(from_ms, to_ms))
            .group_by(LEDGER.c.team_id, key_id)
        )
        spent: dict[tuple[SubjectKind, str], int] = {}
        with reading(self._engine) as connection:
            for team, key, amount in connection.execute(query):
                for subject in (("team", team), ("key", key)):
                    typed = cast(tuple[SubjectKind, str], subject)
                    spent[typed] = spent.get(typed, 0) + int(amount)
        return {subject: amount for subject, amount in spent.items() if amount}


def _within(from_ms: int, to_ms: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms


def _group(row: Any) -> SpendGroup:
    # PostgreSQL sums bigints to a numeric, which arrives as Decimal.
    return SpendGroup(**{**row, **{column.name: int(row[column.name]) for column in _SUM_COLUMNS}})


def _insert_sql(engine: Engine) -> tuple[str, bool]:
    """The statement as the driver takes it, and whether its parameters go by position.

    It is compiled once: going through SQLAlchemy's parameters costs several times the insert itself.
    """
    compiled = LEDGER.insert().inline().compile(dialect=engine.dialect)
    assert not compiled.positional or tuple(compiled.positiontup or ()) == FIELD_NAMES
    # Both databases write it alike; SQLAlchemy's own constructs for it cost a tenth of a second to import.
    return f"{compiled} ON CONFLICT (request_id) DO NOTHING", bool(compiled.positional)


def _row(record: SpendRecord) -> tuple[Any, ...]:
    """The values of the columns. Checked, because SQLite would take anything and no report could read it."""
    values = (*_plain_values(record), record.detail)
    for name, value, allowed in zip(FIELD_NAMES, values, _ALLOWED_TYPES, strict=True):
        if type(value) not in allowed:
            raise LedgerRefused(
                f"record {record.request_id!r}: {name} is {type(value).__name__}, not {_shown(allowed)}"
            )
    try:
        return (*values[:-1], orjson.dumps(record.detail).decode())
    except orjson.JSONEncodeError as error:
        raise LedgerRefused(f"record {record.request_id!r}: detail cannot be JSON: {error}") from error


def _insert(connection: Connection, insert: tuple[str, bool], rows: Sequence[tuple[Any, ...]]) -> int:
    sql, positional = insert
    parameters: Any = rows if positional else [dict(zip(FIELD_NAMES, row, strict=True)) for row in rows]
    result = connection.execution_options(preserve_rowcount=True).exec_driver_sql(sql, parameters)
    return int(result.rowcount)


def _allowed_types(column: Column[Any]) -> frozenset[type]:
    if column.name == "detail":
        return frozenset({dict})
    python_type = column.type.python_type
    numbers = {int, float} if python_type is float else {python_type}
    return frozenset(numbers | ({type(None)} if column.nullable else set()))


def _shown(allowed: frozenset[type]) -> str:
    return " or ".join(sorted(allowed_type.__name__ for allowed_type in allowed))


_ALLOWED_TYPES = tuple(_allowed_types(column) for column in LEDGER.columns)
