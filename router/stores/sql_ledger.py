"""`SqlLedger`: the append-only account of every request, and the sums that reports are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Column, Connection, Engine, and_, exc, func, literal, or_, select, true
from sqlalchemy.sql.elements import ColumnElement

from policies.budget import Budget
from policies.spend import FIELD_NAMES, SpendRecord
from router.stores.base import LedgerRefused, SpendGroup
from router.stores.sql_budgets import of_kind
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import BUDGETS, KEYS, LEDGER

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
        """Books `records` in one transaction; returns how many were new, or the truth about an abandoned request."""
        if not records:
            return 0
        # In one order, so that two writers who share requests wait for each other and never in a circle.
        rows = [_row(record) for record in sorted(records, key=attrgetter("request_id"))]
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

    def usage(
        self, budget: Budget, from_ms: int, to_ms: int, bucket_ms: int | None = None
    ) -> dict[tuple[str, int], int]:
        if budget.unit == "parallel":
            return {}  # only what is under way counts, and that is in no ledger yet
        amount, counted = _COUNTED[budget.unit]
        who = LEDGER.c.end_user if budget.is_of_every_user else literal("")
        bucket = literal(0) if bucket_ms is None else LEDGER.c.started_at_ms // bucket_ms
        query = (
            select(who.label("who"), bucket.label("bucket"), amount)
            .where(*_within(from_ms, to_ms), counted, _of_subject(budget), *_of_deployments(budget))
            .group_by("who", "bucket")
        )
        with reading(self._engine) as connection:
            return {(user, int(part)): int(sum_) for user, part, sum_ in connection.execute(query) if sum_}


_COUNTED: dict[str, tuple[ColumnElement[int], ColumnElement[bool]]] = {
    "usd": (func.sum(LEDGER.c.cost_nusd), true()),
    "tokens": (func.sum(LEDGER.c.input_tokens + LEDGER.c.output_tokens), LEDGER.c.cache != "hit"),
    "requests": (func.count(), LEDGER.c.reason.not_in(("refused", "cache"))),
}
"""By a budget's unit: what is summed, and over which requests."""


def _of_subject(budget: Budget) -> ColumnElement[bool]:
    """What measures requests (shadows, judges) is no use of theirs: it counts for the organisation, and by its tag."""
    kind, subject = budget.subject_kind, budget.subject_id
    if kind == "organization":
        return true()
    if kind == "tag":
        # LIKE would ignore case on SQLite, and take `_` for any character.
        return func.replace(LEDGER.c.tags, f",{subject},", "") != LEDGER.c.tags
    return and_(LEDGER.c.kind == "request", _of_spender(budget))


def _of_spender(budget: Budget) -> ColumnElement[bool]:
    kind, subject = budget.subject_kind, budget.subject_id
    if kind == "team":
        return LEDGER.c.team_id == subject
    if kind == "project":
        return LEDGER.c.project_id == subject
    if kind == "key":
        replaced = select(KEYS.c.id).where(KEYS.c.replaced_by == subject)
        return or_(LEDGER.c.key_id == subject, LEDGER.c.key_id.in_(replaced))
    team, _, user = subject.partition("/")
    named = _has_none_of_their_own(budget, team) if budget.is_of_every_user else LEDGER.c.end_user == user
    return and_(LEDGER.c.team_id == team, named)


def _has_none_of_their_own(budget: Budget, team_id: str) -> ColumnElement[bool]:
    """Whether a record's end user is one whom this budget of every user limits.

    A user may be called `*`: everybody's is nobody's own.
    """
    their_own = select(BUDGETS.c.id).where(
        BUDGETS.c.subject_kind == "user",
        BUDGETS.c.subject_id != budget.subject_id,
        BUDGETS.c.subject_id == literal(f"{team_id}/") + LEDGER.c.end_user,
        of_kind(budget),
    )
    return and_(LEDGER.c.end_user != "", ~their_own.exists())


def _of_deployments(budget: Budget) -> Iterator[ColumnElement[bool]]:
    if budget.model is not None:
        yield LEDGER.c.deployment == budget.model
    if budget.tier is not None:
        yield LEDGER.c.deployment_tier == budget.tier


def _within(from_ms: int, to_ms: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms


def _group(row: Any) -> SpendGroup:
    # PostgreSQL sums bigints to a numeric, which arrives as Decimal.
    return SpendGroup(**{**row, **{column.name: int(row[column.name]) for column in _SUM_COLUMNS}})


def _on_conflict() -> str:
    """A request is booked once; only the truth about an abandoned one takes the place of what was booked for it."""
    told = [f"{name} = excluded.{name}" for name in FIELD_NAMES if name not in ("request_id", "abandoned_nusd")]
    return (
        f"ON CONFLICT (request_id) DO UPDATE SET {', '.join(told)}, abandoned_nusd = ledger.cost_nusd "
        "WHERE ledger.status = 'abandoned' AND excluded.status <> 'abandoned'"
    )


_ON_CONFLICT = _on_conflict()


def _insert_sql(engine: Engine) -> tuple[str, bool]:
    """The statement as the driver takes it, and whether its parameters go by position.

    It names its columns: those of a migrated database come in another order. It is compiled once: going through
    SQLAlchemy's parameters costs several times the insert itself.
    """
    compiled = LEDGER.insert().inline().compile(dialect=engine.dialect)
    assert not compiled.positional or tuple(compiled.positiontup or ()) == FIELD_NAMES
    # Both databases write it alike; SQLAlchemy's own constructs for it cost a tenth of a second to import.
    return f"{compiled} {_ON_CONFLICT}", bool(compiled.positional)


def _row(record: SpendRecord) -> tuple[Any, ...]:
    """The values of the columns. Checked, because SQLite would take anything and no report could read it."""
    values = (*_plain_values(record), record.detail)
    for name, value, allowed in zip(FIELD_NAMES, values, _ALLOWED_TYPES, strict=True):
        if type(value) not in allowed:
            raise LedgerRefused(
                f"record {record.request_id!r}: {name} is {type(value).__name__}, not {_shown(allowed)}"
            )
    # PostgreSQL keeps no NUL, and a provider may name its model with one.
    plain = [value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value for value in values[:-1]]
    try:
        return (*plain, orjson.dumps(record.detail).decode())
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
