"""What a fit has learned, in figures that people can check before they use it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from classifiers.evidence import Evidence
from classifiers.fingerprint import PARTS, keys
from classifiers.posterior import LEVELS, Fit, Posterior
from classifiers.training.fit import decayed, held_back
from classifiers.training.metrics import FloatArray, brier
from classifiers.training.stacking import ForestReport

LEAST_JUDGEMENTS = 50
"""With fewer, calibration is not measured and a warning says so."""
_MOST_TESTED = 20_000
_NO_FORESTS: Mapping[str, ForestReport] = {}
_SHOWN_LEVELS = ("task", "application", "opening")


@dataclass(frozen=True, slots=True)
class GroupLine:
    """One group: `judged` judgements after decay, what they found on average, and what is said before and after."""

    level: str
    key: str
    judged: float
    mean_outcome: float
    prior_score: float
    posterior_score: float
    posterior_sd: float
    excerpt: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Brier scores on judgements that were held back in turn, and mean scores beside the mean outcome."""

    judgements: int
    brier_before: float
    brier_after: float
    mean_outcome: float
    mean_before: float
    mean_after: float


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of one small model; groups with most judgements first."""

    small_model: str
    judgements: int
    weight: float
    slope_between: float
    slope_within: float
    calibration: Calibration | None
    groups: tuple[GroupLine, ...]
    warnings: tuple[str, ...]
    forest: ForestReport | None


def usable(items: Iterable[Evidence], prior: str) -> tuple[list[Evidence], int]:
    """What was scored by the classifier of that name, or does not say by which; and how many were left out."""
    everything = list(items)
    kept = [item for item in everything if item.classifier in ("", prior)]
    return kept, len(everything) - len(kept)


def learned(fit: Fit, evidence: Sequence[Evidence], forests: Mapping[str, ForestReport] = _NO_FORESTS) -> list[Learned]:
    """A report for each small model of the fit, made from the evidence that it was fitted to."""
    return [
        _learned(
            fit,
            posterior,
            [item for item in evidence if item.small_model == posterior.small_model],
            forests.get(posterior.small_model),
        )
        for posterior in fit.posteriors
    ]


def as_json(fit: Fit, reports: Sequence[Learned]) -> dict[str, Any]:
    return {
        "prior": fit.prior,
        "fitted_at_s": fit.fitted_at_s,
        "half_life_days": fit.half_life_days,
        "small_models": [asdict(report) for report in reports],
    }


def _learned(fit: Fit, posterior: Posterior, items: Sequence[Evidence], forest: ForestReport | None) -> Learned:
    calibration = _calibration(fit, items)
    return Learned(
        posterior.small_model,
        len(items),
        posterior.judged,
        posterior.slope_between,
        posterior.slope_within,
        calibration,
        _groups(fit, posterior, items),
        tuple(_warnings(posterior, len(items), calibration)),
        forest,
    )


def _calibration(fit: Fit, items: Sequence[Evidence]) -> Calibration | None:
    """Each judgement is held back from the posterior that judges it; the largest sets are thinned out."""
    if len(items) < LEAST_JUDGEMENTS:
        return None
    rng = np.random.default_rng(0)
    chosen = [items[at] for at in rng.permutation(len(items))[:_MOST_TESTED]]
    stacked = any(item.prior_score is not None for item in chosen)
    after = held_back(chosen, fit.fitted_at_s, fit.half_life_days, stacked=stacked)
    before = np.array([_before(item) for item in chosen])
    outcomes = np.array([item.outcome for item in chosen])
    weights = np.array([decayed(item, fit.fitted_at_s, fit.half_life_days) for item in chosen])
    if weights.sum() < 1.0:
        return None

    def mean(values: FloatArray) -> float:
        return float(np.average(values, weights=weights))

    return Calibration(
        len(chosen),
        float(brier(before, outcomes, weights)),
        float(brier(after, outcomes, weights)),
        mean(outcomes),
        mean(before),
        mean(after),
    )


def _before(item: Evidence) -> float:
    return item.score if item.prior_score is None else item.prior_score


def _groups(fit: Fit, posterior: Posterior, items: Sequence[Evidence]) -> tuple[GroupLine, ...]:
    members: dict[tuple[str, str], list[Evidence]] = defaultdict(list)
    for item in items:
        names = dict(zip(LEVELS, (item.task or "", *(own for own, _ in keys(item.fingerprint))), strict=True))
        for level in _SHOWN_LEVELS:
            if names[level] in posterior.levels[LEVELS.index(level)].groups:
                members[level, names[level]].append(item)
    lines = [_line(fit, posterior, level, key, each) for (level, key), each in members.items()]
    return tuple(sorted(lines, key=lambda line: (_SHOWN_LEVELS.index(line.level), -line.judged, line.key)))


def _line(fit: Fit, posterior: Posterior, level: str, key: str, items: Sequence[Evidence]) -> GroupLine:
    weights = np.array([decayed(item, fit.fitted_at_s, fit.half_life_days) for item in items])
    estimates = [posterior.estimate(item.score, item.task, item.fingerprint) for item in items]
    weighted = weights if weights.sum() > 0.0 else np.ones(len(items))

    def mean(values: list[float]) -> float:
        return float(np.average(values, weights=weighted))

    return GroupLine(
        level,
        key,
        float(weights.sum()),
        mean([item.outcome for item in items]),
        mean([_before(item) for item in items]),
        mean([estimate.score for estimate in estimates]),
        mean([estimate.sd for estimate in estimates]),
        next((item.excerpt for item in items if item.excerpt), "") if level in PARTS[1:] else "",
    )


def _warnings(posterior: Posterior, count: int, calibration: Calibration | None) -> Iterable[str]:
    if count < LEAST_JUDGEMENTS:
        yield (
            f"{count} judgements are few: scores stay near the classifier's own, and whether they got better cannot "
            f"be measured (from {LEAST_JUDGEMENTS} on it is)"
        )
    elif calibration is not None and calibration.brier_after >= calibration.brier_before:
        yield "on judgements held back, the evidence made the scores no better: leave it out, or collect more"
    if posterior.judged < 0.5 * count:
        yield "most of the weight has decayed: judge newer requests, or raise the half-life"
    if posterior.slope_within < 0.1 and count >= LEAST_JUDGEMENTS:
        yield "the classifier tells hard requests of one task from easy ones hardly or not at all"
