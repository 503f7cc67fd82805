"""Choose the threshold of a quality target so that the target holds with a stated confidence.

The small model answers where score < t. A target of 0.95 asks for E[routed quality] >= 0.95 E[baseline's quality],
that is for E[L(t)] <= 0 with the loss L(t) = 0.95 x baseline's - routed quality of one prompt, in [-1, 0.95].

Method: Learn then Test (Angelopoulos, Bates, Candes, Jordan & Lei 2021, arXiv:2110.01052) with fixed-sequence
testing: starting at t = 0, where the baseline answers everything and the target holds by itself, t is raised as
long as the null hypothesis "E[L(t)] > 0" can be rejected at level delta. The first that cannot ends it, so the
chance that the chosen t misses the target is at most delta, for any number of steps. A test is a bet
(Waudby-Smith & Ramdas 2024, arXiv:2010.09686): the capital prod(1 - lambda L_i), averaged over fixed stakes lambda,
has expectation <= 1 under the null, so that it reaches 1/delta with probability <= delta (Markov). It needs no
normality, gains from small variance, and does not depend on the order of the data. A fixed stake moreover makes
the threshold monotone in target and in delta, and never lets one pass whose empirical quality is below target.

Why not conformal risk control (arXiv:2208.02814): it bounds the expectation over calibration sets, so about every
second set may miss; `resampling` shows that beside Hoeffding-Bentkus, which needs many more prompts.

Prompts that share a stem are one unit: their losses are averaged. The guarantee is for traffic like the
calibration data, for its pair of models, and for each target by itself. The scores must come from a classifier that
was not trained on these prompts (other folds, or other files), else they look better than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, exp, log, log1p

import numpy as np
from numpy.typing import NDArray

from classifiers.quality import CalibratedThreshold, QualityTargets

TARGETS = (0.80, 0.85, 0.90, 0.925, 0.95, 0.97, 0.98, 0.99, 1.0)
DELTA = 0.1
STEPS = 1000
"""Thresholds are thousandths: fixed before any data is seen, as the test demands."""
GRID: NDArray[np.float64] = np.arange(STEPS + 1) / STEPS

_LARGEST_STAKE = 0.95
_SMALLEST_STAKE_BY_ROOT = 3.0
_STAKES = 6
# A threshold is thin where it hands the small model less than this share of what a margin of zero would.
_WORTHWHILE = 0.5
_GROWTH = 1.1
_MOST_PROMPTS = 1_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Judged prompts as stems with their rows, in the order in which a rising threshold hands them over.

    Arrays over rows, sorted by stem and `step`: `step` is the first index of GRID at which the row goes to the small
    model (above STEPS: never), `gain` small model's - baseline's quality and `share`, both divided by the stem's rows;
    `stem` its number. `strong` is the baseline's mean quality, over stems.
    """

    step: NDArray[np.int64]
    gain: Floats
    share: Floats
    stem: NDArray[np.int64]
    strong: Floats

    @property
    def stems(self) -> int:
        return len(self.strong)

    def over_grid(self, rows: Floats) -> Floats:
        """The sum of `rows` over those that the small model answers, at each threshold of GRID."""
        return np.bincount(self.step, rows, minlength=STEPS + 2)[: STEPS + 1].cumsum()

    def small_share(self) -> Floats:
        """The small model's share of the requests, at each threshold of GRID."""
        return self.over_grid(self.share) / self.stems

    def quality(self) -> Floats:
        """The quality kept as a share of the baseline's, at each threshold of GRID; 1 where the baseline has none."""
        strong = self.strong.sum()
        return 1.0 + self.over_grid(self.gain) / strong if strong > 0.0 else np.ones(STEPS + 1)


