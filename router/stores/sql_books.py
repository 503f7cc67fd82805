"""`SqlBooks`: the ledger as reports read it, by sums in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, and_, false, func, or_, select, text
from sqlalchemy.sql.elements import ColumnElement

from router.stores.cells import HOUR_MS, Cell, Dimension, Filter, HourCost, ShadowSample
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import HOUR_COSTS, LEDGER

_SUMS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "duration_ms",
    "cost_nusd",
    "retries_nusd",
    "prompt_cache_nusd",
    "baseline_cost_nusd",
    "observed_cost_nusd",
)


class SqlBooks:
    """`router.stores.cells.Books` in the tables of `sql_schema`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        keys = [_column(name).label(name) for name in by]
        sums = [func.count().label("request_count"), *(func.sum(LEDGER.c[name]).label(name) for name in _SUMS)]
        query = (
            select(*keys, *sums)
            .where(LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms, *_conditions(where))
            .group_by(*by)
            .having(func.count() > 0)
        )
        with reading(self._engine) as connection:
            found = [_cell(by, row) for row in connection.execute(query).mappings()]
        return tuple(sorted(found, key=lambda cell: [(value is not None, value) for value in cell.key.values()]))

    def samples(self, from_ms: int, to_ms: int, where: Filter | None = None) -> tuple[ShadowSample, ...]:
        shadow = LEDGER.alias("shadow")
        query = (
            select(
                LEDGER.c.request_id,
                LEDGER.c.started_at_ms,
                LEDGER.c.deployment,
                LEDGER.c.alias,
                LEDGER.c.task,
                LEDGER.c.baseline_model,
                LEDGER.c.baseline_cost_nusd.label("booked_nusd"),
                (shadow.c.cost_nusd - shadow.c.retries_nusd + shadow.c.prompt_cache_nusd).label("actual_nusd"),
                shadow.c.sample_share.label("share"),
            )
            .join(shadow, shadow.c.parent_id == LEDGER.c.request_id)
            .where(shadow.c.kind == "shadow", shadow.c.status == "ok", shadow.c.sample_share.is_not(None))
            .where(LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms)
            .where(LEDGER.c.deployment.is_not(None), *_conditions(where))
            .order_by(LEDGER.c.started_at_ms, LEDGER.c.request_id)
        )
        with reading(self._engine) as connection:
            return tuple(ShadowSample(**row) for row in connection.execute(query).mappings())

    def close_hours(self, costs: Sequence[HourCost]) -> int:
        if not costs:
            return 0
        names = ("hour_ms", "source", "hardware", "unit_count", "cost_nusd")
        statement = text(
            f"INSERT INTO hour_costs ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)}) "
            "ON CONFLICT (hour_ms, source) DO NOTHING"
        ).execution_options(preserve_rowcount=True)
        # In one order, so that two who close the same hours wait for each other and never in a circle.
        ordered = sorted(costs, key=lambda cost: (cost.hour_ms, cost.source))
        with writing(self._engine) as connection:
            rows = [{name: getattr(cost, name) for name in names} for cost in ordered]
            return int(connection.execute(statement, rows).rowcount)

    def closed_until_ms(self, source: str) -> int | None:
        with reading(self._engine) as connection:
            newest = connection.execute(
                select(func.max(HOUR_COSTS.c.hour_ms)).where(HOUR_COSTS.c.source == source)
            ).scalar()
        return None if newest is None else int(newest) + HOUR_MS

    def hour_costs(self, from_ms: int, to_ms: int) -> tuple[HourCost, ...]:
        query = (
            select(HOUR_COSTS)
            .where(HOUR_COSTS.c.hour_ms >= from_ms, HOUR_COSTS.c.hour_ms < to_ms)
            .order_by(HOUR_COSTS.c.hour_ms, HOUR_COSTS.c.source)
        )
        with reading(self._engine) as connection:
            costs = [HourCost(**row) for row in connection.execute(query).mappings()]
        return tuple(self._with_what_was_booked(costs))

    def _with_what_was_booked(self, costs: Sequence[HourCost]) -> Iterator[HourCost]:
        if not costs:
            return
        sources = {cost.source for cost in costs}
        span = costs[0].hour_ms, costs[-1].hour_ms + HOUR_MS
        cells = self.cells(*span, ("hour_ms", "deployment"), {"deployment": sources})
        booked = {(cell.key["hour_ms"], cell.key["deployment"]): cell.cost_nusd for cell in cells}
        for cost in costs:
            yield HourCost(
                cost.hour_ms,
                cost.source,
                cost.hardware,
                cost.unit_count,
                cost.cost_nusd,
                booked.get((cost.hour_ms, cost.source), 0),
            )


def _column(name: Dimension) -> ColumnElement[Any]:
    if name == "hour_ms":
        return LEDGER.c.started_at_ms // HOUR_MS * HOUR_MS
    return LEDGER.c[name]


def _conditions(where: Filter | None) -> Iterator[ColumnElement[bool]]:
    for name, values in (where or {}).items():
        column, known = _column(name), [value for value in values if value is not None]
        let_in = column.in_(known) if known else false()
        yield or_(let_in, column.is_(None)) if None in values else and_(let_in)


def _cell(by: Sequence[Dimension], row: Any) -> Cell:
    # PostgreSQL sums bigints to a numeric, which arrives as Decimal.
    sums = {name: int(row[name]) for name in ("request_count", *_SUMS)}
    return Cell(key={name: row[name] for name in by}, **sums)
