"""How often is a quality target missed? Calibrate on some stems, look at others, many times over.

    python -m classifiers.training.resampling --data FILE... [--weak-model M] [--strong-model M] [--classifier NAME]

prints for each file and pair of models the rate of misses beside the stated rate, for the shipped method (`betting`)
and for those it was chosen over. Two experiments, each with as many repetitions and seeded:

- *held out*: half of the stems calibrate, the other half is realised. Its own noise counts as a miss, too.
- *population*: as many stems are drawn with replacement, and the whole set is realised. This is what the guarantee
  of `risk_control` speaks of, the set taken for the traffic.

`--across` instead calibrates on each source and realises it on every other, which nothing promises to go well.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import lgamma, log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from classifiers import registry
from classifiers.base import Classifier
from classifiers.training.datasets import Example, as_prompt, by_pair, read
from classifiers.training.risk_control import (
    DELTA,
    Floats,
    Judged,
    choose,
    highest_certified,
    judged,
    sum_over_stems,
)

Method = Callable[[Judged, float, float], int]
"""Calibration data, target and delta -> the chosen index of GRID."""

REPEATS = 400
SHOWN_TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)


# ---- methods -------------------------------------------------------------------------------------


def betting(data: Judged, target: float, delta: float) -> int:
    """Learn then Test with the betting test: what `risk_control` ships."""
    return choose(data, target, delta)


def hoeffding_bentkus(data: Judged, target: float, delta: float) -> int:
    """Learn then Test with its own p-value (arXiv:2110.01052, proposition 2), on the loss moved to [0, 1]."""
    n, alpha = data.stems, 1.0 / (1.0 + target)
    risk = np.clip((_mean_loss(data, target) + 1.0) * alpha, 0.0, 1.0)
    hoeffding = np.exp(-n * _divergence(np.minimum(risk, alpha), alpha))
    at_most = np.clip(np.ceil(n * risk - 1e-9), 0, n).astype(np.int64)
    bentkus = np.e * _binomial_cdf(n, alpha)[at_most]
    return highest_certified(np.minimum(hoeffding, bentkus) <= delta)


def normal(data: Judged, target: float, delta: float) -> int:
    """Learn then Test with a normal approximation: valid for large samples only, and not for rare large losses."""
    n, mean = data.stems, _mean_loss(data, target)
    variance = sum_over_stems(data, target, np.square) / n - mean**2
    bound = mean + NormalDist().inv_cdf(1.0 - delta) * np.sqrt(np.maximum(variance, 0.0) / n)
    return highest_certified(bound <= 0.0)


def conformal(data: Judged, target: float, delta: float) -> int:
    """Conformal risk control (arXiv:2208.02814, theorem 1): E[loss] <= 0 over calibration sets, whatever delta.

    Its loss must not fall as the threshold rises, so where the small model is better it counts as equal.
    """
    n = data.stems
    given_up = data.over_grid(np.maximum(-data.gain, 0.0)) / n
    risk = (target - 1.0) * data.strong.mean() + given_up
    return highest_certified(n / (n + 1) * risk + target / (n + 1) <= 0.0)


def naive(data: Judged, target: float, delta: float) -> int:
    """No margin: the highest threshold that keeps the target on the calibration data."""
    return int(np.flatnonzero(data.quality() >= target)[-1])


METHODS: Mapping[str, Method] = {
    "betting": betting,
    "hoeffding-bentkus": hoeffding_bentkus,
    "normal": normal,
    "conformal": conformal,
    "naive": naive,
}


def _mean_loss(data: Judged, target: float) -> Floats:
    return float((target - 1.0) * data.strong.mean()) - data.over_grid(data.gain) / data.stems


def _divergence(p: Floats, q: float) -> Floats:
    """Kullback-Leibler, of coins."""
    inside = np.clip(p, 1e-12, 1.0 - 1e-12)
    nats: Floats = inside * np.log(inside / q) + (1.0 - inside) * np.log((1.0 - inside) / (1.0 - q))
    return nats


def _binomial_cdf(n: int, p: float) -> Floats:
    k = np.arange(n + 1)
    log_factorial = np.array([lgamma(i + 1.0) for i in range(n + 1)])
    log_mass = log_factorial[n] - log_factorial - log_factorial[::-1] + k * log(p) + (n - k) * log(1.0 - p)
    cdf: Floats = np.minimum(np.exp(log_mass).cumsum(), 1.0)
    return cdf


# ---- experiments ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Misses:
    """How one method fared on one target. Rates are over repetitions; shares and qualities are means over them.

    `held_out_missed` and `population_missed` are to be held against `stated`; `strong_share` and `quality` (kept, of
    the baseline's) were realised on held-out stems. `worst` is the lowest quality there.
    """

    method: str
    target: float
    stated: float
    held_out_missed: float
    population_missed: float
    strong_share: float
    quality: float
    worst: float


def misses(
    data: Judged,
    target: float,
    method: str,
    *,
    rng: np.random.Generator,
    delta: float = DELTA,
    repeats: int = REPEATS,
    calibration: int | None = None,
) -> Misses:
    """Both experiments; `calibration` stems calibrate, half unless said. ValueError where none is left to realise."""
    size = data.stems // 2 if calibration is None else calibration
    if not 0 < size < data.stems:
        raise ValueError(f"some of {data.stems} stems must calibrate and some must be left, not {size}")
    chooses = METHODS[method]
    kept, share = np.empty(repeats), np.empty(repeats)
    population = np.empty(repeats)
    for repeat in range(repeats):
        order = rng.permutation(data.stems)
        chosen = chooses(subset(data, order[:size]), target, delta)
        held_out = subset(data, order[size:])
        kept[repeat], share[repeat] = held_out.quality()[chosen], 1.0 - held_out.small_share()[chosen]
        drawn = subset(data, rng.integers(data.stems, size=size))
        population[repeat] = data.quality()[chooses(drawn, target, delta)]
    return Misses(
        method=method,
        target=target,
        stated=delta,
        held_out_missed=float(np.mean(kept < target)),
        population_missed=float(np.mean(population < target)),
        strong_share=float(share.mean()),
        quality=float(kept.mean()),
        worst=float(kept.min()),
    )


def across(sources: Mapping[str, Judged], target: float, delta: float = DELTA) -> dict[tuple[str, str], float]:
    """The quality kept on the second source by the threshold calibrated on the first: what no method promises."""
    chosen = {name: choose(data, target, delta) for name, data in sources.items()}
    return {
        (one, other): float(data.quality()[chosen[one]])
        for one in sources
        for other, data in sources.items()
        if other != one
    }


def subset(data: Judged, stems: NDArray[np.int64]) -> Judged:
    """The rows of these stems, numbered anew; a stem named twice counts twice."""
    first = np.searchsorted(data.stem, np.arange(data.stems + 1))
    counts = (first[1:] - first[:-1])[stems]
    ends = counts.cumsum()
    rows = np.repeat(first[:-1][stems] - (ends - counts), counts) + np.arange(ends[-1])
    stem = np.repeat(np.arange(len(stems)), counts)
    return Judged(data.step[rows], data.gain[rows], data.share[rows], stem, data.strong[stems])


def judged_by(classifier: Classifier, examples: Sequence[Example]) -> Judged:
    """Examples with the classifier's scores."""
    return judged(
        np.array([classifier.classify(as_prompt(example.prompt)).score for example in examples]),
        np.array([example.weak_score for example in examples]),
        np.array([example.strong_score for example in examples]),
        [example.stem for example in examples],
    )


# ---- the command ---------------------------------------------------------------------------------


def table(results: Iterable[Misses]) -> str:
    """Lines for people, in per cent."""
    lines = [
        "target  method              stated  held-out misses  population misses  large-model share  kept   worst",
    ]
    lines += [
        f"{100 * one.target:5.1f}   {one.method:<18} {100 * one.stated:6.1f} {100 * one.held_out_missed:16.1f} "
        f"{100 * one.population_missed:18.1f} {100 * one.strong_share:18.1f} {100 * one.quality:6.1f} "
        f"{100 * one.worst:6.1f}"
        for one in results
    ]
    return "\n".join(lines)


def _usable(examples: Iterable[Example]) -> list[Example]:
    """Without rows whose labels differ from those published, where a file says so."""
    return [example for example in examples if example.extra.get("matches_official", True)]


def main() -> None:
    options = _options()
    sources = _sources(options)
    if options.across:
        for target in options.target:
            print(_across_table(target, across(sources, target, options.delta)), end="\n\n")
        return
    for name, data in sources.items():
        found = _found(options, data)
        if options.json:
            about = {"source": name, "stems": data.stems, "classifier": options.classifier}
            print(json.dumps(about | {"misses": [asdict(one) for one in found]}))
        else:
            print(f"{name}, {data.stems} stems, {options.classifier}\n{table(found)}\n")


def _sources(options: argparse.Namespace) -> dict[str, Judged]:
    """Each pair of models of each file."""
    classifier = registry.create(options.classifier)
    sources = {}
    for path in options.data:
        examples = _usable(read(path, weak_model=options.weak_model, strong_model=options.strong_model))
        for (small, large), rows in by_pair(examples).items():
            sources[f"{path}, {small} -> {large}"] = judged_by(classifier, rows)
    return sources


def _found(options: argparse.Namespace, data: Judged) -> list[Misses]:
    rng = np.random.default_rng(options.seed)
    sizes = {"delta": options.delta, "repeats": options.repeats, "calibration": options.calibration}
    return [misses(data, target, method, rng=rng, **sizes) for target in options.target for method in options.method]


def _across_table(target: float, kept: Mapping[tuple[str, str], float]) -> str:
    missed = sum(quality < target for quality in kept.values())
    lines = [f"{100 * quality:6.1f}  {one}  ->  {other}" for (one, other), quality in kept.items()]
    head = f"target {100 * target:.1f}: missed in {missed} of {len(kept)} pairs of sources; kept, per cent:"
    return "\n".join([head, *lines])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m classifiers.training.resampling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--weak-model")
    parser.add_argument("--strong-model")
    parser.add_argument("--classifier", default="heuristic", choices=sorted(registry.CLASSIFIERS))
    parser.add_argument("--target", nargs="+", type=float, default=SHOWN_TARGETS)
    parser.add_argument("--method", nargs="+", default=["betting", "naive"], choices=list(METHODS))
    parser.add_argument("--delta", type=float, default=DELTA)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--calibration", type=int, metavar="STEMS", help="how many stems calibrate; half unless said")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--across", action="store_true", help="calibrate on each source, realise on the others")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
