"""Evidence -> posterior: how far the prior is to be believed, and how far each group of requests departs from it.

A mixed logistic regression by penalised quasi-likelihood (Breslow & Clayton 1993): two slopes of the prior's logit,
between tasks and within one, and a normal offset for every group of every level. The variances of the offsets, which
say how strongly thin groups are shrunk, are estimated with them by expectation-maximisation under a weak prior, so
that few groups cannot run away with it. Older judgements weigh less: half as much after each half-life.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classifiers.evidence import Evidence
from classifiers.fingerprint import keys
from classifiers.forest import Stack
from classifiers.posterior import (
    CENTRED_LEVEL,
    GROUP_LIMIT,
    LEVELS,
    SMALL_MODEL_LIMIT,
    Fit,
    Group,
    Level,
    Posterior,
    logit,
)

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

HALF_LIFE_DAYS = 30.0
SECONDS_PER_DAY = 86_400.0
HELD_BACK_FOLDS = 5
_NO_STACKS: Mapping[str, Stack | None] = {}
# Judgements that weigh less than this are as good as forgotten.
LEAST_WEIGHT = 0.01
# A part that occurred once may never come again; it counts among its application's one-offs.
RECURRING_FROM = 2

# What is believed before any evidence: the classifier, with slopes of about 1, and offsets of these variances, in
# logits. Weak: some dozen judgements, or as many groups as stated, outweigh them. Chosen on four train/ sources, with
# the rules and with models trained on the other sources; halving or doubling any of them moves the mean APGR after 5
# and 20 judgements a task by less than .01.
_SLOPE, _SLOPE_SD = 1.0, 0.7
_INTERCEPT_SD = 1.5
# Stacked scores were calibrated on prompts held back and know much of what groups would tell: slopes are about 1
# indeed, and offsets small. On four train/ sets the former gains up to .01 APGR, the latter .001; nothing is lost.
_STACKED_SLOPE_SD, _STACKED_VARIANCE_SHARE = 0.1, 0.25
_VARIANCES = {"task": 0.2, "application": 0.2, "opening": 0.5, "clause": 0.2, "closing": 0.1}
_VARIANCE_GROUPS = 4.0
_LEAST_VARIANCE, _LARGEST_VARIANCE = 1e-3, 2.0
# Graded outcomes scatter less than yes and no do; how much less is estimated within these bounds.
_DISPERSION_JUDGEMENTS, _LEAST_DISPERSION, _LARGEST_DISPERSION = 10.0, 0.2, 1.0
_ITERATIONS = 40
_LARGEST_LOGIT = 6.0
_LEAST_BINOMIAL_VARIANCE = 0.03
_LEAST_PRECISION = 0.004
# Newton's steps overshoot where outcomes lie far from what is believed; none is longer than this, in logits.
_LARGEST_STEP = 0.5


@dataclass(frozen=True, slots=True)
class Rows:
    """One small model's evidence as arrays, [judgements]; `weights` after decay. `names` are, for each level, the own
    and the one-offs' group of each."""

    logits: FloatArray
    outcomes: FloatArray
    weights: FloatArray
    names: tuple[tuple[tuple[str, str], ...], ...]


@dataclass(slots=True)
class _Effects:
    """A level under estimation: each judgement's group (the last one, whose offset stays 0, stands for none)."""

    keys: list[str]
    index: IndexArray
    offsets: FloatArray
    information: FloatArray
    believed: float
    variance: float


def fit(
    evidence: Sequence[Evidence],
    prior: str,
    now_s: float,
    *,
    half_life_days: float = HALF_LIFE_DAYS,
    stacks: Mapping[str, Stack | None] = _NO_STACKS,
) -> Fit:
    """A posterior for each small model with evidence, those with most first; `prior` is the classifier's name.

    Evidence that was scored by a classifier of another name must have been left out. `stacks` are those of the small
    models whose evidence carries stacked scores (`classifiers.training.stacking`).
    """
    counts = Counter(item.small_model for item in evidence)
    posteriors = []
    for small_model, _ in counts.most_common(SMALL_MODEL_LIMIT):
        items = [item for item in evidence if item.small_model == small_model]
        stack = stacks.get(small_model)
        rows = rows_of(items, now_s, half_life_days)
        posterior = fit_rows(rows, prior, small_model, stacked=stack is not None)
        posteriors.append(replace(posterior, stack=stack))
    return Fit(prior, now_s, half_life_days, tuple(posteriors))


