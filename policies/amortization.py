"""What a machine costs, busy or idle, and what its tokens cost for it: exact, in nano-USD.

`Hardware` is one machine with its prices, `MachineUse` so many of it that serve one deployment, when, and how much
they can. A price by the year, the month or the day, or that of a machine that was bought, becomes one by the hour: a
year has 8,760 hours, a month a twelfth of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise
from math import ceil

from policies.money import round_half_up
from policies.schedules import DAY_MS, HOUR_MS, Schedule

HOURS_PER_YEAR = 8_760
HOURS_PER_MONTH = HOURS_PER_YEAR // 12
_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class HardwarePrice:
    """What one machine costs an hour from the beginning of `effective_from` on, UTC; not rounded."""

    effective_from: date
    nusd_per_hour: Fraction
    source: str = ""

    def __post_init__(self) -> None:
        if self.nusd_per_hour < 0:
            raise ValueError(f"the price from {self.effective_from} on is negative: {self.nusd_per_hour}")


@dataclass(frozen=True, slots=True)
class Hardware:
    """A kind of machine and its prices, oldest first. Before the first date the first price holds."""

    name: str
    prices: tuple[HardwarePrice, ...]

    def __post_init__(self) -> None:
        dates = [price.effective_from for price in self.prices]
        if not dates or any(a >= b for a, b in pairwise(dates)):
            raise ValueError(f"hardware {self.name!r} must have prices with ascending effective_from, found {dates}")

    def at(self, day: date) -> HardwarePrice:
        index = bisect_right(self.prices, day, key=lambda price: price.effective_from)
        return self.prices[max(index - 1, 0)]

    def parts(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, int, HardwarePrice]]:
        """[from_ms, to_ms), cut where prices change."""
        changes = [_midnight_ms(price.effective_from) for price in self.prices[1:]]
        cuts = [from_ms, *(change for change in changes if from_ms < change < to_ms), to_ms]
        for start_ms, end_ms in pairwise(cuts):
            if start_ms < end_ms:
                yield start_ms, end_ms, self.at(_day(start_ms))


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one machine was measured to do with `parallel_requests` at a time; None where that was not told.

    One of `tokens_per_second` (input and output) and `requests_per_second`. Raises ValueError.
    """

    tokens_per_second: Fraction | None = None
    requests_per_second: Fraction | None = None
    parallel_requests: int | None = None

    def __post_init__(self) -> None:
        given = [rate for rate in (self.tokens_per_second, self.requests_per_second) if rate is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError("exactly one of tokens_per_second and requests_per_second must be given, above 0")


@dataclass(frozen=True, slots=True)
class Load:
    """What machines did: of `duration_ms` requests that overlap count each."""

    request_count: int = 0
    tokens: int = 0
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class MachineUse:
    """`count` machines of one kind for one deployment.

    Those that are started `on_demand` cost the hours in which requests came, whole ones, and are as many as the load
    takes, at most `count`. The others cost what their `schedule` says, busy or idle; None: always.
    `nusd_per_request` is what the platform around them takes for each request.
    """

    hardware: Hardware
    count: int = 1
    schedule: Schedule | None = None
    on_demand: bool = False
    throughput: Throughput | None = None
    nusd_per_request: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}; it must be at least 1")
        if self.on_demand and self.schedule is not None:
            raise ValueError("machines that are started on demand have no schedule")
        if self.on_demand and self.throughput is None:
            raise ValueError("how many machines are started on demand is told by their throughput, which is missing")

    def running_ms(self, from_ms: int, to_ms: int) -> int:
        """Of one machine that is not started on demand."""
        return to_ms - from_ms if self.schedule is None else self.schedule.running_ms(from_ms, to_ms)

    @property
    def hours_per_day(self) -> Fraction:
        """Of one machine, on average over a week. One that is started on demand is taken to run always, as it does
        where requests are spread evenly and at least 24 a day."""
        return Fraction(24) if self.schedule is None else Fraction(self.schedule.ms_per_week, 7 * HOUR_MS)


# ---- prices by the hour ----------------------------------------------------------------------------


def hourly_of_year(nusd: Fraction) -> Fraction:
    return nusd / HOURS_PER_YEAR


def hourly_of_month(nusd: Fraction) -> Fraction:
    return nusd / HOURS_PER_MONTH


def hourly_of_day(nusd: Fraction) -> Fraction:
    return nusd / 24


def hourly_of_purchase(nusd: Fraction, residual_nusd: Fraction, years: Fraction) -> Fraction:
    """Straight line: what it loses until it is sold for `residual_nusd` after `years`, the same in every hour.

    It goes on after these years: whoever keeps the machine longer enters a price from then on. Raises ValueError.
    """
    if years <= 0 or residual_nusd > nusd:
        raise ValueError(f"a machine loses its price less its residual over some years; found {years} years")
    return (nusd - residual_nusd) / years / HOURS_PER_YEAR


