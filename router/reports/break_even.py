"""From how many requests a day on each local deployment is cheaper than each API, and where the traffic is now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from math import ceil

from policies.amortization import MachineUse
from policies.break_even import (
    Api,
    Mix,
    SelfHosted,
    always_cheaper_from,
    api_option,
    break_even_requests,
    curve,
    curve_requests,
    self_hosted_option,
)
from policies.catalog import Price
from policies.money import round_half_up
from policies.schedules import DAY_MS, HOUR_MS
from router.config import Config
from router.prices import PriceBook
from router.reports.tables import Column, ReportTable, Value
from router.reports.utilization import decimal_of
from router.stores.cells import ROUTER, SIMULATED_MARK, Books, Cell, Filter

_SIDES = (
    "Requests have the tokens that the machine's own had on average in this time, or those of all where it had none; "
    "what the response cache answered counts for neither side. The APIs take their list price, without discounts for "
    "cached input. The machines cost their present price, and are as many as the load takes, spread evenly over the "
    "hours that they run: peaks need more."
)
_TWO_FIGURES = (
    "Past the first figure a further machine may cost more than the API for a while, until it is busy enough; from the "
    "second on that is over. Where there is none the machines are dearer at any load."
)
BASIS = (_SIDES, _TWO_FIGURES)
_SIMULATED = (
    "SIMULATED: requests of hardware that is marked so were answered by simulated models; their number and tokens are "
    "no real traffic's."
)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Requests a day at which the machines are cheaper than `api`: the fewest, and those from which on it stays so.

    None where they never are.
    """

    api: Api
    cheaper_from: int | None
    always_cheaper_from: int | None


@dataclass(frozen=True, slots=True)
class Curve:
    """What one option costs a day, in nano-USD, at each of its outlook's numbers of requests; `hosted`: on machines."""

    name: str
    hosted: bool
    nusd_per_day: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """One local deployment beside every API, cheapest first, at its own `mix`.

    `own_traffic`: the mix and the requests a day are those of the deployment; else it had none, and they are those of
    all. `simulated`: simulated models answered some of it. `curves` have their points at `requests`, the deployment's
    own first.
    """

    hosted: SelfHosted
    hardware: str
    mix: Mix
    requests_per_day: Fraction
    own_traffic: bool
    simulated: bool
    break_evens: tuple[BreakEven, ...]
    requests: tuple[int, ...]
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class BreakEvenReport:
    """By the traffic of [from_ms, to_ms). No outlooks where there was none, or no machine is configured."""

    from_ms: int
    to_ms: int
    outlooks: tuple[Outlook, ...]

    @property
    def simulated(self) -> bool:
        return any(outlook.simulated for outlook in self.outlooks)


def break_even_report(
    books: Books,
    from_ms: int,
    to_ms: int,
    machines: Mapping[str, MachineUse],
    apis: Mapping[str, Price],
) -> BreakEvenReport:
    """`machines` as `router.hardware.machines_of` tells them, `apis` as `apis_of`; both are of the day that is asked
    about, whose prices hold.
    """
    on = datetime.fromtimestamp((to_ms - 1) / 1000, UTC).date()
    answered: Filter = {"kind": ("request",), "cache": ("miss", "off"), "status": ("ok",)}
    cells = [
        cell
        for cell in books.cells(from_ms, to_ms, ("hour_ms", "deployment", "simulated"), answered)
        if cell.input_tokens + cell.output_tokens
    ]
    hosted = {name: use for name, use in machines.items() if name != ROUTER} if cells else {}
    outlooks = tuple(_outlook(name, use, cells, apis, on) for name, use in hosted.items())
    return BreakEvenReport(from_ms, to_ms, outlooks)


def apis_of(config: Config, prices: PriceBook, on: date) -> dict[str, Price]:
    """The deployments without hardware, by name, and the baseline where none of them is it. Raises UnknownModel."""
    paid = {each.name: each.price for each in config.deployments if each.hardware is None}
    if config.baseline not in paid.values():
        taken = any(each.name == config.baseline for each in config.deployments)
        paid[f"{config.baseline} (baseline)" if taken else config.baseline] = config.baseline
    return {name: prices.model(model).prices.at(on) for name, model in paid.items()}


