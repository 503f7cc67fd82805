"""Who goes to the large model while there is money: the ways of spending a budget that are compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from policies.pacing import raised, shadow_price
from tests.benchmarks.pacing.prompts import BoolArray, FloatArray, IntArray
from tests.benchmarks.pacing.traffic import END_MS, HOUR_MS, HOURS, START_MS, Requests, usual_week

Policy = Callable[[Requests, int], BoolArray]
"""Requests and a budget in nano-USD for the large model -> which it answers, never for more than the budget."""

HINDSIGHT_STEPS = 40


def first_come(requests: Requests, limit: int) -> BoolArray:
    """The configured threshold until the money is out, then the small model alone."""
    served = np.zeros(len(requests.scores), bool)
    spent = 0
    for index in np.flatnonzero(requests.judged_hard).tolist():
        cost = int(requests.large_cost_nusd[index])
        if spent + cost <= limit:
            served[index] = True
            spent += cost
    return served


def paced(requests: Requests, limit: int, steepness: int | None = None) -> BoolArray:
    """The shadow price of `policies.pacing`."""
    return _priced(requests, limit, requests.at_ms, {} if steepness is None else {"steepness": steepness})


def paced_by_the_week(requests: Requests, limit: int) -> BoolArray:
    """The same, told how much of a month's traffic has usually come by each hour."""
    usual = np.concatenate([[0.0], np.cumsum(usual_week())])
    hours = START_MS + np.arange(HOURS + 1) * HOUR_MS
    elapsed: FloatArray = np.interp(requests.at_ms, hours, usual / usual[-1])
    return _priced(requests, limit, (START_MS + elapsed * (END_MS - START_MS)).astype(np.int64), {})


def hindsight(requests: Requests, limit: int) -> BoolArray:
    """The lowest constant price that keeps to the budget, found by halving: nobody can know it beforehand."""
    if requests.unpaced_cost_nusd <= limit:
        return requests.judged_hard
    too_low, enough = 0.0, 1.0
    for _ in range(HINDSIGHT_STEPS):
        price = (too_low + enough) / 2
        cost = requests.large_cost_nusd[requests.scores >= raised(requests.threshold, price)].sum()
        too_low, enough = (price, enough) if cost > limit else (too_low, price)
    served: BoolArray = requests.scores >= raised(requests.threshold, enough)
    return served


def _priced(requests: Requests, limit: int, clock_ms: IntArray, options: dict[str, int]) -> BoolArray:
    """Each request sees what those before it have spent; none is under way beside it."""
    price_of = partial(shadow_price, limit=limit, start_ms=START_MS, end_ms=END_MS, **options)
    scores, costs, times_ms = requests.scores.tolist(), requests.large_cost_nusd.tolist(), clock_ms.tolist()
    served = np.zeros(len(scores), bool)
    spent = 0
    for index in np.flatnonzero(requests.judged_hard).tolist():
        cost = costs[index]
        price = price_of(spent=spent, now_ms=times_ms[index])
        if scores[index] >= raised(requests.threshold, price) and spent + cost <= limit:
            served[index] = True
            spent += cost
    return served


POLICIES: dict[str, Policy] = {
    "first come": first_come,
    "paced": paced,
    "paced, told the week": paced_by_the_week,
    "hindsight": hindsight,
}
STEEPNESSES: dict[str, Policy] = {f"steepness {power}": partial(paced, steepness=power) for power in (1, 2, 4)}