# ---- what was spent --------------------------------------------------------------------------------


def cost_nusd(use: MachineUse, from_ms: int, to_ms: int) -> int:
    """What `use`, whose machines are not started on demand, costs over [from_ms, to_ms), Unix milliseconds, busy or
    idle, at the prices in force; rounded once, to the nearest nano-USD."""
    parts = use.hardware.parts(from_ms, to_ms)
    one = sum(
        (Fraction(use.running_ms(start, end), HOUR_MS) * price.nusd_per_hour for start, end, price in parts),
        Fraction(0),
    )
    return round_half_up(use.count * one)


@dataclass(frozen=True, slots=True)
class HourOfMachines:
    """What one hour cost, and how many machines ran in it, if only for a part."""

    unit_count: int
    cost_nusd: int


def hour_cost(use: MachineUse, hour_ms: int, load: Load) -> HourOfMachines:
    """The hour that begins at `hour_ms`. `load` tells how many machines were started on demand; the others cost the
    same whatever it is. Platforms' fees for its requests are included."""
    fees = use.nusd_per_request * load.request_count
    end_ms = hour_ms + HOUR_MS
    if not use.on_demand:
        running = use.running_ms(hour_ms, end_ms) > 0
        return HourOfMachines(use.count if running else 0, cost_nusd(use, hour_ms, end_ms) + round_half_up(fees))
    units = units_started(use, load)
    hourly = use.hardware.at(_day(hour_ms)).nusd_per_hour
    return HourOfMachines(units, round_half_up(units * hourly + fees))


def units_started(use: MachineUse, load: Load) -> int:
    """How many machines an hour of `load` takes: none for none, and never more than there are."""
    if load.request_count == 0:
        return 0
    share = capacity_share(use, load, HOUR_MS)
    return min(use.count, max(1, ceil(share or 0)))


def capacity_share(use: MachineUse, load: Load, machine_ms: int) -> Fraction | None:
    """`load` of what machines can do that ran for `machine_ms` together; None where nothing was measured, or none ran.

    Above 1 where they did more than was measured.
    """
    if use.throughput is None or machine_ms <= 0:
        return None
    if use.throughput.tokens_per_second is not None:
        return load.tokens * 1000 / (use.throughput.tokens_per_second * machine_ms)
    assert use.throughput.requests_per_second is not None  # one of the two is given
    return load.request_count * 1000 / (use.throughput.requests_per_second * machine_ms)


def busy_share(use: MachineUse, load: Load, machine_ms: int) -> Fraction | None:
    """The time that requests took, of the time that so many at once could have taken; None where that is not known."""
    if use.throughput is None or use.throughput.parallel_requests is None or machine_ms <= 0:
        return None
    return Fraction(load.duration_ms, use.throughput.parallel_requests * machine_ms)


# ---- what tokens cost ------------------------------------------------------------------------------


def list_price_nusd_per_mtok(
    use: MachineUse, on: date, tokens_per_request: Fraction | None = None, step_nusd: int = 100_000
) -> int | None:
    """The price of a million tokens, input or output, at which a machine that is never idle earns just what it costs.

    This is what belongs into configs/prices.yaml for the model. Rounded up to whole `step_nusd` (100,000 nano-USD are
    four decimals of a dollar), so that what is booked at it never falls short. A throughput in requests needs to be
    told how many tokens a request has; None where that, or any throughput, is missing.
    """
    if use.throughput is None:
        return None
    per_second = use.throughput.tokens_per_second
    if per_second is None:
        if not tokens_per_request:
            return None
        assert use.throughput.requests_per_second is not None  # one of the two is given
        per_second = use.throughput.requests_per_second * tokens_per_request
    tokens_per_hour = per_second * 3600
    fees = use.nusd_per_request / tokens_per_request if tokens_per_request else Fraction(0)
    exact = (use.hardware.at(on).nusd_per_hour / tokens_per_hour + fees) * _MTOK
    return ceil(exact / step_nusd) * step_nusd


def effective_nusd_per_ktok(cost_nusd: int, tokens: int) -> Fraction | None:
    """What a thousand tokens really cost, idle hours included; None where there are none."""
    return Fraction(cost_nusd * 1000, tokens) if tokens else None


# ---- days ------------------------------------------------------------------------------------------


def _day(instant_ms: int) -> date:
    return date(1970, 1, 1) + timedelta(days=instant_ms // DAY_MS)


def _midnight_ms(day: date) -> int:
    since = datetime.combine(day, time(), UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)
