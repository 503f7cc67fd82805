"""Intervals by resampling stems: prompts that ask the same are drawn together, or the interval would flatter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.training.metrics import FloatArray

CONFIDENCE = 0.95
# Where more of the resamples than this leave a figure undefined (no gap to recover), an interval would pretend.
MAX_UNDEFINED = 0.05
# How many numbers of a batch of resamples are held at once: 16 MB.
_NUMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; NaN where it is undefined, or no interval can be given."""

    value: float
    low: float = math.nan
    high: float = math.nan


def stem_weights(stems: Sequence[str], resamples: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """How often each prompt is drawn, [some resamples, prompts], until there have been `resamples` in all.

    Draws as many stems as there are, with replacement; all prompts of a stem come along.
    """
    names, stem_of_prompt = np.unique(np.asarray(stems), return_inverse=True)
    at_once = max(1, _NUMBERS_AT_ONCE // len(stems))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        counts = np.stack([_draw(len(names), rng) for _ in range(size)])
        yield counts[:, stem_of_prompt].astype(np.float64)


def estimate(value: float, resampled: FloatArray) -> Estimate:
    """The value with the percentile interval of its resamples, [resamples].

    Undefined resamples are left out; where they are more than `MAX_UNDEFINED` of all, there is no interval.
    """
    defined = resampled[np.isfinite(resampled)]
    if len(defined) == 0 or len(defined) < (1 - MAX_UNDEFINED) * len(resampled):
        return Estimate(float(value))
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high))


def _draw(stem_count: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.bincount(rng.integers(stem_count, size=stem_count), minlength=stem_count)
