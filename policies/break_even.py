"""From how many requests a day on a machine of one's own is cheaper than an API: exact, in nano-USD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import ceil, floor

from policies.amortization import MachineUse
from policies.catalog import TOKENS_PER_UNIT, Price
from policies.pricing import rates_for

_SECONDS_PER_HOUR = 3_600
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Mix:
    """The tokens of one request, on average."""

    input_tokens: Fraction
    output_tokens: Fraction

    @property
    def tokens(self) -> Fraction:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Api:
    """What is paid by the request. `nusd_per_request` may be a fraction: it is that of an average request."""

    name: str
    nusd_per_request: Fraction

    def nusd_per_day(self, requests: int) -> Fraction:
        return requests * self.nusd_per_request


@dataclass(frozen=True, slots=True)
class SelfHosted:
    """What is paid by the machine. `machine_count` run whatever the load is, and more as it grows.

    `requests_per_day` is what one machine can take, in whole requests; None where nobody measured it: then those that
    run are taken to do for any load. `nusd_per_request` is what the platform around them takes.
    """

    name: str
    machine_nusd_per_day: Fraction
    requests_per_day: int | None = None
    machine_count: int = 1
    nusd_per_request: Fraction = Fraction(0)

    def machines(self, requests: int) -> int:
        """How many so many requests a day take. Raises ValueError where one machine cannot take a single request."""
        if self.requests_per_day is None:
            return self.machine_count
        if self.requests_per_day == 0 and requests:
            raise ValueError(f"a machine of {self.name} takes longer than a day for a request of this mix")
        return max(self.machine_count, ceil(Fraction(requests, self.requests_per_day)) if requests else 0)

    def nusd_per_day(self, requests: int) -> Fraction:
        return self.machines(requests) * self.machine_nusd_per_day + requests * self.nusd_per_request


def api_option(name: str, price: Price, mix: Mix) -> Api:
    """An API at its list price, none of the input cached, in the tier that the average request falls into."""
    rates = rates_for(price, ceil(mix.input_tokens))
    tokens = mix.input_tokens * rates.input_nusd_per_mtok + mix.output_tokens * rates.output_nusd_per_mtok
    return Api(name, tokens / TOKENS_PER_UNIT)


def self_hosted_option(name: str, use: MachineUse, mix: Mix, on: date) -> SelfHosted:
    """The machines of `use`, always on or by schedule, at the prices of `on`."""
    hourly = use.hardware.at(on).nusd_per_hour
    return SelfHosted(
        name=name,
        machine_nusd_per_day=hourly * use.hours_per_day,
        requests_per_day=_requests_per_day(use, mix),
        machine_count=1 if use.on_demand else use.count,
        nusd_per_request=use.nusd_per_request,
    )


def _requests_per_day(use: MachineUse, mix: Mix) -> int | None:
    if use.throughput is None:
        return None
    per_second = use.throughput.requests_per_second
    if per_second is None:
        assert use.throughput.tokens_per_second is not None  # one of the two is given
        if not mix.tokens:
            return None
        per_second = use.throughput.tokens_per_second / mix.tokens
    return floor(per_second * _SECONDS_PER_HOUR * use.hours_per_day)


def break_even_requests(hosted: SelfHosted, api: Api) -> int | None:
    """The smallest whole number of requests a day at which `hosted` is cheaper than `api`; None where it never is.

    With m machines running, c requests a day each, d for a machine's day and s saved on a request: n requests are
    cheaper where machines(n) d < n s. Up to m c that is n > m d / s; and where d / s >= c even machines that are never
    idle lose, however many, for n s <= machines(n) c s <= machines(n) d.
    """
    one = _requests_a_machine_must_take(hosted, api)
    return None if one is None else floor(hosted.machine_count * one) + 1


def always_cheaper_from(hosted: SelfHosted, api: Api) -> int | None:
    """The smallest number of requests a day from which on `hosted` is never dearer again, nor equal.

    Each further machine is idle at first. With k of them, more than (k - 1) c requests, those up to k d / s are not
    cheaper; there are such where (k - 1) c + 1 <= k d / s, which no k above (c - 1) / (c - d / s) fulfils.
    """
    one = _requests_a_machine_must_take(hosted, api)
    if one is None:
        return None
    machines, most = hosted.machine_count, hosted.requests_per_day
    if most is not None:
        machines = max(machines, floor((most - 1) / (most - one)))
    return floor(machines * one) + 1


def _requests_a_machine_must_take(hosted: SelfHosted, api: Api) -> Fraction | None:
    """A day, to cost the same as `api`; None where no machine can take as many and one more."""
    saved = api.nusd_per_request - hosted.nusd_per_request
    if saved <= 0:
        return None
    one = hosted.machine_nusd_per_day / saved
    return None if hosted.requests_per_day is not None and one >= hosted.requests_per_day else one


def curve_requests(marks: Iterable[int]) -> tuple[int, ...]:
    """Where to reckon a curve that shows all `marks`: 1, 2, 5, 10 ... to past the largest, and the marks themselves."""
    wanted = {mark for mark in marks if mark > 0}
    last = 10 * max(wanted, default=100)
    found, decade = set(wanted), 1
    while decade <= last:
        found.update(step * decade for step in _STEPS if step * decade <= last)
        decade *= 10
    return tuple(sorted(found))


def curve(option: Api | SelfHosted, requests: Sequence[int]) -> tuple[Fraction, ...]:
    """What `option` costs a day, nano-USD, at each number of requests a day."""
    return tuple(option.nusd_per_day(count) for count in requests)
