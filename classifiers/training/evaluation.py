"""A classifier on examples: its figures with intervals beside those of others, its curve and its reliability."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.training import metrics
from classifiers.training.bootstrap import Estimate, estimate, stem_weights
from classifiers.training.contenders import Contender, score_texts
from classifiers.training.datasets import DatasetError, Example, Pair, by_pair, without_contaminated
from classifiers.training.metrics import Curve, FloatArray, ReliabilityBin
from classifiers.training.published import Published, published

KEPT_QUALITY = 0.95
"""The part of the large model's quality at which calls and savings are read."""
PRICE_RATIO = 30.0
RESAMPLES = 1000
GRID = np.linspace(0.0, 1.0, 101)
RANDOM_NOTE = "in expectation; APGR's interval: the noise of one random order; Brier: always stating the mean"
_RANDOM_Z = 1.959964  # 95 % of a normal distribution, which a sum over many prompts is close to


@dataclass(frozen=True, slots=True)
class Settings:
    """How an evaluation is done. `price_ratio` is the price of a strong call in weak ones."""

    price_ratio: float = PRICE_RATIO
    resamples: int = RESAMPLES
    seed: int = 0
    drop_contaminated: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one row; each NaN where it is undefined, unknown, or means nothing for it."""

    apgr: Estimate
    cpt50: Estimate
    cpt80: Estimate
    calls: Estimate
    saving: Estimate
    brier: Estimate
    calibration_error: Estimate


FIGURES = tuple(Figures.__slots__)


@dataclass(frozen=True, slots=True)
class Standing:
    """One row of the comparison. `quality` is read at the shares of `GRID`, `band` is its 95 % interval, [2, grid]."""

    name: str
    kind: str
    note: str
    figures: Figures
    quality: FloatArray | None = None
    band: FloatArray | None = None
    reliability: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All rows for one file and pair. The classifier in question is the first."""

    source: str
    dataset: str
    pair: Pair
    langs: tuple[str, ...]
    prompt_count: int
    stem_count: int
    dropped_count: int
    weak_mean: float
    strong_mean: float
    shortfall_share: float
    noise_sd: float
    settings: Settings
    rows: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What is known of each prompt, [prompts]."""

    prompts: tuple[str, ...]
    stems: tuple[str, ...]
    weak: FloatArray
    strong: FloatArray

    @property
    def shortfalls(self) -> FloatArray:
        """1 where the weak model's answer falls short of the strong one's, else 0."""
        return (self.weak < self.strong).astype(np.float64)


def evaluate(
    source: str,
    examples: Sequence[Example],
    contenders: Sequence[Contender],
    settings: Settings = Settings(),
    judged: Callable[[], None] = lambda: None,
) -> list[Evaluation]:
    """One evaluation for each pair of models among the examples; `judged` is called for each text scored.

    Prompts, not pairs, are scored, so a file that repeats them for several pairs costs no more. DatasetError where
    dropping contaminated examples leaves nothing.
    """
    kept = without_contaminated(examples) if settings.drop_contaminated else list(examples)
    if not kept:
        raise DatasetError(f"{source}: every example is marked contaminated; --keep-contaminated keeps them")
    texts = [example.prompt for example in kept]
    scores = {each.name: score_texts(each, texts, judged) for each in contenders}
    everything = by_pair(examples)
    return [
        _evaluate_pair(source, group, len(everything[pair]) - len(group), contenders, scores, settings)
        for pair, group in by_pair(kept).items()
    ]


def text_count(examples: Sequence[Example], contenders: Sequence[Contender], settings: Settings) -> int:
    """How often `evaluate` will call `judged`."""
    kept = without_contaminated(examples) if settings.drop_contaminated else examples
    return len({example.prompt for example in kept}) * len(contenders)


def _evaluate_pair(
    source: str,
    examples: Sequence[Example],
    dropped_count: int,
    contenders: Sequence[Contender],
    scores: Mapping[str, Mapping[str, float]],
    settings: Settings,
) -> Evaluation:
    outcomes = _outcomes(examples)
    measured = tuple(_standing(each, scores[each.name], outcomes, settings) for each in contenders)
    names = sorted({example.dataset for example in examples})
    return Evaluation(
        source=source,
        dataset=" + ".join(names),
        pair=examples[0].pair,
        langs=tuple(sorted({example.lang for example in examples if example.lang})),
        prompt_count=len(examples),
        stem_count=len(set(outcomes.stems)),
        dropped_count=dropped_count,
        weak_mean=float(outcomes.weak.mean()),
        strong_mean=float(outcomes.strong.mean()),
        shortfall_share=float(outcomes.shortfalls.mean()),
        noise_sd=metrics.random_apgr_sd(outcomes.weak, outcomes.strong),
        settings=settings,
        rows=(*measured, _random(outcomes, settings), *_published(names, examples)),
    )


def _outcomes(examples: Sequence[Example]) -> _Outcomes:
    return _Outcomes(
        tuple(example.prompt for example in examples),
        tuple(example.stem for example in examples),
        np.array([example.weak_score for example in examples]),
        np.array([example.strong_score for example in examples]),
    )


def _standing(contender: Contender, score_of: Mapping[str, float], outcomes: _Outcomes, settings: Settings) -> Standing:
    scores = np.array([score_of[prompt] for prompt in outcomes.prompts])
    values = _figures(contender, scores, outcomes, settings, None)
    # The same seed for every row: they are compared on the same resamples.
    batches = stem_weights(outcomes.stems, settings.resamples, np.random.default_rng(settings.seed))
    resampled: dict[str, list[FloatArray]] = {name: [] for name in values}
    qualities: list[FloatArray] = []
    for weights in batches:
        for name, value in _figures(contender, scores, outcomes, settings, weights).items():
            resampled[name].append(value)
        qualities.append(_on_grid(_curve(scores, outcomes, weights)))
    found = {name: estimate(float(value), np.concatenate(resampled[name])) for name, value in values.items()}
    bins = metrics.reliability(scores, outcomes.shortfalls) if contender.is_probability else ()
    if bins:
        found["calibration_error"] = Estimate(metrics.expected_calibration_error(bins))
    return Standing(
        contender.name,
        "measured",
        contender.note,
        _filled(found),
        _on_grid(_curve(scores, outcomes, None)),
        np.quantile(np.concatenate(qualities), (0.025, 0.975), axis=0),
        bins,
    )


def _figures(
    contender: Contender, scores: FloatArray, outcomes: _Outcomes, settings: Settings, weights: FloatArray | None
) -> dict[str, FloatArray]:
    """Each figure, [resamples], or for all prompts once where there are no weights."""
    found = _curve_figures(_curve(scores, outcomes, weights), settings.price_ratio)
    if contender.is_probability:
        found["brier"] = metrics.brier(scores, outcomes.shortfalls, weights)
    return found


def _curve(scores: FloatArray, outcomes: _Outcomes, weights: FloatArray | None) -> Curve:
    return metrics.quality_curve(scores, outcomes.weak, outcomes.strong, weights)


def _curve_figures(curve: Curve, price_ratio: float) -> dict[str, FloatArray]:
    calls = metrics.call_share_for_quality(curve, KEPT_QUALITY)
    return {
        "apgr": metrics.apgr(curve),
        "cpt50": metrics.call_share_for_gap(curve, 0.5),
        "cpt80": metrics.call_share_for_gap(curve, 0.8),
        "calls": calls,
        "saving": metrics.saving(calls, price_ratio),
    }


def _random(outcomes: _Outcomes, settings: Settings) -> Standing:
    """The expectation of a random order: what equal scores get. Its APGR's interval is the noise of one such order.

    Its Brier score is that of always stating the share of shortfalls: what a probability must beat to say anything.
    """
    curve = _curve(np.zeros(len(outcomes.prompts)), outcomes, None)
    found = {name: Estimate(float(value)) for name, value in _curve_figures(curve, settings.price_ratio).items()}
    noise = _RANDOM_Z * metrics.random_apgr_sd(outcomes.weak, outcomes.strong)
    found["apgr"] = Estimate(found["apgr"].value, 0.5 - noise, 0.5 + noise)
    found["brier"] = Estimate(float(metrics.brier(outcomes.shortfalls.mean(), outcomes.shortfalls)))
    return Standing("random", "expected", RANDOM_NOTE, _filled(found), _on_grid(curve))


def _published(datasets: Sequence[str], examples: Sequence[Example]) -> tuple[Standing, ...]:
    """Rows for figures known elsewhere, where this is exactly the data they were found on."""
    if len(datasets) != 1:
        return ()
    return tuple(map(_known_row, published(datasets[0], examples[0].pair, len(examples))))


def _known_row(known: Published) -> Standing:
    figures = {"apgr": known.apgr, "cpt50": known.cpt50, "cpt80": known.cpt80}
    found = {name: Estimate(value) for name, value in figures.items() if value is not None}
    return Standing(known.router, "published", known.source, _filled(found))


def _filled(found: Mapping[str, Estimate]) -> Figures:
    return Figures(**{name: found.get(name, Estimate(math.nan)) for name in FIGURES})


def _on_grid(curve: Curve) -> FloatArray:
    """Quality at the shares of `GRID`, [..., grid]."""
    if curve.share.ndim == 1:
        return np.interp(GRID, curve.share, curve.quality)
    return np.stack(
        [np.interp(GRID, share, quality) for share, quality in zip(curve.share, curve.quality, strict=True)]
    )
