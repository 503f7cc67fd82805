"""What machines cost in their closed hours, what was booked for them at list price, and how busy they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from policies.amortization import (
    Load,
    MachineUse,
    busy_share,
    capacity_share,
    effective_nusd_per_ktok,
    list_price_nusd_per_mtok,
)
from policies.money import round_half_up
from policies.schedules import HOUR_MS
from router.reports.tables import Column, Provenance, ReportTable, Value
from router.stores.cells import ROUTER, SIMULATED_MARK, Books, HourCost

HOURS_PER_DAY = 24
_COSTS = (
    "The true cost is that of every closed hour, busy or idle, at the machine's price of that hour; hours that are not "
    "closed yet are not in it. The list cost is what requests that began in these hours were booked at. Idle is the "
    "difference, negative where requests brought in more."
)
_CAPACITY = (
    "Capacity is what one machine was measured to do, by the configuration as it is now, times the machines and the "
    "time that they ran. Utilisation is the load's share of it; busy is the time that requests took, of the time that "
    "as many at once as in that measurement could have taken."
)
BASIS = (_COSTS, _CAPACITY)
_SIMULATED = "SIMULATED: hardware that is marked so served simulated models; nobody paid for it."


@dataclass(frozen=True, slots=True)
class MachineLine:
    """The closed hours of what serves `source`, a deployment or ROUTER. Amounts are nano-USD.

    `machine_ms` is how long its machines ran, added up. Shares are None where no throughput is configured; above 1
    machines did more than was measured. `list_nusd_per_mtok` is the price at which a machine that is never idle earns
    what it costs: what configs/prices.yaml should say.
    """

    source: str
    hardware: tuple[str, ...]
    hour_count: int
    machine_ms: int
    cost_nusd: int
    booked_nusd: int
    request_count: int
    input_tokens: int
    output_tokens: int
    duration_ms: int
    capacity_share: Fraction | None
    busy_share: Fraction | None
    list_nusd_per_mtok: int | None
    closed_until_ms: int | None

    @property
    def idle_nusd(self) -> int:
        return self.cost_nusd - self.booked_nusd

    @property
    def effective_nusd_per_mtok(self) -> int | None:
        """What a million tokens really cost; None where there were none."""
        exact = effective_nusd_per_ktok(self.cost_nusd, self.input_tokens + self.output_tokens)
        return None if exact is None else round_half_up(exact * 1000)

    @property
    def requests_per_hour(self) -> Fraction:
        """On average over the closed hours."""
        return Fraction(self.request_count, self.hour_count)


@dataclass(frozen=True, slots=True)
class UtilizationReport:
    """The hours that began in [from_ms, to_ms), the dearest machine first."""

    from_ms: int
    to_ms: int
    machines: tuple[MachineLine, ...]

    @property
    def simulated(self) -> bool:
        """Whether any of it was never paid to anyone."""
        return any(name.endswith(SIMULATED_MARK) for line in self.machines for name in line.hardware)


@dataclass(frozen=True, slots=True)
class _Work:
    """What was answered in one hour."""

    request_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    duration_ms: int = 0


def utilization_report(books: Books, from_ms: int, to_ms: int, machines: Mapping[str, MachineUse]) -> UtilizationReport:
    """`machines` are those configured now, by deployment or ROUTER. Hours of others are shown without their shares."""
    by_source: dict[str, list[HourCost]] = defaultdict(list)
    for hour in books.hour_costs(from_ms, to_ms):
        by_source[hour.source].append(hour)
    work = _work(books, by_source)
    lines = (
        _line(source, hours, machines.get(source), work, books.closed_until_ms(source))
        for source, hours in by_source.items()
    )
    return UtilizationReport(from_ms, to_ms, tuple(sorted(lines, key=lambda line: (-line.cost_nusd, line.source))))


def _work(books: Books, by_source: Mapping[str, Sequence[HourCost]]) -> dict[tuple[str, int], _Work]:
    """By source and hour. The router's is all that was asked of it; a deployment's what was sent there."""
    hours = [hour.hour_ms for many in by_source.values() for hour in many]
    if not hours:
        return {}
    span = min(hours), max(hours) + HOUR_MS
    deployments = tuple(source for source in by_source if source != ROUTER)
    sent = books.cells(*span, ("hour_ms", "deployment"), {"deployment": deployments, "cache": ("miss", "off")})
    asked = books.cells(*span, ("hour_ms",), {"kind": ("request",)}) if ROUTER in by_source else ()
    return {
        (str(cell.key.get("deployment", ROUTER)), int(cell.key["hour_ms"] or 0)): _Work(
            cell.request_count, cell.input_tokens, cell.output_tokens, cell.duration_ms
        )
        for cell in (*sent, *asked)
    }


def _line(
    source: str,
    hours: Sequence[HourCost],
    use: MachineUse | None,
    work: Mapping[tuple[str, int], _Work],
    closed_until_ms: int | None,
) -> MachineLine:
    done = [work.get((source, hour.hour_ms), _Work()) for hour in hours]
    input_tokens, output_tokens = sum(each.input_tokens for each in done), sum(each.output_tokens for each in done)
    tokens, request_count = input_tokens + output_tokens, sum(each.request_count for each in done)
    load = Load(request_count, tokens, sum(each.duration_ms for each in done))
    machine_ms = sum(hour.unit_count * _running_ms(use, hour.hour_ms) for hour in hours)
    per_request = Fraction(tokens, request_count) if request_count else None
    return MachineLine(
        source=source,
        hardware=tuple(dict.fromkeys(hour.hardware for hour in hours)),
        hour_count=len(hours),
        machine_ms=machine_ms,
        cost_nusd=sum(hour.cost_nusd for hour in hours),
        booked_nusd=sum(hour.booked_nusd for hour in hours),
        request_count=request_count,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        duration_ms=load.duration_ms,
        capacity_share=capacity_share(use, load, machine_ms) if use else None,
        busy_share=busy_share(use, load, machine_ms) if use else None,
        list_nusd_per_mtok=list_price_nusd_per_mtok(use, _day(hours[-1].hour_ms), per_request) if use else None,
        closed_until_ms=closed_until_ms,
    )


def _running_ms(use: MachineUse | None, hour_ms: int) -> int:
    """Of one machine that ran in this hour. Where its schedule says now that it did not, it was another one then."""
    return (use.running_ms(hour_ms, hour_ms + HOUR_MS) if use else 0) or HOUR_MS


def _day(instant_ms: int) -> date:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).date()


# ---- as a table ------------------------------------------------------------------------------------

_COLUMNS = (
    Column("machine", "Deployment", "text", dimension=True, description="that the machines serve, or Parsimony itself"),
    Column("hardware", "hardware", "text"),
    Column("hours", "hours", "count", "hours", adds_up=True, description="that are closed"),
    Column("machine_hours", "machine hours", "number", "hours", description="that machines ran, added up"),
    Column("cost", "true cost", "money", "USD", adds_up=True),
    Column("list_cost", "list cost", "money", "USD", adds_up=True),
    Column("idle_cost", "idle", "money", "USD", adds_up=True),
    Column("utilization", "utilisation", "percent", description="of the measured capacity"),
    Column("busy", "busy", "percent", description="of the time of the requests that were measured at once"),
    Column("requests", "requests", "count", "requests"),
    Column("requests_per_hour", "requests an hour", "number", "requests"),
    Column("input_tokens", "input tokens", "count", "tokens"),
    Column("output_tokens", "output tokens", "count", "tokens"),
    Column("effective_per_mtok", "true cost per 1M", "money", "USD", description="tokens, input and output alike"),
    Column("list_per_mtok", "list price per 1M", "money", "USD", description="at capacity: never idle"),
    Column("closed_until", "closed until", "instant"),
)


def utilization_table(report: UtilizationReport, generated_at_ms: int) -> ReportTable:
    """Times are those of UTC: hours are closed by them."""
    return ReportTable(
        name="utilization",
        title="Utilisation of machines",
        from_ms=report.from_ms,
        to_ms=report.to_ms,
        timezone="UTC",
        generated_at_ms=generated_at_ms,
        columns=_COLUMNS,
        rows=tuple(map(_row, report.machines)),
        total=_total(report.machines),
        basis=(*BASIS, _SIMULATED) if report.simulated else BASIS,
        simulated=report.simulated,
        provenance=Provenance(closed_until_ms={line.source: line.closed_until_ms for line in report.machines}),
    )


def _row(line: MachineLine) -> tuple[Value, ...]:
    return (
        line.source,
        ", ".join(line.hardware),
        line.hour_count,
        decimal_of(Fraction(line.machine_ms, HOUR_MS), "0.1"),
        line.cost_nusd,
        line.booked_nusd,
        line.idle_nusd,
        _percent(line.capacity_share),
        _percent(line.busy_share),
        line.request_count,
        decimal_of(line.requests_per_hour, "0.1"),
        line.input_tokens,
        line.output_tokens,
        line.effective_nusd_per_mtok,
        line.list_nusd_per_mtok,
        line.closed_until_ms,
    )


def _total(lines: Iterable[MachineLine]) -> tuple[Value, ...]:
    """Of what can be added up: requests that the router passed on to a machine would count twice."""
    lines = tuple(lines)
    sums: dict[str, Value] = {
        "machine": "total",
        "hours": sum(line.hour_count for line in lines),
        "cost": sum(line.cost_nusd for line in lines),
        "list_cost": sum(line.booked_nusd for line in lines),
        "idle_cost": sum(line.idle_nusd for line in lines),
    }
    return tuple(sums.get(column.name) for column in _COLUMNS)


def _percent(share: Fraction | None) -> Decimal | None:
    return None if share is None else decimal_of(100 * share, "0.1")


def decimal_of(number: Fraction, step: str) -> Decimal:
    """To so many decimals as `step` has."""
    exact = Decimal(number.numerator) / Decimal(number.denominator)
    return exact.quantize(Decimal(step), rounding=ROUND_HALF_EVEN)
