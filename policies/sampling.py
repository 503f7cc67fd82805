"""What sampled requests say of all of them: the counterfactual of a population, with an interval that covers the truth.

Each request has a booked counterfactual x, which is known of all; of a sample, drawn with known probabilities, the
truth y is known, too. The estimate is the generalised regression estimator of survey sampling (Särndal, Swensson,
Wretman: Model Assisted Survey Sampling, 1992, chapter 6),

    sum of y  ~  N * mean(y) + b * (sum of x - N * mean(x)),

with means over the sample, weighted by one over its probabilities. It is right on average, whatever x is worth; a good
x makes it narrow. The slope b is drawn towards mean(y) / mean(x), the ratio estimator's, by two requests' worth.

The interval is made of two parts. The bulk: a t distribution with the jackknife's residuals, which do not believe a
line that was fitted to themselves (a request's residual without it is r / (1 - h)). The tail: some models ramble on, in
one answer of a hundred, until they are cut off; a sample of thirty misses that three times in four, and an interval
from what it saw covers the truth as rarely as 75 % of the time. So how many such answers there are is given a Beta
distribution that starts from what is known of the model, not from nothing.

Amounts are integers; in between, where things are estimated, they are floats, and they are rounded once.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

VERSION = "regression-1"

EstimateBasis = Literal["samples", "prior", "mixed"]

ENOUGH = 10
"""Samples from which on a stratum speaks for itself, and its pair of models no longer leans on the prior. Strata with
fewer are put together, as survey statisticians do ("collapsed strata")."""
DEFAULT_PRIOR_SD = 0.3
"""Standard deviation, of the logarithm, by which a booked counterfactual misses where no sample says so. By hand: the
published lengths of answers vary by a factor of two between models, and a pair's ratio carries over from one kind of
request to another only roughly."""

_LEVEL = 0.95
_DRAWS = 4096
_SHRINK = 2.0
_RESIDUAL_CV = 0.7
"""Of a single request around the line, before any was seen; counts as one of them."""

_OUTLIER = 6.0
"""Standard deviations of the bulk, by the median's absolute deviation, from which on an answer is a tail's."""
_NORMAL_MAD = 1.4826
_PRIOR_REQUESTS = 60.0
"""What is known of a model's tail counts as much as so many of its answers."""
_RAMBLING_SHARE, _STEADY_SHARE = 0.0115, 0.002
_PRIOR_EXCESS = 8.0
"""By how many usual answers one that rambles on is longer."""
_EXCESS_CV = 0.6

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stratum:
    """Requests alike: `booked_count` of them, booked at `booked_nusd` together.

    `samples` are those whose truth is known: what each was booked at, what it is, and the probability with which it
    was drawn. `prior_sd` is by how much the truth of such strata misses what they are booked at, as a standard
    deviation of its logarithm. `pair` names the two models: strata with few samples are put together with others of
    their pair. `rambles` tells whether the baseline is one of those that now and then write until they are cut off.
    """

    name: str
    booked_nusd: int
    booked_count: int
    samples: Sequence[tuple[int, int, float]]
    prior_sd: float = DEFAULT_PRIOR_SD
    pair: str = ""
    rambles: bool = True


@dataclass(frozen=True, slots=True)
class StratumEstimate:
    """What the stratum's counterfactual is thought to be; the truth lies between the ends in 95 of 100 cases."""

    corrected_nusd: int
    low_nusd: int
    high_nusd: int
    sample_count: int
    basis: EstimateBasis


@dataclass(frozen=True, slots=True)
class Estimate:
    """`total_nusd` is the sum over strata; its interval is narrower than the sum of theirs, which are independent."""

    total_nusd: int
    low_nusd: int
    high_nusd: int
    by_stratum: Mapping[str, StratumEstimate]


def estimate(strata: Sequence[Stratum]) -> Estimate:
    """The same for the same strata, in whatever order they come. Raises ValueError for a share outside (0, 1]."""
    found: dict[str, StratumEstimate] = {}
    low, high = np.zeros(_DRAWS), np.zeros(_DRAWS)
    for group in _groups(strata):
        drawn = _estimated(group)
        low, high = low + drawn.low, high + drawn.high
        found |= _shared_out(group, drawn)
    total = sum(one.corrected_nusd for one in found.values())
    ends = _ends(low, high)
    return Estimate(total, min(ends[0], total), max(ends[1], total), found)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A group's total, and draws of what it may be: those that its lower end is read from, and its upper one."""

    total: float
    low: _Floats
    high: _Floats
    basis: EstimateBasis


