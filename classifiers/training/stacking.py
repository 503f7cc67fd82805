"""Judged prompts -> a forest beside the classifier (`classifiers.forest.Stack`), where it helps on prompts held back.

Trees over what the classifier measures estimate the baseline's gain, which is what routing has to rank by: where the
small model is as often better as worse, the large one is worth nothing. Trees and classifier are stacked (Wolpert 1992)
on estimates by trees that did not see the prompt: a linear regression of the gain says how much each counts, a logistic
one of the outcome how likely the small model falls short.

Whether the forest is kept, the whole decides: offsets of groups are fitted to stacked and to plain scores, a fifth of
the prompts held back in turn from all of it. Trees that saw a prompt may not even score those that its group's offset
is fitted to: they would be moved its way, and the offset the other. A forest goes where it ranks clearly worse. One
that only seems to, by chance, stays: on train/ sources such forests ranked other stems better in eleven of thirteen
draws and worse by at most .005 APGR, since what counts for nothing is given no weight already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from classifiers.evidence import Evidence
from classifiers.forest import Floats, Stack
from classifiers.posterior import logit
from classifiers.training.fit import FloatArray, decayed, fit_rows, rows_of
from classifiers.training.metrics import brier, quality_curve
from classifiers.training.trees import grow, packed

FOLDS = 5
LEAST_PROMPTS = 250
"""With fewer different prompts, no forest is tried."""
MOST_PROMPTS = 20_000
"""Of more judgements, the newest."""
SEED = 20_261_122
# What the classifier's logit (in standard deviations of gain) and the forest's gain are believed to count before any
# evidence, and how firmly.
_BELIEVED, _BELIEVED_SDS = np.array([0.1, 0.8]), np.array([0.1, 0.5])
_CURVE_PRECISION = 0.05
_WORSE_STANDARD_ERRORS = 1.0
_NEWTON_STEPS = 30
_LEAST_VARIANCE = 1e-4

Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ForestReport:
    """`prompts` different ones with what was measured of them, of `needed`; figures on judgements held back, without
    a forest and with one, groups' offsets in both, None where none was tried.

    `ranking` is 0 for random and 1 where the largest gains come first.
    """

    prompts: int
    needed: int
    used: bool
    brier_without: float | None = None
    brier_with: float | None = None
    ranking_without: float | None = None
    ranking_with: float | None = None


@dataclass(frozen=True, slots=True)
class Stacked:
    """One small model's evidence: with a stack, `items` carry its scores by trees that did not see them."""

    items: list[Evidence]
    stack: Stack | None
    report: ForestReport


def stacked(items: Sequence[Evidence], now_s: float, half_life_days: float, seed: int = SEED) -> Stacked:
    """The evidence as the groups' offsets are to be fitted to it.

    Judgements without measurements keep their score, calibrated. With too few that have them, or where a forest
    ranks worse, everything stays as it is.
    """
    usable = _newest(items, now_s, half_life_days)
    rows = _Rows.of([items[at] for at in usable], now_s, half_life_days)
    prompts = len({row.tobytes() for row in rows.measured})
    if prompts < LEAST_PROMPTS:
        return Stacked(list(items), None, ForestReport(prompts, LEAST_PROMPTS, False))
    apart = rows.gains_apart(seed)
    weights = rows.weights(apart[rows.folds, np.arange(len(rows))], np.ones(len(rows), bool))
    report = _report(rows, apart, prompts, now_s, half_life_days) if weights is not None else None
    if weights is None or report is None or not report.used:
        return Stacked(list(items), None, report or ForestReport(prompts, LEAST_PROMPTS, False))
    forest = packed(grow(rows.measured, rows.gains, rows.decayed, seed), rows.measured.shape[1])
    scores = rows.calibrated(np.array([logit(item.score) for item in items]))
    scores[usable] = rows.scores(apart[rows.folds, np.arange(len(rows))], weights)
    moved = [
        replace(item, score=float(score), prior_score=item.score) for item, score in zip(items, scores, strict=True)
    ]
    return Stacked(moved, Stack(forest, *(round(float(weight), 4) for weight in weights)), report)