def held_back(items: Sequence[Evidence], now_s: float, half_life_days: float, *, stacked: bool = False) -> FloatArray:
    """The score of each item, [items], by a posterior that was fitted to the other folds, which are drawn."""
    folds = np.random.default_rng(0).permutation(len(items)) % HELD_BACK_FOLDS
    scores = np.empty(len(items))
    for fold in range(HELD_BACK_FOLDS):
        others = [item for item, its_fold in zip(items, folds, strict=True) if its_fold != fold]
        fitted = fit_rows(rows_of(others, now_s, half_life_days), "held back", "any", stacked=stacked)
        for at in np.flatnonzero(folds == fold).tolist():
            item = items[at]
            scores[at] = fitted.estimate(item.score, item.task, item.fingerprint).score
    return scores


def rows_of(items: Sequence[Evidence], now_s: float, half_life_days: float) -> Rows:
    """The items that still weigh something at `now_s`."""
    weights = np.array([decayed(item, now_s, half_life_days) for item in items], dtype=np.float64)
    kept = [item for item, weight in zip(items, weights, strict=True) if weight >= LEAST_WEIGHT * item.weight > 0.0]
    return Rows(
        np.array([logit(item.score) for item in kept], dtype=np.float64),
        np.array([item.outcome for item in kept], dtype=np.float64),
        np.array([decayed(item, now_s, half_life_days) for item in kept], dtype=np.float64),
        tuple(zip(*[((item.task or "", ""), *keys(item.fingerprint)) for item in kept], strict=True))
        or ((),) * len(LEVELS),
    )


def decayed(item: Evidence, now_s: float, half_life_days: float) -> float:
    """What the judgement weighs at `now_s`; one from the future weighs what it does today."""
    age_days = max(0.0, now_s - item.time_s) / SECONDS_PER_DAY
    return float(item.weight * 0.5 ** min(age_days / half_life_days, 1_000.0))


def fit_rows(rows: Rows, prior: str, small_model: str, *, stacked: bool = False) -> Posterior:
    """The posterior; of no rows, one that repeats what the classifier says.

    `stacked` says that the scores are stacked ones, of which less is left to learn.
    """
    slope_sd, share = (_STACKED_SLOPE_SD, _STACKED_VARIANCE_SHARE) if stacked else (_SLOPE_SD, 1.0)
    effects = [
        _effects(names, rows.weights, share * _VARIANCES[level])
        for level, names in zip(LEVELS, rows.names, strict=True)
    ]
    if not len(rows.logits):
        return _posterior(prior, small_model, rows, effects, _Line(0.0, 0.0), _INTERCEPT_SD**2)
    centre = float(np.average(rows.logits, weights=rows.weights))
    centres = _centres(rows, effects[LEVELS.index(CENTRED_LEVEL)])
    between, within = centres - centre, rows.logits - centres
    line = _Line(centre, centre)
    state = _State(rows, line.intercept + line.between * between + line.within * within)
    for _ in range(_ITERATIONS):
        line.intercept += state.move(np.ones_like(within), line.intercept - centre, _INTERCEPT_SD)
        line.within += state.move(within, line.within - _SLOPE, slope_sd, least=-line.within)
        line.between += state.move(between, line.between - _SLOPE, slope_sd, least=-line.between)
        used = 3.0 + sum([state.shrink(level) for level in effects])
        state.dispersion = _dispersion(rows, state.linear, used)
    mean, _ = _binomial(state.linear)
    precision = rows.weights * np.maximum(mean * (1.0 - mean), _LEAST_PRECISION) / state.dispersion
    for level in effects:
        level.information = _sums(level.index, precision, len(level.offsets))
    return _posterior(prior, small_model, rows, effects, line, 1.0 / (precision.sum() + _INTERCEPT_SD**-2))


@dataclass(slots=True)
class _Line:
    """The line in the prior's logit, under estimation: `intercept` is its height at `centre`."""

    intercept: float
    centre: float
    between: float = _SLOPE
    within: float = _SLOPE


@dataclass(slots=True)
class _State:
    """Where the estimation stands: the logit of each judgement, [judgements], moved by one block after the other."""

    rows: Rows
    linear: FloatArray
    dispersion: float = 1.0

    def working(self) -> tuple[FloatArray, FloatArray]:
        """The score (the derivative of the quasi-likelihood) and the precision of each judgement."""
        mean, variance = _binomial(self.linear)
        weights = self.rows.weights / self.dispersion
        return weights * (self.rows.outcomes - mean), weights * variance

    def move(self, values: FloatArray, departure: float, prior_sd: float, least: float = -_LARGEST_STEP) -> float:
        """Moves one coefficient, which has departed so far from what was believed before; returns by how much."""
        score, precision = self.working()
        pull = float((score * values).sum()) - departure * prior_sd**-2
        step = pull / (float((precision * values * values).sum()) + prior_sd**-2)
        step = max(min(step, _LARGEST_STEP), -_LARGEST_STEP, least)
        self.linear = self.linear + step * values
        return step

    def shrink(self, level: _Effects) -> float:
        """Moves the offsets of a level and their variance; returns how many parameters that took, in effect."""
        score, precision = self.working()
        size = len(level.offsets)
        groups = size - 1
        information = _sums(level.index, precision, size)
        left = 1.0 / (information + 1.0 / level.variance)
        pull: FloatArray = _sums(level.index, score, size) - level.offsets / level.variance
        steps = np.clip(pull * left, -_LARGEST_STEP, _LARGEST_STEP)
        steps[groups] = 0.0
        level.offsets = level.offsets + steps
        self.linear = self.linear + steps[level.index]
        spread = float((level.offsets**2 + left)[:groups].sum()) + _VARIANCE_GROUPS * level.believed
        level.variance = min(max(spread / (groups + _VARIANCE_GROUPS), _LEAST_VARIANCE), _LARGEST_VARIANCE)
        return float((information * left)[:groups].sum())