def _groups(strata: Sequence[Stratum]) -> list[list[Stratum]]:
    """Strata that speak for themselves alone; the others by pair, all of a pair's where even those have too few."""
    groups: list[list[Stratum]] = []
    by_pair: dict[str, list[Stratum]] = defaultdict(list)
    for stratum in sorted(strata, key=lambda one: one.name):
        by_pair[stratum.pair].append(stratum)
    for pair in sorted(by_pair):
        own = [one for one in by_pair[pair] if len(one.samples) >= ENOUGH]
        rest = [one for one in by_pair[pair] if len(one.samples) < ENOUGH]
        if rest and _sample_count(rest) < ENOUGH and own:
            # The largest takes in those who are too few even together.
            largest = max(own, key=lambda one: one.booked_nusd)
            own.remove(largest)
            rest.append(largest)
        groups += [[one] for one in own]
        if rest:
            groups.append(rest)
    return groups


def _sample_count(group: Iterable[Stratum]) -> int:
    return sum(len(one.samples) for one in group)


def _estimated(group: Sequence[Stratum]) -> _Drawn:
    rng = np.random.default_rng(zlib.crc32("\n".join(one.name for one in group).encode()))
    booked, count = float(sum(one.booked_nusd for one in group)), sum(one.booked_count for one in group)
    prior_sd = max(one.prior_sd for one in group)
    sample = np.array([drawn for one in group for drawn in one.samples], dtype=float).reshape(-1, 3)
    x, y, share = sample.T
    if not ((share > 0) & (share <= 1)).all():
        raise ValueError(f"stratum {group[0].name!r}: a sample's share must lie in (0, 1]; found {share.min()}")
    if len(x) == 0 or not x.sum() or not booked:
        draws = booked * np.exp(prior_sd * rng.standard_normal(_DRAWS))
        return _Drawn(booked, draws, draws, "prior")
    weights = 1 / share
    weights *= count / weights.sum()
    total, residuals = _regression(x, y, weights, booked, count)
    bulk = _Bulk.of(residuals, y.mean())
    base, sd = total - float(weights @ bulk.excess), _sd(residuals[~bulk.outlies], weights[~bulk.outlies], share, y)
    total, base, sd, basis = _with_prior(total, base, sd, booked, prior_sd, len(x))
    spread = base + sd * rng.standard_t(max(len(x) - 2, 2), _DRAWS)
    rambling = _RAMBLING_SHARE if any(one.rambles for one in group) else _STEADY_SHARE
    seen = bulk.tail(rng, count, 0.0, 0.0)
    likely = bulk.tail(rng, count, rambling * _PRIOR_REQUESTS, _PRIOR_EXCESS * float(np.median(y)))
    return _Drawn(total, spread + seen, spread + likely, basis)


def _regression(x: _Floats, y: _Floats, weights: _Floats, booked: float, count: int) -> tuple[float, _Floats]:
    """The total, and what each sample misses a line by that was fitted without it."""
    mean_x, mean_y = float(weights @ x) / count, float(weights @ y) / count
    relative = weights * len(x) / count
    information = _SHRINK * (mean_x / 2) ** 2
    spread = float(relative @ (x - mean_x) ** 2) + information
    slope = (float(relative @ ((x - mean_x) * (y - mean_y))) + information * mean_y / mean_x) / spread
    leverage = relative * (1 / len(x) + (x - mean_x) ** 2 / spread)
    residuals = (y - mean_y - slope * (x - mean_x)) / (1 - np.minimum(leverage, 0.9))
    return count * mean_y + slope * (booked - count * mean_x), residuals


def _sd(residuals: _Floats, weights: _Floats, share: _Floats, y: _Floats) -> float:
    """Of the total, over samples that might have been drawn. Of what was sampled nothing is uncertain."""
    squares = (residuals - residuals.mean()) ** 2
    # One request's worth of what was supposed before stands in for the degree of freedom that the mean took.
    prior = (_RESIDUAL_CV * y.mean()) ** 2 * float((weights**2).mean())
    return float(np.sqrt((1 - share.mean()) * (float(weights**2 @ squares) + prior)))


