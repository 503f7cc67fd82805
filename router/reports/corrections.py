"""How far the booked counterfactual is from the truth, by the shadow samples: corrections that add up, intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from policies.allotment import allot
from policies.answer_lengths import AnswerLengths
from policies.sampling import ENOUGH, Estimate, Stratum, StratumEstimate
from router.reports.postings import Posting, stratum_name
from router.stores.cells import Books, ShadowSample

Estimator = Callable[[Sequence[Stratum]], Estimate]

_NORMAL_95_SQUARED = Fraction(3_841_459, 1_000_000)
"""The square of 1.96: of a normal distribution, 95 % lie so many standard deviations around the mean."""
_FEW = 8
_SPREAD_UNKNOWN = Fraction(1)
"""Without samples a single request is supposed to miss its booked counterfactual by as much as that itself."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """What was estimated of the whole ledger of a period, whatever part of it a report is restricted to: a team's
    line is the same in a report of all teams and in one of its own. An end user's or a tag's may be another by a
    nano-dollar for each cell in it.

    `spread` is the mean square by which a sampled request misses its corrected counterfactual, in units of the squared
    mean of what such requests were booked at.
    """

    booked_nusd: Mapping[str, int]
    counts: Mapping[str, int]
    pairs: Mapping[str, str]
    estimate: Estimate
    sample_count: int
    spread: Fraction

    def of(self, stratum: str) -> StratumEstimate:
        return self.estimate.by_stratum[stratum]

    def low_nusd(self, booked: Mapping[str, int], counts: Mapping[str, int]) -> int:
        """By how much the corrected counterfactual of a part may be too high: a part that was booked at so much in
        so many requests, by stratum."""
        return self._deviation(booked, counts, lambda of: of.corrected_nusd - of.low_nusd)

    def high_nusd(self, booked: Mapping[str, int], counts: Mapping[str, int]) -> int:
        return self._deviation(booked, counts, lambda of: of.high_nusd - of.corrected_nusd)

    def _deviation(
        self, booked: Mapping[str, int], counts: Mapping[str, int], half_width: Callable[[StratumEstimate], int]
    ) -> int:
        """Strata are independent of each other, but those with few samples, which are estimated together by pair of
        models and are wrong together. A part of a stratum shares its uncertainty, and adds that of having few requests:
        what they miss the stratum's mean by averages out over the whole, not over a part."""
        together: dict[str, int] = defaultdict(int)
        square, spread = 0, _NORMAL_95_SQUARED * self.spread
        for stratum, part in booked.items():
            found, whole = self.of(stratum), self.booked_nusd[stratum]
            group = stratum if found.sample_count >= ENOUGH else self.pairs[stratum]
            together[group] += part * half_width(found) // whole
            few = spread.numerator * part * part * (whole - part)
            square += few // (spread.denominator * counts[stratum] * whole)
        return isqrt(square + sum(width * width for width in together.values()))


def corrections(
    books: Books, whole: Sequence[Posting], from_ms: int, to_ms: int, lengths: AnswerLengths, estimate: Estimator
) -> Corrections:
    """`whole` is all that was booked in [from_ms, to_ms)."""
    booked: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    models: dict[str, tuple[str, bool]] = {}
    for posting in whole:
        if posting.stratum is not None:
            booked[posting.stratum] += posting.cell.baseline_cost_nusd
            counts[posting.stratum] += posting.cell.request_count
            models[posting.stratum] = posting.pair, lengths.of(str(posting.cell.key["baseline_model"])).rambles
    samples: dict[str, list[ShadowSample]] = defaultdict(list)
    for sample in books.samples(from_ms, to_ms):
        name = stratum_name(sample.baseline_model, sample.deployment, sample.task)
        if name in booked:
            samples[name].append(sample)
    found = estimate(
        [_stratum(name, booked[name], counts[name], samples[name], *models[name]) for name in sorted(booked)]
    )
    sample_count = sum(map(len, samples.values()))
    pairs = {name: pair for name, (pair, _) in models.items()}
    return Corrections(booked, counts, pairs, found, sample_count, _spread(found, booked, samples))


def shared_out(found: Corrections, mine: Sequence[Posting]) -> list[int]:
    """The correction of each of `mine`, nano-USD: its part of its stratum's, in proportion to what was booked.

    What was booked beside `mine` keeps its own.
    """
    at: dict[str, list[int]] = defaultdict(list)
    for index, posting in enumerate(mine):
        if posting.stratum is not None:
            at[posting.stratum].append(index)
    parts = [0] * len(mine)
    for stratum, indexes in at.items():
        weights = [mine[index].cell.baseline_cost_nusd for index in indexes]
        rest = found.booked_nusd[stratum] - sum(weights)
        total = found.of(stratum).corrected_nusd - found.booked_nusd[stratum]
        for index, part in zip(indexes, allot(total, [*weights, rest]), strict=False):
            parts[index] = part
    return parts


def _stratum(
    name: str, booked_nusd: int, count: int, samples: Sequence[ShadowSample], pair: str, rambles: bool
) -> Stratum:
    known = [(sample.booked_nusd, sample.actual_nusd, sample.share) for sample in samples]
    return Stratum(name, booked_nusd, count, known, pair=pair, rambles=rambles)


def _spread(found: Estimate, booked: Mapping[str, int], samples: Mapping[str, Sequence[ShadowSample]]) -> Fraction:
    """Pooled over the strata: most have few samples."""
    squares, means, count = Fraction(0), Fraction(0), 0
    for name, drawn in samples.items():
        if len(drawn) < 2 or not booked[name]:
            continue
        corrected, whole = found.by_stratum[name].corrected_nusd, booked[name]
        missed = sum((one.actual_nusd * whole - corrected * one.booked_nusd) ** 2 for one in drawn)
        squares += Fraction(missed, whole * whole)
        means += Fraction(sum(one.booked_nusd for one in drawn) ** 2, len(drawn))
        count += len(drawn)
    return squares / means if count >= _FEW and means else _SPREAD_UNKNOWN