def stacked_by_model(items: Sequence[Evidence], now_s: float, half_life_days: float) -> dict[str, Stacked]:
    """Each small model by itself, in the order in which they first occur."""
    models: dict[str, list[Evidence]] = defaultdict(list)
    for item in items:
        models[item.small_model].append(item)
    return {model: stacked(each, now_s, half_life_days) for model, each in models.items()}


def _newest(items: Sequence[Evidence], now_s: float, half_life_days: float) -> list[int]:
    """Where the newest judgements with measurements are that weigh anything."""
    known = [
        at for at, item in enumerate(items) if item.measured is not None and decayed(item, now_s, half_life_days) > 0.0
    ]
    return sorted(sorted(known, key=lambda at: -items[at].time_s)[:MOST_PROMPTS])


@dataclass(frozen=True, slots=True)
class _Rows:
    """Judgements with measurements as arrays: `measured` (n, width), all else (n,). `folds` go by prompt."""

    items: Sequence[Evidence]
    measured: Floats
    priors: FloatArray
    outcomes: FloatArray
    gains: FloatArray
    decayed: FloatArray
    folds: NDArray[np.int64]

    @classmethod
    def of(cls, items: Sequence[Evidence], now_s: float, half_life_days: float) -> _Rows:
        measured = np.array([item.measured for item in items], np.float32)
        return cls(
            items,
            measured,
            np.array([logit(item.score) for item in items]),
            np.array([item.outcome for item in items]),
            np.array([item.gain for item in items]),
            np.array([decayed(item, now_s, half_life_days) for item in items]),
            np.array([crc32(row.tobytes()) % FOLDS for row in measured], np.int64),
        )

    def __len__(self) -> int:
        return len(self.items)

    def gains_apart(self, seed: int) -> FloatArray:
        """Row k, (folds, n): every judgement's gain by trees that saw neither its own fold nor the k-th."""
        apart = np.empty((FOLDS, len(self)))
        for first in range(FOLDS):
            for second in range(first, FOLDS):
                seen = (self.folds != first) & (self.folds != second)
                trees = grow(self.measured[seen], self.gains[seen], self.decayed[seen], seed)
                for held_back, judged in {(first, second), (second, first)}:
                    rows = self.folds == judged
                    if rows.any():
                        apart[held_back, rows] = trees.predict(self.measured[rows])
        return apart

    def weights(self, forest: FloatArray, rows: Rows) -> FloatArray | None:
        """Intercept, and the weights of classifier and forest, not negative; None where a forest counts for nothing."""
        inputs, weights = np.column_stack([self.priors, forest])[rows], self.decayed[rows]
        shares = gain_weights(inputs, self.gains[rows], weights)
        if shares[1] <= 0.0:
            return None
        intercept, slope = curve(inputs @ shares, self.outcomes[rows], weights)
        return np.array([intercept, *(slope * shares)]) if slope > 0.0 else None

    def scores(self, forest: FloatArray, weights: FloatArray) -> FloatArray:
        """The stacked score of each judgement."""
        return _logistic(np.column_stack([np.ones(len(self)), self.priors, forest]) @ weights)

    def calibrated(self, priors: FloatArray) -> FloatArray:
        """What the classifier alone says, put on the stack's scale: for judgements of which nothing was measured."""
        intercept, slope = curve(self.priors, self.outcomes, self.decayed)
        return _logistic(intercept + max(slope, 0.0) * priors)


def _report(rows: _Rows, apart: FloatArray, prompts: int, now_s: float, half_life_days: float) -> ForestReport:
    plain = np.array([item.score for item in rows.items])
    without, with_it = np.empty(len(rows)), np.empty(len(rows))
    for fold in range(FOLDS):
        held = rows.folds == fold
        weights = rows.weights(apart[fold], ~held)
        scores = plain if weights is None else rows.scores(apart[fold], weights)
        without[held] = _held_back(rows.items, plain, held, now_s, half_life_days)
        with_it[held] = _held_back(rows.items, scores, held, now_s, half_life_days, stacked=True)
    ranked = [ranking(scores, rows.gains, rows.decayed) for scores in (without, with_it)]
    briers = [float(brier(scores, rows.outcomes, rows.decayed)) for scores in (without, with_it)]
    used = ranks_better_by(without, with_it, rows.gains, rows.decayed) > -_WORSE_STANDARD_ERRORS
    return ForestReport(prompts, LEAST_PROMPTS, used, *briers, *ranked)