def _effects(names: Sequence[tuple[str, str]], weights: FloatArray, believed: float) -> _Effects:
    """Which groups a level has: what recurs, at most `GROUP_LIMIT` by weight, and the one-offs of what holds them."""
    counts = Counter(own for own, _ in names if own)
    assigned = [own if not rest or counts[own] >= RECURRING_FROM else rest for own, rest in names]
    members = Counter(assigned)
    weight_of: Counter[str] = Counter()
    for name, (own, _), weight in zip(assigned, names, weights, strict=True):
        if name == own or members[name] >= RECURRING_FROM:
            weight_of[name] += weight
    del weight_of[""]
    # Ties by name, so that the same evidence gives the same file.
    kept = sorted(weight_of, key=lambda name: (-weight_of[name], name))[:GROUP_LIMIT]
    at = {name: position for position, name in enumerate(kept)}
    index = np.array(
        [at.get(name, at.get(rest, len(kept))) for name, (_, rest) in zip(assigned, names, strict=True)], dtype=np.intp
    )
    return _Effects(kept, index, np.zeros(len(kept) + 1), np.zeros(len(kept) + 1), believed, believed)


def _centres(rows: Rows, level: _Effects) -> FloatArray:
    """For each judgement, the mean prior logit of its group; without one, its own."""
    sums = _sums(level.index, rows.weights * rows.logits, len(level.keys) + 1)
    totals = _sums(level.index, rows.weights, len(level.keys) + 1)
    means = sums / np.where(totals > 0.0, totals, 1.0)
    return np.where(level.index < len(level.keys), means[level.index], rows.logits)


def _sums(index: IndexArray, values: FloatArray, size: int) -> FloatArray:
    """The sum of the values of each group, [groups]."""
    return np.bincount(index, values, size).astype(np.float64)


def _binomial(linear: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance; the latter bounded, so that no step is taken from where the curve is all but flat."""
    mean = 1.0 / (1.0 + np.exp(-np.clip(linear, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    return mean, np.maximum(mean * (1.0 - mean), _LEAST_BINOMIAL_VARIANCE)


def _dispersion(rows: Rows, linear: FloatArray, used: float) -> float:
    """Pearson's estimate, with what was fitted taken off and a few judgements' worth of the binomial added."""
    mean, variance = _binomial(linear)
    squares = float((rows.weights * (rows.outcomes - mean) ** 2 / variance).sum())
    free = max(float(rows.weights.sum()) - used, 0.0)
    estimate = (squares + _DISPERSION_JUDGEMENTS) / (free + _DISPERSION_JUDGEMENTS)
    return min(max(estimate, _LEAST_DISPERSION), _LARGEST_DISPERSION)


def _posterior(
    prior: str,
    small_model: str,
    rows: Rows,
    effects: Sequence[_Effects],
    line: _Line,
    variance: float,
) -> Posterior:
    return Posterior(
        prior=prior,
        small_model=small_model,
        intercept=round(min(max(line.intercept, -_LARGEST_LOGIT), _LARGEST_LOGIT), 4),
        variance=round(float(variance), 6),
        centre=round(line.centre, 4),
        slope_between=round(line.between, 4),
        slope_within=round(line.within, 4),
        judged=round(float(rows.weights.sum()), 2),
        levels=tuple(_level(rows, level) for level in effects),
    )


def _level(rows: Rows, level: _Effects) -> Level:
    totals = _sums(level.index, rows.weights, len(level.offsets))
    centres = _sums(level.index, rows.weights * rows.logits, len(level.offsets)) / np.maximum(totals, 1e-12)
    groups = {
        key: Group(round(float(offset), 4), round(float(information), 4), round(float(total), 2), round(float(mean), 4))
        for key, offset, information, total, mean in zip(
            level.keys, level.offsets, level.information, totals, centres, strict=False
        )
    }
    return Level(round(level.variance, 5), groups)
