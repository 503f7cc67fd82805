"""Figures of merit for a router and for a probability, vectorised over resamples.

RouteLLM's definitions (Ong et al. 2024, arXiv:2406.18665): with weak mean w, strong mean s and quality r at a share of
strong calls, PGR = (r - w) / (s - w); APGR is the mean of PGR over all shares, 0.5 for random; CPT(x) is the share at
which PGR first reaches x. Every threshold is used and ties count in expectation: within a group of equal scores the
curve is the straight line that random orders average to. Between two points of the curve a router may mix both
thresholds, so shares are read off the line. Where the strong model is no better (s <= w) there is no gap to recover:
PGR, APGR and CPT are then NaN.

Arrays end in the axis they are named for; axes before it are resamples and pass through.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Sums of a mean's terms differ in the last bits with their order; a level counts as reached within this.
_TOLERANCE = 1e-9
RELIABILITY_BINS = 10


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality against the share of strong calls, both [..., points], from share 0 to share 1."""

    share: FloatArray
    quality: FloatArray

    @property
    def weak(self) -> FloatArray:
        """Mean quality of the weak model alone, [...]."""
        return self.quality[..., 0]

    @property
    def strong(self) -> FloatArray:
        """Mean quality of the strong model alone, [...]."""
        return self.quality[..., -1]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Prompts of neighbouring scores: how many, their mean score, and how often the small model fell short."""

    count: int
    mean_score: float
    shortfall_share: float


def quality_curve(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike, weights: ArrayLike | None = None) -> Curve:
    """The curve of sending prompts to the strong model from the highest score down.

    `scores`, `weak` and `strong` are [prompts]; `weights` is [..., prompts], 1 for each unless given. ValueError where
    shapes differ, nothing is there, or a score is not finite.
    """
    ranked, low, high = _checked(scores, weak, strong)
    weight = np.ones_like(ranked) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(-ranked, kind="stable")
    starts = _group_starts(ranked[order])
    weight = weight[..., order]
    total = weight.sum(axis=-1, keepdims=True)
    count = np.add.reduceat(weight, starts, axis=-1) / total
    gain = np.add.reduceat(weight * (high - low)[order], starts, axis=-1) / total
    base = (weight * low[order]).sum(axis=-1, keepdims=True) / total
    return Curve(_from_zero(count), base + _from_zero(gain))


def recovered_gap(curve: Curve) -> FloatArray:
    """PGR at each point of the curve, [..., points]."""
    gap = _gap(curve)[..., None]
    return (curve.quality - curve.weak[..., None]) / gap


def apgr(curve: Curve) -> FloatArray:
    """Average performance gap recovered, [...]: the area under PGR, 0.5 for random."""
    width = np.diff(curve.share, axis=-1)
    middle = (curve.quality[..., 1:] + curve.quality[..., :-1]) / 2
    return np.asarray(((width * middle).sum(axis=-1) - curve.weak) / _gap(curve))


def call_share_for_gap(curve: Curve, recovered: float) -> FloatArray:
    """CPT(recovered), [...]: the strong-call share at which that part of the gap, in [0, 1], is first recovered."""
    gap = _gap(curve)
    share = _first_share(curve, curve.weak + recovered * np.nan_to_num(gap))
    return np.where(np.isnan(gap), np.nan, share)


def call_share_for_quality(curve: Curve, kept: float) -> FloatArray:
    """The strong-call share, [...], at which quality first reaches `kept` (in [0, 1]) times the strong model's."""
    return _first_share(curve, kept * curve.strong)


def saving(strong_share: ArrayLike, price_ratio: float) -> FloatArray:
    """The part of the all-strong cost that is saved, [...], where a strong call costs `price_ratio` weak ones.

    Counts a call as a call: answers of one length, whichever model gives them.
    """
    if not price_ratio >= 1.0:
        raise ValueError(f"the price ratio, strong to weak, is at least 1, not {price_ratio}")
    return (1.0 - np.asarray(strong_share, dtype=np.float64)) * (1.0 - 1.0 / price_ratio)


