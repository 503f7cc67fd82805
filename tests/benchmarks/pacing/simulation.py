"""Months by the dozen: what each way of spending makes of the same requests and the same budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policies.money import NUSD_PER_USD
from router.prices import PriceBook, load_prices
from tests.benchmarks.pacing.policies import Policy
from tests.benchmarks.pacing.prompts import BoolArray, FloatArray, Prompts
from tests.benchmarks.pacing.traffic import DAYS, END_MS, MONTH, START_MS, Requests, Scenario, month_of_requests

PRICES = Path(__file__).parents[3] / "configs" / "prices.yaml"
GRID_MS = np.linspace(START_MS, END_MS, DAYS * 4 + 1)
"""When the cumulative spend is noted."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated; `budget_share` is the budget as a share of what unpaced routing spends on the large model."""

    prompts: str
    scenario: str
    budget_share: float
    policy: str


@dataclass(frozen=True, slots=True)
class Months:
    """The same setting once a seed, a row each: shares are those of requests, or of the budget for `spent`.

    `quality` is the share answered as well as the large model would have; `by_day` and `by_week` the same in each day
    and each week, the last of which takes the days left over. `cost_usd` is what both models cost.
    """

    quality: FloatArray
    cost_usd: FloatArray
    spent: FloatArray
    first_week: FloatArray
    by_day: FloatArray
    by_week: FloatArray
    curve: FloatArray


Results = dict[Setting, Months]


def simulate(
    prompts: Sequence[Prompts],
    scenarios: Sequence[Scenario],
    budget_shares: Sequence[float],
    policies: Mapping[str, Policy],
    requests: int,
    seeds: int,
    advance: Callable[[str], None] = lambda what: None,
) -> Results:
    """Every combination; `advance` is told before each budget of each scenario."""
    book = load_prices(PRICES)
    results: Results = {}
    for source in prompts:
        for scenario in scenarios:
            months = _months(source, scenario, book, requests, seeds)
            for share in budget_shares:
                advance(f"{source.name}: {scenario.name}, {share:.0%}")
                for name, policy in policies.items():
                    rows = [_row(month, int(share * month.unpaced_cost_nusd), policy) for month in months]
                    columns = [np.array(column) for column in zip(*rows, strict=True)]
                    results[Setting(source.name, scenario.name, share, name)] = Months(*columns)
    return results


def _months(source: Prompts, scenario: Scenario, book: PriceBook, requests: int, seeds: int) -> list[Requests]:
    small, large = [book.model(name).prices.at(MONTH.start.date()) for name in (source.small, source.large)]
    return [month_of_requests(scenario, source, small, large, requests, seed) for seed in range(seeds)]


def _row(month: Requests, limit: int, policy: Policy) -> tuple[float | FloatArray, ...]:
    """In the order of the fields of `Months`."""
    served = policy(month, limit)
    good = served | ~month.falls_short
    cost = np.where(served, month.large_cost_nusd, 0) / limit
    weeks = np.minimum(month.days // 7, DAYS // 7 - 1)
    curve = np.interp(GRID_MS, month.at_ms, np.cumsum(cost), left=0.0)
    first_week = float(cost[month.days < 7].sum())
    cost_usd = np.where(served, month.large_cost_nusd, month.small_cost_nusd).sum() / NUSD_PER_USD
    by_day, by_week = _means(good, month.days), _means(good, weeks)
    return good.mean(), cost_usd, cost.sum(), first_week, by_day, by_week, curve


def _means(good: BoolArray, groups: np.ndarray) -> FloatArray:
    return np.bincount(groups, good) / np.bincount(groups)
