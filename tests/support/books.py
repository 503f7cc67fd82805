"""`Books` by brute force: every sum from the records themselves, as an oracle for those that keep roll-ups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from policies.schedules import DAY_MS
from policies.spend import SpendRecord
from router.stores.cells import HOUR_MS, ROUTER, Cell, Dimension, Filter, HourCost, ShadowSample

_SUMS = (
    "input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "duration_ms", "cost_nusd",
    "retries_nusd", "prompt_cache_nusd", "baseline_cost_nusd", "observed_cost_nusd",
)  # fmt: skip


class RecordBooks:
    """The books of `records`. Hours are closed by what `close_hours` is told."""

    def __init__(self, records: Sequence[SpendRecord] = (), hours: Sequence[HourCost] = ()) -> None:
        self.records = list(records)
        self._hours = {(hour.hour_ms, hour.source): hour for hour in hours}

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        groups: dict[tuple[Any, ...], list[SpendRecord]] = defaultdict(list)
        for record in self._within(from_ms, to_ms, where):
            groups[tuple(value_of(record, name) for name in by)].append(record)
        cells = [
            Cell(
                key=dict(zip(by, key, strict=True)),
                request_count=len(group),
                **{name: sum(getattr(record, name) for record in group) for name in _SUMS},
            )
            for key, group in groups.items()
        ]
        return tuple(sorted(cells, key=lambda cell: [(value is not None, value) for value in cell.key.values()]))

    def samples(self, from_ms: int, to_ms: int, where: Filter | None = None) -> tuple[ShadowSample, ...]:
        measured = {record.request_id: record for record in self._within(from_ms, to_ms, where)}
        found = [
            _sample(measured[shadow.parent_id], shadow)
            for shadow in self.records
            if (shadow.kind, shadow.status) == ("shadow", "ok") and shadow.parent_id in measured
            if shadow.sample_share is not None and measured[shadow.parent_id].deployment is not None
            if abs(shadow.started_at_ms - measured[shadow.parent_id].started_at_ms) <= DAY_MS
        ]
        return tuple(sorted(found, key=lambda sample: (sample.started_at_ms, sample.request_id)))

    def booked_until_ms(self, from_ms: int, to_ms: int) -> int | None:
        hours = [value_of(record, "hour_ms") + HOUR_MS for record in self._within(from_ms, to_ms, None)]
        return max(hours, default=None)

    def close_hours(self, costs: Sequence[HourCost]) -> int:
        new = [cost for cost in costs if (cost.hour_ms, cost.source) not in self._hours]
        self._hours |= {(cost.hour_ms, cost.source): cost for cost in new}
        return len(new)

    def closed_until_ms(self, source: str) -> int | None:
        return max((hour + HOUR_MS for hour, machine in self._hours if machine == source), default=None)

    def hour_costs(self, from_ms: int, to_ms: int) -> tuple[HourCost, ...]:
        hours = [hour for hour in self._hours.values() if from_ms <= hour.hour_ms < to_ms]
        return tuple(
            replace(hour, booked_nusd=self._booked(hour)) for hour in sorted(hours, key=lambda h: (h.hour_ms, h.source))
        )

    def _booked(self, hour: HourCost) -> int:
        if hour.source == ROUTER:
            return 0
        inside = self._within(hour.hour_ms, hour.hour_ms + HOUR_MS, {"deployment": [hour.source]})
        return sum(record.cost_nusd for record in inside)

    def _within(self, from_ms: int, to_ms: int, where: Filter | None) -> list[SpendRecord]:
        inside = [record for record in self.records if from_ms <= record.started_at_ms < to_ms]
        return [r for r in inside if all(value_of(r, name) in values for name, values in (where or {}).items())]


def value_of(record: SpendRecord, name: Dimension) -> Any:
    if name == "hour_ms":
        return record.started_at_ms - record.started_at_ms % HOUR_MS
    return getattr(record, name)


def _sample(request: SpendRecord, shadow: SpendRecord) -> ShadowSample:
    return ShadowSample(
        request_id=request.request_id,
        started_at_ms=request.started_at_ms,
        deployment=request.deployment or "",
        alias=request.alias,
        task=request.task,
        baseline_model=request.baseline_model,
        booked_nusd=request.baseline_cost_nusd,
        actual_nusd=max(shadow.cost_nusd - shadow.retries_nusd + shadow.prompt_cache_nusd, 0),
        share=shadow.sample_share or 0.0,
    )
