"""`charges`: the ledger as line items, one a day for each team, model and kind of request, and one for each machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from policies.money import format_usd
from policies.schedules import DAY_MS
from router.reports.machines import part_of_hour
from router.stores.cells import HOUR_MS, ROUTER, Books, Cell, Dimension, HourCost

_DIFFER_IN: tuple[Dimension, ...] = (
    "team_id", "project_id", "deployment", "provider_name", "request_model", "price_effective_from", "baseline_model",
    "kind", "cache", "simulated",
)  # fmt: skip
_CACHE = "(response cache)"
_US = "Parsimony"
_PAID_TO_NOBODY = "; simulated, paid to nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What [start_ms, end_ms), within a day of UTC, cost of one thing. Nano-USD.

    `usage` of tokens is at list price; an `adjustment` is a machine's true cost less what its requests were booked
    at, or what was booked for requests of which no tokens are known. So `cost_nusd` of all charges adds up to the
    effective cost of the time.
    """

    category: Literal["usage", "adjustment"]
    start_ms: int
    end_ms: int
    description: str
    provider_name: str
    sku: str | None
    cost_nusd: int
    team_id: str | None = None
    project_id: str | None = None
    deployment: str | None = None
    machine: str | None = None
    """Its hardware; `deployment` is then what it serves, None where that is the router itself."""
    machine_hours: int | None = None
    kind: str | None = None
    baseline_model: str | None = None
    simulated: bool = False
    request_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    counterfactual_nusd: int = 0
    """As booked when the requests were answered: reports correct it by shadow samples, line items do not."""

    @property
    def token_count(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def billing_month(self) -> tuple[datetime, datetime]:
        """Its beginning and end, UTC."""
        day = datetime.fromtimestamp(self.start_ms / 1000, UTC)
        first = datetime(day.year, day.month, 1, tzinfo=UTC)
        return first, first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)


def charges(books: Books, from_ms: int, to_ms: int) -> Iterator[Charge]:
    """Everything in [from_ms, to_ms), a day at a time, so that a year needs no more memory than a day."""
    for day_ms in _days(books, from_ms, to_ms):
        start_ms, end_ms = max(day_ms, from_ms), min(day_ms + DAY_MS, to_ms)
        for cell in books.cells(start_ms, end_ms, _DIFFER_IN):
            if cell.cost_nusd or cell.baseline_cost_nusd or cell.input_tokens or cell.output_tokens:
                yield _of_requests(cell, start_ms, end_ms)
        yield from _of_machines(books.hour_costs(start_ms - start_ms % HOUR_MS, end_ms), start_ms, end_ms)


def _days(books: Books, from_ms: int, to_ms: int) -> list[int]:
    """Those of which there is anything: whoever asks for all of time does not wait for days that hold nothing."""
    hours = {int(cell.key["hour_ms"] or 0) for cell in books.cells(from_ms, to_ms, ("hour_ms",))}
    hours |= {hour.hour_ms for hour in books.hour_costs(from_ms - from_ms % HOUR_MS, to_ms)}
    return sorted({hour_ms - hour_ms % DAY_MS for hour_ms in hours})


def _of_requests(cell: Cell, start_ms: int, end_ms: int) -> Charge:
    key = {name: None if value is None else str(value) for name, value in cell.key.items()}
    cached = key["cache"] == "hit"
    sku = _CACHE if cached else key["request_model"] or key["deployment"]
    return Charge(
        category="usage" if cell.input_tokens or cell.output_tokens else "adjustment",
        start_ms=start_ms,
        end_ms=end_ms,
        description=_description(cell, sku),
        provider_name=_US if cached else key["provider_name"] or _US,
        sku=sku,
        cost_nusd=cell.cost_nusd,
        team_id=key["team_id"],
        project_id=key["project_id"],
        deployment=None if cached else key["deployment"],
        kind=key["kind"],
        baseline_model=key["baseline_model"],
        simulated=bool(cell.key["simulated"]),
        request_count=cell.request_count,
        input_tokens=cell.input_tokens,
        output_tokens=cell.output_tokens,
        cached_input_tokens=cell.cached_input_tokens,
        reasoning_tokens=cell.reasoning_tokens,
        counterfactual_nusd=cell.baseline_cost_nusd,
    )


def _description(cell: Cell, sku: str | None) -> str:
    requests = f"{cell.request_count} requests" + (
        "" if cell.key["kind"] == "request" else f" of kind {cell.key['kind']}"
    )
    counted = f"{requests}: {cell.input_tokens} input and {cell.output_tokens} output tokens"
    price = cell.key["price_effective_from"]
    at = f", at the list price of {price}" if price else ""
    simulated = _PAID_TO_NOBODY if cell.key["simulated"] else ""
    return f"{sku or 'no model'}, {counted}{at}{simulated}"


def _of_machines(hours: Sequence[HourCost], start_ms: int, end_ms: int) -> Iterator[Charge]:
    """Of an hour that lies in there in part, its part by time, as in every report; its machines where it begins."""
    by_machine: dict[tuple[str, str], list[HourCost]] = defaultdict(list)
    for hour in hours:
        by_machine[hour.source, hour.hardware].append(hour)
    for (source, hardware), own in sorted(by_machine.items()):
        idle_nusd = sum(_inside(hour, hour.idle_nusd, start_ms, end_ms) for hour in own)
        booked_nusd = sum(_inside(hour, hour.booked_nusd, start_ms, end_ms) for hour in own)
        machine_hours = sum(hour.unit_count for hour in own if hour.hour_ms >= start_ms)
        simulated = any(hour.simulated for hour in own)
        yield Charge(
            category="adjustment",
            start_ms=start_ms,
            end_ms=end_ms,
            description=(
                f"{hardware} for {source}, {machine_hours} machine hours: {format_usd(idle_nusd + booked_nusd)} USD, "
                f"of which {format_usd(booked_nusd)} USD are booked with its requests"
                f"{_PAID_TO_NOBODY if simulated else ''}"
            ),
            provider_name=_US,
            sku=hardware,
            cost_nusd=idle_nusd,
            deployment=None if source == ROUTER else source,
            machine=hardware,
            machine_hours=machine_hours,
            simulated=simulated,
        )


def _inside(hour: HourCost, amount: int, start_ms: int, end_ms: int) -> int:
    return part_of_hour(amount, max(start_ms - hour.hour_ms, 0), min(end_ms - hour.hour_ms, HOUR_MS))
