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
distribution that starts from what is known of the model, not from nothing. Of a model that does not ramble on no
residual is set apart: where a bulk is skewed, or has two humps, intervals would become too narrow.

Amounts are integers; in between, where things are estimated, they are floats, and they are rounded once.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import hypot
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

VERSION = "regression-3"

EstimateBasis = Literal["samples", "prior", "mixed"]

ENOUGH = 10
"""Samples from which on a stratum speaks for itself, and its pair of models no longer leans on the prior. Strata with
fewer are put together, as survey statisticians do ("collapsed strata")."""
DEFAULT_PRIOR_SD = 0.3
"""Standard deviation, of the logarithm, by which a booked counterfactual misses where no sample says so. By hand: the
published lengths of answers vary by a factor of two between models, and a pair's ratio carries over from one kind of
request to another only roughly."""

_LEVEL = 0.95
_NORMAL_95 = 1.96
_NONE_DRAWN = 3.0
"""So many samples may be expected, and it is no wonder (1 in 20) that there is none."""
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
_PRIOR_EXCESS = 5.0
"""By how many usual answers one that rambles on is longer: 2,048 tokens are a usual limit, 330 a usual answer."""
_EXCESS_CV = 0.6
_RARE = 0.1
"""Up to so many of the samples are a tail. More that lie far out are no accidents, but a second kind of answer."""

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
    """What the stratum's counterfactual is thought to be; the truth lies between the ends in 95 of 100 cases.

    `unsampled_nusd` is the part of it for which no sample can speak: there are fewer than there would be, had all
    requests had the chance to be drawn that the samples had.
    """

    corrected_nusd: int
    low_nusd: int
    high_nusd: int
    sample_count: int
    basis: EstimateBasis
    unsampled_nusd: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """`total_nusd` is the sum over strata; its interval is narrower than the sum of theirs, which are independent."""

    total_nusd: int
    low_nusd: int
    high_nusd: int
    by_stratum: Mapping[str, StratumEstimate]


def estimate(strata: Sequence[Stratum]) -> Estimate:
    """The same for the same strata, in whatever order they come. Raises ValueError for a share outside (0, 1]."""
    for stratum in strata:
        _check_shares(stratum)
    found: dict[str, StratumEstimate] = {}
    low, high = np.zeros(_DRAWS), np.zeros(_DRAWS)
    for group in _groups(strata):
        drawn = _estimated(group)
        found |= _shared_out(group, drawn)
        # What no sample speaks for may all differ to the same side.
        apart = sum(one.prior_sd * found[one.name].unsampled_nusd for one in group)
        beyond = apart * _rng(group, "unsampled").standard_normal(_DRAWS)
        low, high = low + drawn.low + beyond, high + drawn.high + beyond
    total = sum(one.corrected_nusd for one in found.values())
    ends = _ends(low, high)
    return Estimate(total, min(ends[0], total), max(ends[1], total), found)