def random_apgr_sd(weak: ArrayLike, strong: ArrayLike) -> float:
    """The standard deviation of a random order's APGR: exact, from the variance of a linear rank statistic."""
    gains = np.asarray(strong, dtype=np.float64) - np.asarray(weak, dtype=np.float64)
    count, gap = len(gains), gains.mean()
    if gap <= 0.0:
        return float("nan")
    spread = ((gains - gap) ** 2).sum()
    return float(np.sqrt((count + 1) * spread / (12.0 * count**3)) / gap)


def brier(scores: ArrayLike, shortfalls: ArrayLike, weights: ArrayLike | None = None) -> FloatArray:
    """Mean squared difference, [...], of a probability and what happened (0 or 1); lower is better."""
    squared = (np.asarray(scores, dtype=np.float64) - np.asarray(shortfalls, dtype=np.float64)) ** 2
    return np.asarray(np.average(squared, axis=-1) if weights is None else _weighted_mean(squared, weights))


def reliability(
    scores: ArrayLike, shortfalls: ArrayLike, bin_count: int = RELIABILITY_BINS
) -> tuple[ReliabilityBin, ...]:
    """At most `bin_count` bins of about equally many prompts, lowest scores first; equal scores share a bin.

    Bins of equal numbers, since scores crowd where the data lie and bins of equal width would be mostly empty.
    """
    ranked = np.asarray(scores, dtype=np.float64)
    fell = np.asarray(shortfalls, dtype=np.float64)
    order = np.argsort(ranked, kind="stable")
    ranked, fell = ranked[order], fell[order]
    wanted = np.arange(1, bin_count) * len(ranked) // bin_count
    # An edge inside a group of equal scores moves down to where the group begins.
    edges = np.unique(np.searchsorted(ranked, ranked[wanted], side="left")) if len(ranked) else wanted[:0]
    bounds = [0, *(int(edge) for edge in edges if edge > 0), len(ranked)]
    return tuple(
        ReliabilityBin(end - start, float(ranked[start:end].mean()), float(fell[start:end].mean()))
        for start, end in pairwise(bounds)
        if end > start
    )


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The mean distance of stated probability and observed share over the bins, weighted by their counts."""
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.mean_score - each.shortfall_share) for each in bins) / total


def _checked(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    ranked, low, high = (np.asarray(values, dtype=np.float64) for values in (scores, weak, strong))
    if not ranked.shape == low.shape == high.shape or ranked.ndim != 1 or not len(ranked):
        raise ValueError(
            f"needed are as many scores as outcomes, at least one: {ranked.shape} {low.shape} {high.shape}"
        )
    if not np.isfinite(ranked).all():
        raise ValueError("a score is not finite")
    return ranked, low, high


def _group_starts(descending: FloatArray) -> NDArray[np.intp]:
    """Where each group of equal scores begins."""
    return np.flatnonzero(np.concatenate(([True], descending[1:] != descending[:-1])))


def _from_zero(steps: FloatArray) -> FloatArray:
    cumulated = np.cumsum(steps, axis=-1)
    return np.concatenate((np.zeros_like(cumulated[..., :1]), cumulated), axis=-1)


def _gap(curve: Curve) -> FloatArray:
    gap = curve.strong - curve.weak
    return np.where(gap > _TOLERANCE, gap, np.nan)


def _first_share(curve: Curve, level: FloatArray) -> FloatArray:
    """Where the curve first reaches `level`, [...]; 1 where it does so by a rounding error only, or not at all."""
    reached = curve.quality >= level[..., None] - _TOLERANCE
    reached[..., -1] = True
    after = np.argmax(reached, axis=-1)[..., None]
    before = np.maximum(after - 1, 0)
    low, high = np.take_along_axis(curve.quality, before, -1), np.take_along_axis(curve.quality, after, -1)
    rise = high - low
    part = np.clip((level[..., None] - low) / np.where(rise > 0.0, rise, 1.0), 0.0, 1.0)
    start, end = np.take_along_axis(curve.share, before, -1), np.take_along_axis(curve.share, after, -1)
    return np.asarray((start + part * (end - start))[..., 0])


def _weighted_mean(values: FloatArray, weights: ArrayLike) -> FloatArray:
    weight = np.asarray(weights, dtype=np.float64)
    return np.asarray((weight * values).sum(axis=-1) / weight.sum(axis=-1))
