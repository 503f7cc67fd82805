"""Why realised spend differs from the counterfactual: drivers that add up to the difference, exactly.

Everything here is linear in the amounts, so what holds for a record holds for every sum of records that agree in
`kind`, `status`, `cache` and `reason`.
"""

from __future__ import annotations

from typing import Literal, Protocol

Driver = Literal[
    "smaller_model",
    "response_cache",
    "prompt_cache",
    "budget",
    "pinned",
    "idle_gpu",
    "measuring",
    "classifier",
    "retries",
    "abandoned",
]
DRIVERS: dict[Driver, str] = {
    "smaller_model": "smaller model",
    "response_cache": "response cache",
    "prompt_cache": "prompt cache",
    "budget": "downgrade by budget",
    "pinned": "price difference of pinned models",
    "idle_gpu": "idle GPU",
    "measuring": "shadow and judge calls",
    "classifier": "classifier",
    "retries": "retries",
    "abandoned": "abandoned reservations",
}
"""In the order of reports, with their names for people. What costs is negative."""

_BY_BUDGET = frozenset({"budget", "paced"})
"""Reasons of decisions that a budget made cheaper than the request's score would have."""


class Amounts(Protocol):
    """Of one record, or the sum of several that agree in the first four. Nano-USD."""

    @property
    def kind(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def cache(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def cost_nusd(self) -> int: ...
    @property
    def baseline_cost_nusd(self) -> int: ...
    @property
    def retries_nusd(self) -> int: ...
    @property
    def prompt_cache_nusd(self) -> int: ...


def model_driver(kind: str, status: str, cache: str, reason: str) -> Driver:
    """What the difference between the two models' prices is due to.

    Where the baseline's own model answered there is no such difference, whatever this says. A saving that the
    application chose itself, by naming a deployment, is no merit of routing.
    """
    if kind != "request":
        return "measuring"
    if status == "abandoned":
        return "abandoned"
    if cache == "hit":
        return "response_cache"
    if reason == "pinned":
        return "pinned"
    return "budget" if reason in _BY_BUDGET else "smaller_model"


def drivers(amounts: Amounts) -> dict[Driver, int]:
    """Nano-USD by driver; those that are nothing are left out.

    They add up to `baseline_cost_nusd` - `cost_nusd`.
    """
    found: dict[Driver, int] = {}
    rest = amounts.baseline_cost_nusd - amounts.cost_nusd
    model = model_driver(amounts.kind, amounts.status, amounts.cache, amounts.reason)
    if model not in ("measuring", "abandoned"):
        found["retries"] = -amounts.retries_nusd
        found["prompt_cache"] = amounts.prompt_cache_nusd
        rest += amounts.retries_nusd - amounts.prompt_cache_nusd
    found[model] = rest
    return {driver: found[driver] for driver in DRIVERS if found.get(driver)}