def judged(scores: Floats, weak: Floats, strong: Floats, stems: Sequence[str]) -> Judged:
    """Rows by stem. All four are as long; scores and qualities lie in [0, 1], or ValueError."""
    if not len(scores) == len(weak) == len(strong) == len(stems):
        raise ValueError(f"as many of each are needed: {len(scores)}, {len(weak)}, {len(strong)}, {len(stems)}")
    for name, values in (("scores", scores), ("weak", weak), ("strong", strong)):
        if not np.all((values >= 0.0) & (values <= 1.0)):
            raise ValueError(f"{name} must lie in [0, 1]")
    number = np.unique(np.asarray(stems, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
    rows = np.bincount(number)
    step = np.searchsorted(GRID, scores, side="right").astype(np.int64)
    order = np.lexsort((step, number))
    share = 1.0 / rows[number[order]]
    return Judged(
        step=step[order],
        gain=(weak - strong)[order] * share,
        share=share,
        stem=number[order],
        strong=np.bincount(number, strong) / rows,
    )


def calibrate(
    scores: Floats, weak: Floats, strong: Floats, stems: Sequence[str], target: float, delta: float = DELTA
) -> CalibratedThreshold:
    """The highest threshold that keeps `target` with confidence 1 - delta; 0 (all to the baseline) if none is sure."""
    return threshold_of(judged(scores, weak, strong, stems), target, delta)


def quality_targets(
    data: Judged,
    calibrated_on: str,
    small_model: str,
    baseline_model: str,
    targets: Sequence[float] = TARGETS,
    delta: float = DELTA,
) -> QualityTargets:
    """The table over targets; `as_json()` of it is the manifest's entry."""
    entries = tuple([threshold_of(data, target, delta) for target in sorted(targets)])
    return QualityTargets(calibrated_on, small_model, baseline_model, entries)


def quality_targets_of_each(
    sources: Mapping[str, Judged],
    small_model: str,
    baseline_model: str,
    targets: Sequence[float] = TARGETS,
    delta: float = DELTA,
) -> QualityTargets:
    """The table whose targets hold on each source, and so on any mixture of them; ValueError without a source.

    Traffic rarely has the mixture of the calibration data. Each source is tested at delta / their number, and the
    lowest threshold serves: testing in sequence has certified all below a source's own, too.
    """
    if not sources:
        raise ValueError("at least one source is needed")
    entries = tuple([_threshold_of_each(sources, target, delta) for target in sorted(targets)])
    return QualityTargets(", ".join(sources), small_model, baseline_model, entries)


def _threshold_of_each(sources: Mapping[str, Judged], target: float, delta: float) -> CalibratedThreshold:
    """Its share is the mean over sources, its quality the worst, its warning that of the source that decides."""
    found = {name: threshold_of(data, target, delta / len(sources)) for name, data in sources.items()}
    strictest = min(found, key=lambda name: found[name].threshold)
    at = int(np.searchsorted(GRID, found[strictest].threshold))
    known = [data for data in sources.values() if data.stems]
    warning = found[strictest].warning
    return replace(
        found[strictest],
        expected_strong_share=_rounded(np.mean([1.0 - data.small_share()[at] for data in known])) if known else 1.0,
        expected_quality=_rounded(min((data.quality()[at] for data in known), default=1.0)),
        examples=sum(data.stems for data in sources.values()),
        confidence=_rounded(1.0 - delta),
        warning=warning and f"{strictest}: {warning}",
    )


def threshold_of(data: Judged, target: float, delta: float = DELTA) -> CalibratedThreshold:
    """`calibrate` for data that is arranged already. Target in (0, 1], delta in (0, 1), or ValueError."""
    if not (0.0 < target <= 1.0 and 0.0 < delta < 1.0):
        raise ValueError(f"0 < target <= 1 and 0 < delta < 1 must hold, not {target}, {delta}")
    if not data.stems:
        enough = least(target, delta)
        warning = _hopeless(target) if enough is None else _too_few(target, 0, enough)
        return CalibratedThreshold(target, 0.0, 1.0, 1.0, 0, _rounded(1.0 - delta), warning)
    chosen = choose(data, target, delta)
    share = data.small_share()
    return CalibratedThreshold(
        target=target,
        threshold=float(GRID[chosen]),
        expected_strong_share=_rounded(max(0.0, 1.0 - share[chosen])),
        expected_quality=_rounded(data.quality()[chosen]),
        examples=data.stems,
        confidence=_rounded(1.0 - delta),
        warning=_doubt(data, target, delta, chosen),
    )


def choose(data: Judged, target: float, delta: float) -> int:
    """The index of GRID to serve with: the highest that is certified, but no higher than scores that were judged."""
    reached = data.step[data.step <= highest_certified(log_capital(data, target) >= log(1.0 / delta))]
    return int(reached.max(initial=0))


def highest_certified(certified: NDArray[np.bool_]) -> int:
    """The last index before the first that is not certified; index 0 needs no certificate."""
    refused = np.flatnonzero(~certified[1:])
    return int(refused[0]) if len(refused) else len(certified) - 1


def log_capital(data: Judged, target: float, copies: float = 1.0) -> Floats:
    """ln of the capital that a bet against "the target is missed" has won, at each threshold of GRID.

    `copies` asks what it would be, had there been so many times as many prompts of the same kind.
    """
    sums = [sum_over_stems(data, target, partial(_log_return, stake)) for stake in stakes(data.stems * copies)]
    capital: Floats = np.logaddexp.reduce(copies * np.array(sums), axis=0) - log(len(sums))
    return capital


def _log_return(stake: float, loss: Floats) -> Floats:
    """ln of what one bet returns for each unit of capital; a loss is at most 1, so it stays above 0."""
    gained: Floats = np.log1p(-stake * loss)
    return gained


def stakes(stems: float) -> Floats:
    """The stakes lambda among which the capital is spread: from what suits a large variance to nearly all of it.

    The best one is about sqrt(2 ln(1/delta) / (n variance)); they depend on n alone, so each is fixed before the data.
    """
    return np.geomspace(min(_SMALLEST_STAKE_BY_ROOT / stems**0.5, _LARGEST_STAKE), _LARGEST_STAKE, _STAKES)


def sum_over_stems(data: Judged, target: float, of_loss: Callable[[Floats], Floats]) -> Floats:
    """The sum over stems of a function of their loss, at each threshold: what stems start with, and each row's change.

    A stem's loss is the mean over its rows of target x baseline's - routed quality.
    """
    start = (target - 1.0) * data.strong
    first = np.searchsorted(data.stem, np.arange(data.stems))
    given_up = np.cumsum(-data.gain)
    by_earlier_stems = given_up[first] + data.gain[first]
    after = of_loss(start[data.stem] + given_up - by_earlier_stems[data.stem])
    before = np.concatenate(([0.0], after[:-1]))
    before[first] = of_loss(start)
    total: Floats = of_loss(start).sum() + data.over_grid(after - before)
    return total


def least(target: float, delta: float) -> int | None:
    """The fewest prompts that could certify anything, were the baseline perfect on each; None where no number can."""
    n = 1
    while _sure_gain(n, target) < log(1.0 / delta):
        n = ceil(n * _GROWTH)
        if n > _MOST_PROMPTS:
            return None
    return n


def _sure_gain(n: int, target: float) -> float:
    """ln of the capital after n prompts on which nothing of the baseline's quality was given up."""
    won = [n * log1p(stake * (1.0 - target)) for stake in stakes(n)]
    top = max(won)
    return top + log(sum(exp(one - top) for one in won) / len(won))


def _doubt(data: Judged, target: float, delta: float, chosen: int) -> str | None:
    """A warning where more prompts would hand clearly more to the small model, or where no number would."""
    share = data.small_share()
    hoped = _WORTHWHILE * float(share[highest_certified(data.quality() >= target)])
    if hoped <= 0.0:
        return _hopeless(target)
    if share[chosen] >= hoped:
        return None
    copies = 1.0
    while copies * data.stems < _MOST_PROMPTS:
        copies *= _GROWTH
        if share[highest_certified(log_capital(data, target, copies) >= log(1.0 / delta))] >= hoped:
            return _too_few(target, data.stems, copies * data.stems)
    return _hopeless(target)


def _hopeless(target: float) -> str:
    return (
        f"a quality target of {target:g} leaves next to nothing for the small model: the score does not tell well "
        "enough which prompts it answers as well as the baseline, and more judged prompts like these would not help"
    )


def _too_few(target: float, stems: int, enough: float) -> str:
    """The figure is rounded up to two digits: it supposes that further prompts resemble these."""
    unit = 10 ** max(len(str(ceil(enough))) - 2, 0)
    return (
        f"{stems} judged prompts are too few for a quality target of {target:g}, so the margin is wide; "
        f"about {ceil(enough / unit) * unit} like them would be enough"
    )


def _rounded(value: float) -> float:
    return round(float(value), 6)