def _with_prior(
    total: float, base: float, sd: float, booked: float, prior_sd: float, sample_count: int
) -> tuple[float, float, float, EstimateBasis]:
    """Few samples lean on what was booked, the more the fewer they are."""
    lean = 1 - sample_count / ENOUGH
    if lean <= 0 or not prior_sd or not sd:
        return total, base, sd, "samples"
    known = lean / (prior_sd * booked) ** 2
    weight = known / (known + 1 / sd**2)
    towards = weight * (booked - total)
    return total + towards, base + towards, sd * float(np.sqrt(1 - weight)), "mixed"


@dataclass(frozen=True, slots=True)
class _Bulk:
    """Residuals parted into bulk and tail; `excess` is how far each of the tail's is from the bulk, else nothing."""

    outlies: NDArray[np.bool_]
    excess: _Floats

    @classmethod
    def of(cls, residuals: _Floats, mean: float) -> _Bulk:
        middle = np.median(residuals)
        sd = max(_NORMAL_MAD * float(np.median(np.abs(residuals - middle))), 0.05 * abs(mean))
        outlies = residuals > middle + _OUTLIER * sd
        if len(residuals) < ENOUGH:
            outlies = np.zeros(len(residuals), dtype=bool)
        return cls(outlies, np.where(outlies, residuals - residuals[~outlies].mean(), 0.0))

    def tail(self, rng: np.random.Generator, count: int, prior_count: float, prior_excess: float) -> Any:
        """Draws of what answers that ramble on add to the bulk: those that were seen, and those that were not."""
        seen, size = int(self.outlies.sum()), len(self.excess)
        alpha = seen + prior_count
        if not alpha:
            return 0.0
        beta = max(size - seen, 0) + _PRIOR_REQUESTS * bool(prior_count) - prior_count
        share = rng.beta(alpha, beta, _DRAWS)
        mean = (float(self.excess.sum()) + prior_count * prior_excess) / alpha
        means = mean * np.maximum(1 + _EXCESS_CV / np.sqrt(seen + 1) * rng.standard_normal(_DRAWS), 0) if seen else mean
        return float(self.excess.sum()) + share * (count - size) * means


def _shared_out(group: Sequence[Stratum], drawn: _Drawn) -> dict[str, StratumEstimate]:
    """Each stratum of a group moves by the same factor."""
    booked = sum(one.booked_nusd for one in group)
    low, high = _ends(drawn.low, drawn.high)
    found = {}
    for one in group:
        part = one.booked_nusd / booked if booked else 0.0
        corrected = round(drawn.total * part)
        found[one.name] = StratumEstimate(
            corrected_nusd=corrected,
            low_nusd=min(round(low * part), corrected),
            high_nusd=max(round(high * part), corrected),
            sample_count=len(one.samples),
            basis=drawn.basis,
        )
    return found


def _ends(low: _Floats, high: _Floats) -> tuple[int, int]:
    """Never below nothing: no provider pays for being asked."""
    beside = (1 - _LEVEL) / 2
    return max(round(float(np.quantile(low, beside))), 0), round(float(np.quantile(high, 1 - beside)))


def plain_ratio(samples: Sequence[tuple[int, int]], total: int, count: int) -> StratumEstimate:
    """The rival: truth in proportion to something that is known of all, `total` in sum over `count` requests.

    `samples` hold it and the truth. The interval is that of the textbooks (Cochran: Sampling Techniques, 1977, section
    6.4), with Student's t.
    """
    known, truth = np.array(samples, dtype=float).T
    size = len(known)
    ratio = float(truth.sum() / known.sum())
    variance = float(((truth - ratio * known) ** 2).sum()) / (size - 1) * (1 - size / count) / size
    half = _student(size - 1) * float(np.sqrt(variance)) * total / float(known.mean())
    corrected = ratio * total
    return StratumEstimate(round(corrected), round(corrected - half), round(corrected + half), size, "samples")


@lru_cache(maxsize=1024)
def _student(freedom: int) -> float:
    """The quantile of Student's t that leaves half of what `_LEVEL` leaves above it."""
    draws = np.random.default_rng(freedom).standard_t(freedom, 200_000)
    return float(np.quantile(np.abs(draws), _LEVEL))