def _outlook(name: str, use: MachineUse, cells: Sequence[Cell], apis: Mapping[str, Price], on: date) -> Outlook:
    own = [cell for cell in cells if cell.key["deployment"] == name]
    traffic = own or cells
    mix = _mix(traffic)
    hosted = self_hosted_option(name, use, mix, on)
    priced = sorted(
        (api_option(api, price, mix) for api, price in apis.items()), key=lambda api: (api.nusd_per_request, api.name)
    )
    found = tuple(BreakEven(api, break_even_requests(hosted, api), always_cheaper_from(hosted, api)) for api in priced)
    per_day = _requests_per_day(traffic)
    marks = [ceil(per_day), *(mark for each in found for mark in (each.cheaper_from, each.always_cheaper_from) if mark)]
    requests = curve_requests(marks)
    return Outlook(
        hosted=hosted,
        hardware=use.hardware.name,
        mix=mix,
        requests_per_day=per_day,
        own_traffic=bool(own),
        simulated=any(cell.key["simulated"] for cell in traffic),
        break_evens=found,
        requests=requests,
        curves=tuple(_curves(hosted, priced, requests)),
    )


def _curves(hosted: SelfHosted, apis: Sequence[Api], requests: Sequence[int]) -> Iterable[Curve]:
    if hosted.requests_per_day != 0:  # else it is too slow for a single request
        yield Curve(hosted.name, True, tuple(map(round_half_up, curve(hosted, requests))))
    for api in apis:
        yield Curve(api.name, False, tuple(map(round_half_up, curve(api, requests))))


def _mix(cells: Sequence[Cell]) -> Mix:
    count = sum(cell.request_count for cell in cells)
    return Mix(
        Fraction(sum(cell.input_tokens for cell in cells), count),
        Fraction(sum(cell.output_tokens for cell in cells), count),
    )


def _requests_per_day(cells: Sequence[Cell]) -> Fraction:
    """Over the time from the first hour with requests to the last, but a day at least."""
    hours = [int(cell.key["hour_ms"] or 0) for cell in cells]
    span_ms = max(DAY_MS, max(hours) + HOUR_MS - min(hours))
    return Fraction(sum(cell.request_count for cell in cells) * DAY_MS, span_ms)


# ---- as a table ------------------------------------------------------------------------------------

_COLUMNS = (
    Column("machine", "Local", "text", dimension=True),
    Column("hardware", "hardware", "text"),
    Column("api", "API", "text", dimension=True),
    Column("cheaper_from", "cheaper from", "count", "requests a day"),
    Column("always_cheaper_from", "for good from", "count", "requests a day"),
    Column("requests_per_day", "requests a day now", "number", "requests a day"),
    Column("machine_cost_per_day", "a machine a day", "money", "USD"),
    Column("requests_per_machine", "it can take", "count", "requests a day"),
    Column("input_tokens", "input tokens", "number", "tokens", description="of a request, on average", detail=True),
    Column("output_tokens", "output tokens", "number", "tokens", description="of a request, on average", detail=True),
    Column("api_cost_per_request", "API a request", "money", "USD", detail=True),
)


def break_even_table(report: BreakEvenReport, generated_at_ms: int) -> ReportTable:
    """A row for each local deployment and API. There is no sense in a total."""
    return ReportTable(
        name="break-even",
        title="Break-even of machines",
        from_ms=report.from_ms,
        to_ms=report.to_ms,
        timezone="UTC",
        generated_at_ms=generated_at_ms,
        columns=_COLUMNS,
        rows=tuple(_row(outlook, found) for outlook in report.outlooks for found in outlook.break_evens),
        total=None,
        basis=(*BASIS, _SIMULATED) if report.simulated else BASIS,
        simulated=report.simulated,
    )


def _row(outlook: Outlook, found: BreakEven) -> tuple[Value, ...]:
    return (
        outlook.hosted.name,
        outlook.hardware + (SIMULATED_MARK if outlook.simulated else ""),
        found.api.name,
        found.cheaper_from,
        found.always_cheaper_from,
        decimal_of(outlook.requests_per_day, "0.1"),
        round_half_up(outlook.hosted.machine_nusd_per_day),
        outlook.hosted.requests_per_day,
        decimal_of(outlook.mix.input_tokens, "0.1"),
        decimal_of(outlook.mix.output_tokens, "0.1"),
        round_half_up(found.api.nusd_per_request),
    )
