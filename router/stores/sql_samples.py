"""Shadow samples: from the records while there are any, and kept when these are let go, since reports rest on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, case, select, true
from sqlalchemy.dialects import postgresql, sqlite

from router.stores.cells import Filter, ShadowSample
from router.stores.sql_facts import let_in
from router.stores.sql_schema import KEPT_SAMPLES, LEDGER, LEDGER_DIMENSIONS
from router.stores.sql_state import rows_from_ms

_SHADOW = LEDGER.alias("shadow")
_ACTUAL = _SHADOW.c.cost_nusd - _SHADOW.c.retries_nusd + _SHADOW.c.prompt_cache_nusd
"""Less than nothing where the answer was much shorter than the one whose discount this is."""
_OF_RECORDS = (
    select(
        LEDGER.c.request_id,
        LEDGER.c.started_at_ms,
        LEDGER.c.deployment,
        LEDGER.c.alias,
        LEDGER.c.task,
        LEDGER.c.baseline_model,
        LEDGER.c.baseline_cost_nusd.label("booked_nusd"),
        case((_ACTUAL > 0, _ACTUAL), else_=0).label("actual_nusd"),
        _SHADOW.c.sample_share.label("share"),
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
"""Both in the order of a ShadowSample's fields."""


def samples(connection: Connection, from_ms: int, to_ms: int, where: Filter) -> tuple[ShadowSample, ...]:
    """Those of requests that started in [from_ms, to_ms), oldest first. What is not kept of them, an end user or tags,
    lets none of the kept ones in."""
    queries = [_within(_OF_RECORDS, LEDGER, LEDGER, max(from_ms, rows_from_ms(connection)), to_ms, where)]
    if not {"end_user", "tags"} & where.keys():
        queries.append(_within(_KEPT, KEPT_SAMPLES, LEDGER_DIMENSIONS, from_ms, to_ms, where))
    found = [ShadowSample(*row) for query in queries for row in connection.execute(query)]
    return tuple(sorted(found, key=lambda sample: (sample.started_at_ms, sample.request_id)))


def keep_samples(connection: Connection, before_ms: int) -> None:
    """Before the records of requests that started before then are let go."""
    names = tuple(KEPT_SAMPLES.c.keys())
    found = _OF_RECORDS.add_columns(LEDGER.c.dimension_id).where(LEDGER.c.started_at_ms < before_ms).subquery()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    kept = dialect.insert(KEPT_SAMPLES).from_select(names, select(*(found.c[name] for name in names)).where(true()))
    connection.execute(kept.on_conflict_do_nothing())


def _within(query: Select[Any], timed: Any, dimensions: Any, from_ms: int, to_ms: int, where: Filter) -> Select[Any]:
    let_in_all = (let_in(dimensions.c[name], values) for name, values in where.items())
    return query.where(timed.c.started_at_ms >= from_ms, timed.c.started_at_ms < to_ms, *let_in_all)
