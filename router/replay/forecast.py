"""Sums -> what would have been spent at each setting, and how sure that is.

Intervals hold 95 of 100 draws of a bootstrap: the groups of requests are drawn anew with Poisson(1) weights, as if the
log were one sample of traffic like it, and each model's answers are longer or shorter than the log's by one factor of a
log-normal law. They do not hold what the classifier may be wrong by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.replay.answers import LENGTH_SPREAD, undated
from router.replay.plan import Plan, Setting
from router.replay.sums import BINS, Sums
from router.replay.verdicts import GROUPS, Counts, Integers

REPLICATES = 400
MOST_WEIGHT = 15
"""Of a Poisson(1) draw: more has a probability of 2e-14, and would break the bound of the sums."""
_SEED = 20_231_101
_PPM = 1_000_000
_LOW, _HIGH = 10, REPLICATES - 11
"""The 2.5th and the 97.5th percentile of the sorted replicates."""
CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its bounds, all in the same whole unit."""

    value: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Share:
    """Requests that one deployment would answer, and at what cost."""

    deployment: str
    requests: int
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """At one setting. Savings are against what was paid, and against the baseline answering everything; parts are in
    millionths. `as_good_ppm` is the expected share of the judged requests that are answered as well as the
    baseline would."""

    setting: Setting
    shares: tuple[Share, ...]
    repeats: int
    cost_nusd: Interval
    saved_nusd: Interval
    saved_ppm: Interval
    saved_of_baseline_nusd: Interval
    saved_of_baseline_ppm: Interval
    as_good_ppm: Interval


@dataclass(frozen=True, slots=True)
class Point:
    """Of the curve: what one threshold for everything costs, and keeps."""

    threshold: float
    cost_nusd: int
    as_good_ppm: int


@dataclass(frozen=True, slots=True)
class Bad:
    kind: str
    count: int
    first: tuple[tuple[str, int, str], ...]
    """File, line, what was found."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """`judged` requests were routed anew; `kept` ones stayed as they were, on all sides, and are in all amounts."""

    logs: tuple[str, ...]
    alias: str
    baseline_model: str
    classifier: str
    calibrated_on: str
    judged: int
    kept: int
    repeats: int
    paid_nusd: int
    all_baseline_nusd: Interval
    outcomes: tuple[Outcome, ...]
    curve: tuple[Point, ...]
    counts: Counts
    bad: tuple[Bad, ...]

    @property
    def rows(self) -> int:
        return self.judged + self.kept + self.counts.unanswered + sum(bad.count for bad in self.bad)


def forecast(sums: Sums, plan: Plan, logs: tuple[str, ...]) -> Forecast:
    draws = _Draws([*[deployment.prices.model for deployment in plan.candidates], plan.baseline.prices.model])
    kept = sums.base["kept_paid"]
    all_baseline = draws.estimated(sums.base["baseline"] + kept, sums.base["open_baseline"], draws.baseline_factors)
    paid = draws.counted(sums.base["paid"] + kept)
    judged = draws.counted(sums.base["judged"])
    outcomes = tuple(
        [_outcome(index, setting, sums, plan, draws, paid, all_baseline, judged)
         for index, setting in enumerate(plan.settings)]
    )  # fmt: skip
    return Forecast(
        logs=logs,
        alias=plan.alias,
        baseline_model=plan.baseline.model,
        classifier=plan.classifier,
        calibrated_on=plan.calibrated_on,
        judged=int(judged[0]),
        kept=int(sums.base["kept"].sum()),
        repeats=int(sums.base["repeats"].sum()),
        paid_nusd=int(paid[0]),
        all_baseline_nusd=_interval(all_baseline),
        outcomes=outcomes,
        curve=_curve(sums),
        counts=sums.counts,
        bad=_bad(sums, logs),
    )


class _Draws:
    """Each method gives the sum as it is, then as each replicate has it: shape (1 + replicates,).

    `models` are those of the deployments, in order, and then the baseline's: what is the same model has one factor.
    """

    def __init__(self, models: Sequence[str]) -> None:
        random = np.random.default_rng(_SEED)
        weights = np.minimum(random.poisson(1.0, (REPLICATES, GROUPS)), MOST_WEIGHT)
        self._weights = np.vstack([np.ones(GROUPS, np.int64), weights]).astype(np.int64)
        factors = np.exp(random.normal(0.0, LENGTH_SPREAD, (REPLICATES, len(models)))) - 1.0
        known = np.zeros((1, len(models)))
        names = [undated(model) for model in models]
        self._more_ppm = np.rint(np.vstack([known, factors]) * _PPM).astype(np.int64)[:, [*map(names.index, names)]]

    @property
    def baseline_factors(self) -> Integers:
        return self._more_ppm[:, -1]

    def factors_of(self, deployment: int) -> Integers:
        return self._more_ppm[:, deployment]

    def counted(self, by_group: Integers) -> Integers:
        return self._weights @ by_group

    def estimated(self, by_group: Integers, open_by_group: Integers, more_ppm: Integers) -> Integers:
        """With the part that hangs on an answer's length made so much longer or shorter."""
        return self.counted(by_group) + _scaled(self.counted(open_by_group), more_ppm)


