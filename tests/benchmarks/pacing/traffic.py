"""A month of requests: when they come, how hard they are, what they would cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from policies.catalog import Price
from policies.periods import parse_window, period_at
from policies.pricing import cost_of_tokens_nusd
from tests.benchmarks.pacing.prompts import BoolArray, FloatArray, IntArray, Prompts

MONTH = period_at(parse_window("month"), datetime(2026, 11, 15, tzinfo=UTC), "UTC")
START_MS, END_MS = int(MONTH.start.timestamp() * 1000), int(MONTH.end.timestamp() * 1000)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
DAYS = (END_MS - START_MS) // DAY_MS
HOURS = DAYS * 24

_OF_THE_DAY = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 19, 17, 14, 17, 18, 18, 16, 12, 8, 6, 5, 4, 3, 2)
_OF_THE_WEEK = (1, 1, 1, 1, 0.9, 0.2, 0.15)  # from Monday
_BURST_FROM_HOUR, _BURST_HOURS, _BURST_SHARE = 54, 24, 1 / 3
_HARDER_FROM_DAY = 23
MEDIAN_OUTPUT_TOKENS, SPREAD_OF_OUTPUT = 300, 0.9


@dataclass(frozen=True, slots=True)
class Requests:
    """In the order of their arrival, an element each; costs in nano-USD, were that model to answer."""

    at_ms: IntArray
    scores: FloatArray
    falls_short: BoolArray
    small_cost_nusd: IntArray
    large_cost_nusd: IntArray
    threshold: float

    @property
    def days(self) -> IntArray:
        return (self.at_ms - START_MS) // DAY_MS

    @property
    def judged_hard(self) -> BoolArray:
        """Those that go to the large model while money is no object."""
        hard: BoolArray = self.scores >= self.threshold
        return hard

    @property
    def unpaced_cost_nusd(self) -> int:
        return int(self.large_cost_nusd[self.judged_hard].sum())


@dataclass(frozen=True, slots=True)
class Scenario:
    """`weights` are the expected requests of each hour of the month, up to a factor."""

    name: str
    what: str
    weights: Callable[[], FloatArray]
    bursts: bool = False
    hardens: bool = False


def usual_week() -> FloatArray:
    """Office hours, quiet nights and weekends."""
    first = MONTH.start.weekday()
    weights = [_OF_THE_WEEK[(first + hour // 24) % 7] * _OF_THE_DAY[hour % 24] for hour in range(HOURS)]
    return np.array(weights)


def _steady() -> FloatArray:
    return np.ones(HOURS)


def _growing() -> FloatArray:
    return usual_week() * np.linspace(0.5, 1.5, HOURS)


SCENARIOS = (
    Scenario("base", "office hours, quiet nights and weekends", usual_week),
    Scenario("steady", "the same at every hour", _steady),
    Scenario("growth", "three times as much at the month's end as at its start", _growing),
    Scenario(
        "burst", "a batch job that adds a third of the month's requests on the third day", usual_week, bursts=True
    ),
    Scenario("hard end", "harder prompts from the 24th on", usual_week, hardens=True),
)


def month_of_requests(
    scenario: Scenario, prompts: Prompts, small: Price, large: Price, requests: int, seed: int
) -> Requests:
    """About so many, Poisson by the hour. The same seed gives the same month."""
    rng = np.random.default_rng(seed)
    weights = scenario.weights()
    by_hour = rng.poisson(weights / weights.sum() * requests)
    if scenario.bursts:
        by_hour[_BURST_FROM_HOUR : _BURST_FROM_HOUR + _BURST_HOURS] += int(requests * _BURST_SHARE / _BURST_HOURS)
    hours = np.repeat(np.arange(HOURS), by_hour)
    at_ms = np.sort(START_MS + hours * HOUR_MS + rng.integers(0, HOUR_MS, len(hours)))
    harder = (at_ms >= START_MS + _HARDER_FROM_DAY * DAY_MS) & scenario.hardens
    drawn = prompts.draw(rng, harder)
    output_tokens = rng.lognormal(np.log(MEDIAN_OUTPUT_TOKENS), SPREAD_OF_OUTPUT, len(hours)).astype(np.int64) + 1
    tokens = list(zip(drawn.input_tokens.tolist(), output_tokens.tolist(), strict=True))
    small_cost, large_cost = [
        np.array([cost_of_tokens_nusd(*counts, price) for counts in tokens]) for price in (small, large)
    ]
    return Requests(at_ms, drawn.scores, drawn.falls_short, small_cost, large_cost, prompts.threshold)
