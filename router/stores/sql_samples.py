"""Shadow samples: from the records while there are any, and kept when these are let go, since reports rest on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, case, func, select, true
from sqlalchemy.dialects import postgresql, sqlite

from policies.schedules import DAY_MS
from router.stores.cells import Filter, ShadowSample
from router.stores.sql_facts import let_in
from router.stores.sql_schema import KEPT_SAMPLES, LEDGER, LEDGER_DIMENSIONS, LEDGER_ROWS
from router.stores.sql_state import rows_from_ms

_LATEST_MS = DAY_MS
"""A shadow follows its request within the hour; so far may clocks be apart, too."""
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
"""In the order of a ShadowSample's fields, as are those of records."""


def samples(connection: Connection, from_ms: int, to_ms: int, where: Filter) -> tuple[ShadowSample, ...]:
    """Those of requests that started in [from_ms, to_ms), oldest first. What is not kept of them, an end user or tags,
    lets none of the kept ones in; a shadow that came more than a day later is none."""
    records_from_ms = max(from_ms, rows_from_ms(connection))
    queries = [_within(_of_records(records_from_ms, to_ms), LEDGER, LEDGER, records_from_ms, to_ms, where)]
    if not {"end_user", "tags"} & where.keys():
        queries.append(_within(_KEPT, KEPT_SAMPLES, LEDGER_DIMENSIONS, from_ms, to_ms, where))
    found = [ShadowSample(*row) for query in queries for row in connection.execute(query)]
    return tuple(sorted(found, key=lambda sample: (sample.started_at_ms, sample.request_id)))


def keep_samples(connection: Connection, before_ms: int) -> None:
    """Before the records of requests that started before then are let go."""
    names = tuple(KEPT_SAMPLES.c.keys())
    measured = _of_records(0, before_ms).where(LEDGER.c.started_at_ms < before_ms)
    found = measured.add_columns(LEDGER.c.dimension_id).subquery()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    kept = dialect.insert(KEPT_SAMPLES).from_select(names, select(*(found.c[name] for name in names)).where(true()))
    connection.execute(kept.on_conflict_do_nothing())


def _of_records(from_ms: int, to_ms: int) -> Select[Any]:
    """Of the shadows of that time, each with its request. They are few, and an index knows them: found first, in a
    question of their own, for PostgreSQL to begin with them before it has counted what is in its tables, too."""
    rows = LEDGER_ROWS.c
    shadows = (
        select(rows.parent_id, rows.started_at_ms, rows.dimension_id, rows.sample_share, _ACTUAL.label("actual_nusd"))
        .where(rows.parent_id.is_not(None), rows.sample_share.is_not(None))
        .where(rows.started_at_ms >= from_ms - _LATEST_MS, rows.started_at_ms <= to_ms + _LATEST_MS)
        .cte("shadows")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    own = LEDGER_DIMENSIONS.alias("own")
    return (
        select(
            LEDGER.c.request_id,
            LEDGER.c.started_at_ms,
            LEDGER.c.deployment,
            LEDGER.c.alias,
            LEDGER.c.task,
            LEDGER.c.baseline_model,
            LEDGER.c.baseline_cost_nusd.label("booked_nusd"),
            case((shadows.c.actual_nusd > 0, shadows.c.actual_nusd), else_=0).label("actual_nusd"),
            shadows.c.sample_share.label("share"),
        )
        .join(shadows, shadows.c.parent_id == LEDGER.c.stored_id)
        .join(own, own.c.id == shadows.c.dimension_id)
        .where(own.c.kind == "shadow", own.c.status == "ok", LEDGER.c.deployment.is_not(None))
        .where(func.abs(shadows.c.started_at_ms - LEDGER.c.started_at_ms) <= _LATEST_MS)
    )


_ACTUAL = (
    LEDGER_ROWS.c.cost_nusd
    - func.coalesce(LEDGER_ROWS.c.retries_nusd, 0)
    + func.coalesce(LEDGER_ROWS.c.prompt_cache_nusd, 0)
)
"""Less than nothing where the answer was much shorter than the one whose discount this is."""


def _within(query: Select[Any], timed: Any, dimensions: Any, from_ms: int, to_ms: int, where: Filter) -> Select[Any]:
    let_in_all = (let_in(dimensions.c[name], values) for name, values in where.items())
    return query.where(timed.c.started_at_ms >= from_ms, timed.c.started_at_ms < to_ms, *let_in_all)
