"""Shadow samples: from the records while there are any, and kept when these are let go, since reports rest on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.sql.elements import ColumnElement

from router.stores.cells import Filter, ShadowSample
from router.stores.sql_detail import join_detail
from router.stores.sql_facts import let_in
from router.stores.sql_schema import KEPT_SAMPLES, LEDGER, LEDGER_DIMENSIONS
from router.stores.sql_state import rows_from_ms

_SHADOW = LEDGER.alias("shadow")
_OF_RECORDS = (
    select(
        LEDGER.c.request_id,
        LEDGER.c.started_at_ms,
        LEDGER.c.dimension_id,
        LEDGER.c.deployment,
        LEDGER.c.alias,
        LEDGER.c.task,
        LEDGER.c.baseline_model,
        LEDGER.c.baseline_cost_nusd.label("booked_nusd"),
        (_SHADOW.c.cost_nusd - _SHADOW.c.retries_nusd + _SHADOW.c.prompt_cache_nusd).label("undiscounted_nusd"),
        _SHADOW.c.sample_share.label("share"),
        _SHADOW.c.detail_template,
        _SHADOW.c.detail_numbers,
    )
    .join(_SHADOW, _SHADOW.c.stored_parent_id == LEDGER.c.stored_id)
    .where(_SHADOW.c.kind == "shadow", _SHADOW.c.status == "ok", _SHADOW.c.sample_share.is_not(None))
    .where(LEDGER.c.deployment.is_not(None))
)
_KEPT = select(
    KEPT_SAMPLES.c.request_id,
    KEPT_SAMPLES.c.started_at_ms,
    LEDGER_DIMENSIONS.c.deployment,
    LEDGER_DIMENSIONS.c.alias,
    LEDGER_DIMENSIONS.c.task,
    LEDGER_DIMENSIONS.c.baseline_model,
    KEPT_SAMPLES.c.booked_nusd,
    KEPT_SAMPLES.c.actual_nusd,
    KEPT_SAMPLES.c.share,
).join(LEDGER_DIMENSIONS, LEDGER_DIMENSIONS.c.id == KEPT_SAMPLES.c.dimension_id)
_KEEP = text(
    "INSERT INTO kept_samples (request_id, started_at_ms, dimension_id, booked_nusd, actual_nusd, share) "
    "VALUES (:request_id, :started_at_ms, :dimension_id, :booked_nusd, :actual_nusd, :share) "
    "ON CONFLICT (request_id) DO NOTHING"
)


def samples(connection: Connection, from_ms: int, to_ms: int, where: Filter) -> tuple[ShadowSample, ...]:
    """Those of requests that started in [from_ms, to_ms), oldest first. What is not kept of them, an end user or tags,
    lets none of the kept ones in."""
    records_from_ms = max(from_ms, rows_from_ms(connection))
    found = [ShadowSample(*row) for row in _kept(connection, from_ms, to_ms, where)]
    for row in _of_records(connection, records_from_ms, to_ms, _conditions(LEDGER, where)):
        values = row._asdict()
        found.append(ShadowSample(**{name: values[name] for name in _PLAIN}, actual_nusd=_actual_nusd(row)))
    return tuple(sorted(found, key=lambda sample: (sample.started_at_ms, sample.request_id)))


def keep_samples(connection: Connection, before_ms: int) -> None:
    """Before the records of requests that started before then are let go."""
    rows = [
        {**{name: getattr(row, name) for name in _KEPT_PLAIN}, "actual_nusd": _actual_nusd(row)}
        for row in _of_records(connection, 0, before_ms, [])
    ]
    if rows:
        connection.execute(_KEEP, rows)


_PLAIN = ("request_id", "started_at_ms", "deployment", "alias", "task", "baseline_model", "booked_nusd", "share")
_KEPT_PLAIN = ("request_id", "started_at_ms", "dimension_id", "booked_nusd", "share")


def _of_records(connection: Connection, from_ms: int, to_ms: int, conditions: list[ColumnElement[bool]]) -> Any:
    within = LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms
    return connection.execute(_OF_RECORDS.where(*within, *conditions))


def _kept(connection: Connection, from_ms: int, to_ms: int, where: Filter) -> Any:
    if {"end_user", "tags"} & where.keys():
        return ()
    within = KEPT_SAMPLES.c.started_at_ms >= from_ms, KEPT_SAMPLES.c.started_at_ms < to_ms
    return connection.execute(_KEPT.where(*within, *_conditions(LEDGER_DIMENSIONS, where)))


def _conditions(source: Any, where: Filter) -> list[ColumnElement[bool]]:
    return [let_in(source.c[name], values) for name, values in where.items()]


def _actual_nusd(row: Any) -> int:
    detail = join_detail(row.detail_template, bytes(row.detail_numbers))
    return max(row.undiscounted_nusd - detail.get("discount_nusd", 0), 0)