def _scaled(amounts: Integers, ppm: Integers) -> Integers:
    """amounts x ppm / 1e6 without an intermediate product that could overflow."""
    whole, rest = np.divmod(amounts, _PPM)
    return whole * ppm + rest * ppm // _PPM


def _outcome(
    index: int,
    setting: Setting,
    sums: Sums,
    plan: Plan,
    draws: _Draws,
    paid: Integers,
    all_baseline: Integers,
    judged: Integers,
) -> Outcome:
    cost = draws.counted(sums.base["kept_paid"])
    shares = []
    for at, deployment in enumerate(plan.candidates):
        amounts = sums.cost[index, :, at]
        cost = cost + draws.estimated(amounts, sums.open_cost[index, :, at], draws.factors_of(at))
        shares.append(Share(deployment.name, int(sums.requests[index, :, at].sum()), int(amounts.sum())))
    lost = draws.counted(sums.loss_ppm[index])
    return Outcome(
        setting=setting,
        shares=tuple(shares),
        repeats=int(sums.base["repeats"].sum()),
        cost_nusd=_interval(cost),
        saved_nusd=_interval(paid - cost),
        saved_ppm=_interval(_ratio_ppm(paid - cost, paid)),
        saved_of_baseline_nusd=_interval(all_baseline - cost),
        saved_of_baseline_ppm=_interval(_ratio_ppm(all_baseline - cost, all_baseline)),
        as_good_ppm=_interval(_PPM - lost // np.maximum(judged, 1)),
    )


def _ratio_ppm(part: Integers, whole: Integers) -> Integers:
    """In millionths, to the nearest; 0 of nothing. A million times an amount needs more than 64 bits."""
    pairs = zip(part.tolist(), whole.tolist(), strict=True)
    return np.array([(a * _PPM + b // 2) // b if b > 0 else 0 for a, b in pairs], np.int64)


def _interval(replicates: Integers) -> Interval:
    ordered = np.sort(replicates[1:])
    return Interval(int(replicates[0]), int(ordered[_LOW]), int(ordered[_HIGH]))


def _curve(sums: Sums) -> tuple[Point, ...]:
    """At thresholds that part the requests as evenly as scores allow; the same point is not said twice."""
    kept, judged = int(sums.base["kept_paid"].sum()), int(sums.base["judged"].sum())
    low, high = (_before(sums.curve["cost", 0]), _before(sums.curve["cost", 2]))
    low_loss, high_loss = (_before(sums.curve["loss_ppm", 0]), _before(sums.curve["loss_ppm", 2]))
    points: list[Point] = []
    for bin_ in range(BINS):
        cost = kept + int(low[bin_]) + int(high[-1] - high[bin_])
        loss = int(low_loss[bin_]) + int(high_loss[-1] - high_loss[bin_])
        point = Point(bin_ / (BINS - 1), cost, _PPM - loss // max(judged, 1))
        if not points or (point.cost_nusd, point.as_good_ppm) != (points[-1].cost_nusd, points[-1].as_good_ppm):
            points.append(point)
    step = max(len(points) - 1, 1) / (CURVE_POINTS - 1)
    chosen = {round(at * step) for at in range(CURVE_POINTS)} if len(points) > CURVE_POINTS else range(len(points))
    return tuple([points[at] for at in sorted(chosen) if at < len(points)])


def _before(by_bin: Integers) -> Integers:
    """Sums of all bins before each, and at last of all: shape (bins + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(by_bin)])


def _bad(sums: Sums, logs: tuple[str, ...]) -> tuple[Bad, ...]:
    first = {kind: [(logs[file], bad.line, bad.sentence) for file, bad in sums.shown_bad if bad.kind == kind]
             for kind in sums.bad}  # fmt: skip
    ordered = sorted(sums.bad.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple([Bad(kind, count, tuple(first[kind])) for kind, count in ordered])
