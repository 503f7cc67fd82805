"""What reports are made of: sums over the ledger by any of its dimensions, hours of machines, shadow samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from policies.schedules import HOUR_MS as HOUR_MS

Dimension = Literal[
    "hour_ms",
    "team_id",
    "project_id",
    "key_id",
    "end_user",
    "tags",
    "alias",
    "deployment",
    "deployment_tier",
    "provider_name",
    "request_model",
    "price_effective_from",
    "reason",
    "cache",
    "status",
    "kind",
    "tier",
    "task",
    "usage_source",
    "baseline_model",
    "estimator",
    "observed_deployment",
    "simulated",
]
"""By which the ledger can be summed up. `hour_ms` is the beginning of the record's hour in Unix milliseconds, UTC.

End users and tags are in no roll-up: sums by them read every record of the period.
"""

Filter = Mapping[Dimension, Collection[str | bool | None]]
"""By dimension, the values that are let in. `tags` is compared as a whole, as the record has it: ",batch,nightly,"."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The sums of all records that agree in the dimensions that were asked for, by whose names `key` has its values.

    Amounts are nano-USD.
    """

    key: Mapping[Dimension, str | int | bool | None]
    request_count: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    duration_ms: int
    cost_nusd: int
    retries_nusd: int
    prompt_cache_nusd: int
    baseline_cost_nusd: int
    observed_cost_nusd: int


@dataclass(frozen=True, slots=True)
class ShadowSample:
    """A request that went to the baseline, too: what the counterfactual was booked at, and what it really is.

    `share` is the probability with which it was drawn. Nano-USD; both with the discount that the counterfactual was
    booked with: a request that is asked again finds in the provider's cache what one that was asked once would not
    have.
    """

    request_id: str
    started_at_ms: int
    deployment: str
    alias: str
    task: str | None
    baseline_model: str
    booked_nusd: int
    actual_nusd: int
    share: float


SIMULATED_MARK = " (simulated)"
"""Ends the name of hardware that nobody paid for."""


@dataclass(frozen=True, slots=True)
class HourCost:
    """What a machine cost in the hour that began at `hour_ms`, busy or idle, in nano-USD.

    `source` is the deployment that it serves, or `ROUTER` for the machine that Parsimony itself and its classifier
    run on. `booked_nusd` is what its requests of that hour were booked at, at list price: sums of the ledger, so it
    follows what is corrected there later.
    """

    hour_ms: int
    source: str
    hardware: str
    unit_count: int
    cost_nusd: int
    booked_nusd: int = 0

    @property
    def idle_nusd(self) -> int:
        """Negative where requests were booked at more than the machine cost."""
        return self.cost_nusd - self.booked_nusd

    @property
    def simulated(self) -> bool:
        return self.hardware.endswith(SIMULATED_MARK)


ROUTER = "(router)"


class Books(Protocol):
    """The ledger as reports read it. Raises StoreUnavailable."""

    def cells(self, from_ms: int, to_ms: int, by: Sequence[Dimension], where: Filter | None = None) -> tuple[Cell, ...]:
        """Sums over what started in [from_ms, to_ms), in the order of their keys. Whole hours come from roll-ups,
        the rest from the records."""
        ...

    def samples(self, from_ms: int, to_ms: int, where: Filter | None = None) -> tuple[ShadowSample, ...]:
        """The shadow samples of requests that started in [from_ms, to_ms). `where` is about those requests."""
        ...

    def booked_until_ms(self, from_ms: int, to_ms: int) -> int | None:
        """The end of the newest hour of what started in [from_ms, to_ms), None where nothing did."""
        ...

    def close_hours(self, costs: Sequence[HourCost]) -> int:
        """Books what machines cost; returns how many hours are new. A known (hour, source) stays as it was."""
        ...

    def closed_until_ms(self, source: str) -> int | None:
        """The end of the newest hour that is closed for `source`, None where none is."""
        ...

    def hour_costs(self, from_ms: int, to_ms: int) -> tuple[HourCost, ...]:
        """The closed hours that began in [from_ms, to_ms), oldest first."""
        ...