def _check_shares(stratum: Stratum) -> None:
    for _, _, share in stratum.samples:
        if not 0 < share <= 1:
            raise ValueError(f"stratum {stratum.name!r}: a sample's share must lie in (0, 1]; found {share}")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A group's total, and draws of what it may be: those that its lower end is read from, and its upper one.

    `unsampled` is the share of each stratum that no sample speaks for; the draws leave out by what that differs.
    """

    total: float
    low: _Floats
    high: _Floats
    basis: EstimateBasis
    unsampled: Mapping[str, float]


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
    rng = _rng(group)
    booked, count = float(sum(one.booked_nusd for one in group)), sum(one.booked_count for one in group)
    prior_sd = max(one.prior_sd for one in group)
    sample = np.array([drawn for one in group for drawn in one.samples], dtype=float).reshape(-1, 3)
    x, y, share = sample.T
    if len(x) == 0 or not x.sum() or not booked or not count:
        draws = booked * np.exp(prior_sd * rng.standard_normal(_DRAWS))
        return _Drawn(booked, draws, draws, "prior", {})
    weights = share.min() / share
    weights *= count / weights.sum()
    total, residuals, extrapolated_sd = _regression(x, y, weights, booked, count)
    rambles = any(one.rambles for one in group)
    bulk = _Bulk.of(residuals, weights, y, rambles)
    total, base, sd, basis = _with_prior(
        total, total - float(weights @ bulk.excess), hypot(bulk.sd(), extrapolated_sd), booked, prior_sd, len(x)
    )
    spread = base + sd * rng.standard_t(max(len(x) - 2, 2), _DRAWS)
    rambling = _RAMBLING_SHARE if rambles else _STEADY_SHARE
    seen = bulk.tail(rng, 0.0, 0.0)
    likely = bulk.tail(rng, rambling * _PRIOR_REQUESTS, _PRIOR_EXCESS * float(np.median(y)))
    # What was seen was spent: no total is less, though a line may fall below it.
    least = float(y.sum())
    low, high = np.maximum(spread + seen, least), np.maximum(spread + likely, least)
    mean_share = len(x) / float((1 / share).sum())
    unsampled = {one.name: _unsampled(one, mean_share) for one in group}
    return _Drawn(max(total, least), low, high, basis, unsampled)


def _rng(group: Sequence[Stratum], what: str = "") -> np.random.Generator:
    """The same draws for the same strata, and for each purpose its own."""
    return np.random.default_rng(zlib.crc32("\n".join([*(one.name for one in group), what]).encode()))


def _unsampled(stratum: Stratum, mean_share: float) -> float:
    """The share of its requests that cannot have had a chance to be drawn: more than chance would leave out."""
    drawn = len(stratum.samples)
    stand_for = sum(1 / share for _, _, share in stratum.samples)
    # So many more may be there, and it were still no wonder that none of them was drawn.
    chance = (_NONE_DRAWN if not drawn else 1 + 2 * drawn**0.5) / mean_share
    return max(0.0, 1 - (stand_for + chance) / max(stratum.booked_count, 1))


def _regression(x: _Floats, y: _Floats, weights: _Floats, booked: float, count: int) -> tuple[float, _Floats, float]:
    """The total; what each sample misses a line by that was fitted without it; and by how much the line's slope makes
    the total uncertain, where the samples are not like the population, as those drawn at random are."""
    mean_x, mean_y = float(weights @ x) / count, float(weights @ y) / count
    relative = weights * len(x) / count
    information = _SHRINK * (mean_x / 2) ** 2
    spread = float(relative @ (x - mean_x) ** 2) + information
    slope = (float(relative @ ((x - mean_x) * (y - mean_y))) + information * mean_y / mean_x) / spread
    leverage = relative * (1 / len(x) + (x - mean_x) ** 2 / spread)
    residuals = (y - mean_y - slope * (x - mean_x)) / (1 - np.minimum(leverage, 0.9))
    beyond = booked - count * mean_x
    by_chance = 2 * float(np.sqrt((weights * np.maximum(weights - 1, 0)) @ (x - mean_x) ** 2))
    slope_sd = float(np.sqrt(np.sum((relative * (x - mean_x) * residuals) ** 2))) / spread
    return count * mean_y + slope * beyond, residuals, slope_sd * max(abs(beyond) - by_chance, 0.0)


def _with_prior(
    total: float, base: float, sd: float, booked: float, prior_sd: float, sample_count: int
) -> tuple[float, float, float, EstimateBasis]:
    """Few samples lean on what was booked, the more the fewer they are."""
    lean = 1 - sample_count / ENOUGH
    if lean <= 0 or not prior_sd or not sd:
        return total, base, sd, "samples"
    weight = 1 / (1 + (prior_sd * booked / sd) ** 2 / lean)
    towards = weight * (booked - total)
    return total + towards, base + towards, sd * float(np.sqrt(1 - weight)), "mixed"


@dataclass(frozen=True, slots=True)
class _Bulk:
    """Residuals parted into bulk and tail; `excess` is how far each of the tail's is from the bulk, else nothing.

    A request's weight is how many it stands for, itself among them; `usual` is the mean of the truth.
    """

    residuals: _Floats
    weights: _Floats
    outlies: NDArray[np.bool_]
    excess: _Floats
    usual: float

    @classmethod
    def of(cls, residuals: _Floats, weights: _Floats, y: _Floats, rambles: bool) -> _Bulk:
        usual = float(weights @ y) / float(weights.sum())
        middle = np.median(residuals)
        sd = max(_NORMAL_MAD * float(np.median(np.abs(residuals - middle))), 0.05 * abs(usual))
        outlies = residuals > middle + _OUTLIER * sd
        if not rambles or len(residuals) < ENOUGH or outlies.sum() > _RARE * len(residuals):
            outlies = np.zeros(len(residuals), dtype=bool)
        excess = np.where(outlies, residuals - residuals[~outlies].mean(), 0.0)
        return cls(residuals, weights, outlies, excess, usual)

    def sd(self) -> float:
        """Of the bulk's total, over samples that might have been drawn."""
        residuals, weights = self.residuals[~self.outlies], self.weights[~self.outlies]
        squares = (residuals - float(weights @ residuals) / float(weights.sum())) ** 2
        # One more request stands in for the degree of freedom that the mean took: as far off as was supposed before,
        # but, where there are enough, no farther than the farthest.
        another = (_RESIDUAL_CV * self.usual) ** 2
        if len(residuals) >= ENOUGH:
            another = min(another, float(squares.max()))
        # Of what was sampled nothing is uncertain, only of the others that it stands for.
        uncertain = weights * np.maximum(weights - 1, 0)
        return float(np.sqrt(uncertain @ squares + uncertain.mean() * another))

    def tail(self, rng: np.random.Generator, prior_count: float, prior_excess: float) -> Any:
        """Draws of what answers that ramble on add to the bulk: those that were seen, and those that were not."""
        size, count, seen_excess = len(self.excess), float(self.weights.sum()), float(self.excess.sum())
        # Where those that ramble on were likelier to be drawn, each counts for less than one of the sample.
        relative = self.weights * size / count
        seen = float(relative @ self.outlies)
        alpha = seen + prior_count
        if not alpha:
            return 0.0
        beta = size - seen + (_PRIOR_REQUESTS - prior_count if prior_count else 0.0)
        unseen = max(count - size, 0.0) * rng.beta(alpha, beta, _DRAWS)
        mean = (float(relative @ self.excess) + prior_count * prior_excess) / alpha
        means = mean * np.maximum(1 + _EXCESS_CV / np.sqrt(seen + 1) * rng.standard_normal(_DRAWS), 0) if seen else mean
        return seen_excess + unseen * means


def _shared_out(group: Sequence[Stratum], drawn: _Drawn) -> dict[str, StratumEstimate]:
    """Each stratum of a group moves by the same factor."""
    booked = sum(one.booked_nusd for one in group)
    low, high = _ends(drawn.low, drawn.high)
    found = {}
    for one in group:
        part = one.booked_nusd / booked if booked else 0.0
        corrected = round(drawn.total * part)
        unsampled = round(corrected * drawn.unsampled.get(one.name, 0.0))
        apart = _NORMAL_95 * one.prior_sd * unsampled
        below, above = hypot(max(corrected - low * part, 0), apart), hypot(max(high * part - corrected, 0), apart)
        found[one.name] = StratumEstimate(
            corrected_nusd=corrected,
            low_nusd=max(round(corrected - below), 0),
            high_nusd=round(corrected + above),
            sample_count=len(one.samples),
            basis=drawn.basis,
            unsampled_nusd=unsampled,
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