def _held_back(
    items: Sequence[Evidence],
    scores: FloatArray,
    held: Rows,
    now_s: float,
    half_life_days: float,
    *,
    stacked: bool = False,
) -> list[float]:
    """The scores of the held-back ones after offsets fitted to the others have moved them."""
    scored = [replace(item, score=float(score)) for item, score in zip(items, scores, strict=True)]
    others = [item for item, out in zip(scored, held, strict=True) if not out]
    posterior = fit_rows(rows_of(others, now_s, half_life_days), "held back", "any", stacked=stacked)
    return [
        posterior.estimate(item.score, item.task, item.fingerprint).score
        for item, out in zip(scored, held, strict=True)
        if out
    ]


def ranks_better_by(before: FloatArray, after: FloatArray, gains: FloatArray, weights: FloatArray) -> float:
    """By how many standard errors the gains are ranked better `after`, judgements being compared in pairs."""
    moved = _ranks(after, weights) - _ranks(before, weights)
    each = weights * moved * (gains - np.average(gains, weights=weights))
    spread = float(each.std()) * len(each) ** 0.5
    return float(each.sum()) / spread if spread > 0.0 else 0.0


def _ranks(scores: FloatArray, weights: FloatArray) -> FloatArray:
    """The share of the weight that lies below, equals by half, (n,)."""
    _, place = np.unique(scores, return_inverse=True)
    sums = np.bincount(place, weights)
    below = np.cumsum(sums) - sums / 2.0
    ranks: FloatArray = below[place] / sums.sum()
    return ranks


def ranking(scores: FloatArray, gains: FloatArray, weights: FloatArray) -> float:
    """How near an order comes to that by the gains themselves: 0 for random, 1 for the same; areas between curves."""
    areas = []
    for order in (scores, gains):
        curve_ = quality_curve(order, np.maximum(0.0, -gains), np.maximum(0.0, gains), weights)
        random = (curve_.quality[..., 0] + curve_.quality[..., -1]) / 2.0
        areas.append(float(np.trapezoid(curve_.quality, curve_.share) - random))
    return areas[0] / areas[1] if areas[1] > 0.0 else 0.0


def gain_weights(inputs: FloatArray, gains: FloatArray, weights: FloatArray) -> FloatArray:
    """How much the classifier's logit and the forest's gain count, (n, 2) -> (2,): ridge regression around what is
    believed before, none negative."""
    spread = float(gains.std()) or 1.0
    believed, sds = _BELIEVED * (spread, 1.0), _BELIEVED_SDS * (spread, 1.0)
    centred = inputs - np.average(inputs, axis=0, weights=weights)
    left = gains - np.average(gains, weights=weights) - centred @ believed
    square = (weights[:, None] * centred).T @ centred / spread**2 + np.diag(sds**-2.0)
    moment = (weights[:, None] * centred).T @ left / spread**2
    found: FloatArray = believed + np.linalg.solve(square, moment)
    if found[0] < 0.0:  # then without it: its believed weight is taken back
        alone = moment[1] + square[1, 0] * believed[0]
        found = np.array([0.0, believed[1] + alone / square[1, 1]])
    return found


def curve(index: FloatArray, outcomes: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Intercept and slope of the logistic curve from an index to shares (Platt 1999), by Newton's method."""
    centre, spread = float(np.average(index, weights=weights)), float(index.std()) or 1.0
    design = np.column_stack([np.ones(len(index)), (index - centre) / spread])
    found = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        mean = _logistic(design @ found)
        curvature = weights * np.maximum(mean * (1.0 - mean), _LEAST_VARIANCE)
        pull = design.T @ (weights * (outcomes - mean)) - _CURVE_PRECISION * found
        step = np.linalg.solve(design.T @ (curvature[:, None] * design) + _CURVE_PRECISION * np.eye(2), pull)
        found = found + np.clip(step, -1.0, 1.0)
    slope = float(found[1]) / spread
    return float(found[0]) - slope * centre, slope


def _logistic(linear: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-np.clip(linear, -30.0, 30.0)))
