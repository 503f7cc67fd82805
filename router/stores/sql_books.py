"""`SqlBooks`: the ledger as reports read it, by sums in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Select, func, select, text
from sqlalchemy.sql.elements import ColumnElement

from router.stores.cells import HOUR_MS, Cell, Dimension, Filter, HourCost, ShadowSample
from router.stores.sql_engine import reading, writing
from router.stores.sql_facts import Facts, facts, let_in
from router.stores.sql_rows import SUMS
from router.stores.sql_samples import samples
from router.stores.sql_schema import HOUR_COSTS, HOURLY_SUMS, LEDGER_DIMENSIONS

_SUMMED = ("request_count", *SUMS)


class SqlBooks:
    """`router.stores.cells.Books` in the tables of `sql_schema`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        by_hours = not {"end_user", "tags"} & {*by, *(where or ())}
        sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMMED))
        with reading(self._engine) as connection:
            for part in facts(from_ms, to_ms, by_hours=by_hours):
                for row in connection.execute(_sums_of(part, by, where)):
                    key, found = tuple(row[: len(by)]), row[len(by) :]
                    # PostgreSQL sums bigints to a numeric, which arrives as Decimal.
                    sums[key] = [before + int(more or 0) for before, more in zip(sums[key], found, strict=True)]
        ordered = sorted(sums, key=lambda key: [(value is not None, value) for value in key])
        return tuple(Cell(dict(zip(by, key, strict=True)), *sums[key]) for key in ordered if sums[key][0])

    def samples(self, from_ms: int, to_ms: int, where: Filter | None = None) -> tuple[ShadowSample, ...]:
        with reading(self._engine) as connection:
            return samples(connection, from_ms, to_ms, where or {})

    def booked_until_ms(self, from_ms: int, to_ms: int) -> int | None:
        with reading(self._engine) as connection:
            newest = [connection.execute(_newest_hour(part)).scalar() for part in facts(from_ms, to_ms, by_hours=True)]
        return max((int(hour_ms) + HOUR_MS for hour_ms in newest if hour_ms is not None), default=None)

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


def _sums_of(part: Facts, by: Sequence[Dimension], where: Filter | None) -> Select[Any]:
    """Keys and sums. Of hourly sums, those of each combination of dimensions come first, then those of the keys: a
    thousand sorted rows instead of a million."""
    conditions = (*part.within, *_conditions(part, where))
    keys = [part.column(name).label(name) for name in by]
    if not part.rolled_up or "hour_ms" in by:
        totals = [part.total(name) for name in _SUMMED]
        return select(*keys, *totals).select_from(part.source).where(*conditions).group_by(*by)
    dimensions = LEDGER_DIMENSIONS.c.id
    totals = [part.total(name).label(name) for name in _SUMMED]
    each = select(dimensions, *totals).select_from(part.source).where(*conditions).group_by(dimensions).subquery()
    named = LEDGER_DIMENSIONS.join(each, each.c.id == dimensions)
    return select(*keys, *(func.sum(each.c[name]) for name in _SUMMED)).select_from(named).group_by(*by)


def _newest_hour(part: Facts) -> Select[Any]:
    """Of hourly sums, that of each combination of dimensions, which their key is ordered by: a step into an index
    for each instead of a million sums."""
    hour_ms = part.column("hour_ms")
    if not part.rolled_up:
        return select(func.max(hour_ms)).select_from(part.source).where(*part.within)
    of_one = select(func.max(hour_ms)).where(HOURLY_SUMS.c.dimension_id == LEDGER_DIMENSIONS.c.id, *part.within)
    each = select(of_one.correlate(LEDGER_DIMENSIONS).scalar_subquery().label("hour_ms")).select_from(LEDGER_DIMENSIONS)
    return select(func.max(each.subquery().c.hour_ms))


def _conditions(part: Facts, where: Filter | None) -> Iterator[ColumnElement[bool]]:
    for name, values in (where or {}).items():
        yield let_in(part.column(name), values)
