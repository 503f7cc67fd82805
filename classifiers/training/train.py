"""`make train`: the licence-clean outcomes in, `classifiers/artifacts` out. Seeded; a few minutes on two cores.

Besides the model that ships, two kinds of model are trained and thrown away, since only they tell the truth. One for
each source left out says what the model is worth on requests unlike any it saw. One for each fold of stems left out
gives every prompt a score by a model that did not see it: for the curve from gain to probability, and for the
thresholds of the quality targets.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from classifiers.artifact import SHIPPED, Artifact, save
from classifiers.learned import encoder_of
from classifiers.quality import MANIFEST_KEY
from classifiers.training import datasets
from classifiers.training.corpus import Corpus, corpus
from classifiers.training.datasets import DatasetError, Example
from classifiers.training.lengths import train as train_lengths
from classifiers.training.metrics import apgr, quality_curve
from classifiers.training.model import (
    FOLDS,
    Arrays,
    encode,
    fit,
    fit_universal,
    fold_of,
    mixed,
    parts,
    settled,
    standardised,
)
from classifiers.training.risk_control import judged, quality_targets_of_each

Floats = NDArray[np.float64]
SEED = 20_261_122
_LEAST_CALIBRATED = 100
# By choice, not by calibration: a request is moderate where the small model is likely to fall short in three of ten,
# complex where in nearly one of two. A quality target takes the place of both.
THRESHOLDS = {"moderate_from": 0.3, "complex_from": 0.45}
SMALL_MODEL = "a model of the sizes in the sources (Mistral-7B, Mixtral, Phi-3, Qwen-7B, InternLM-7B, GPT-3.5)"
BASELINE_MODEL = "a model of the sizes in the sources (GPT-4, GPT-4o, Nemotron-49B and -51B)"


@dataclass(frozen=True, slots=True)
class Source:
    """One file that may go into what ships. `official` keeps only rows whose score is the benchmark's own.

    `many_kinds` says that its prompts are of many kinds, as an organisation's traffic is.
    """

    name: str
    licence: str
    official: bool = False
    many_kinds: bool = False

    def path(self, data: Path) -> Path:
        return data / "routing" / "train" / f"{self.name}.jsonl.gz"

    def read(self, data: Path) -> list[Example]:
        examples = datasets.read(self.path(data))
        return [one for one in examples if one.extra.get("matches_official")] if self.official else examples


SOURCES = (
    Source("mmlupro", "Apache-2.0"),
    Source("llmrouter_14tasks", "MIT", many_kinds=True),
    Source("zeroeval_crux_math", "Apache-2.0"),
    Source("gaokao_zh", "Apache-2.0"),
    Source("lawbench_zh", "Apache-2.0 (task sources vary)", official=True),
)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Every prompt's estimate by a model that saw neither its stem (`out_of_fold`) nor its source (`left_out`).

    `recognised` says of which prompts the first of the two knew the task.
    """

    out_of_fold: Mapping[str, Floats]
    recognised: Mapping[str, NDArray[np.bool_]]
    left_out: Mapping[str, Floats]


def train(data: Path, out: Path, seed: int, step: Callable[[str], None]) -> Artifact:
    """Train, calibrate and write; `step` is told what has been done. Raises DatasetError where a file is missing."""
    missing = [source.path(data).name for source in SOURCES if not source.path(data).is_file()]
    if missing:
        raise DatasetError(f"{SOURCES[0].path(data).parent}: found no {', '.join(missing)}; all of these are needed")
    examples = {source.name: source.read(data) for source in SOURCES}
    corpora = []
    for source in SOURCES:
        corpora.append(corpus(source.name, examples[source.name]))
        step(f"read {source.name}")
    arrays = fit(corpora, seed)
    step("the model")
    left_out = _left_out(corpora, step)
    local_scale, folds = _local_scale(corpora, seed, step)
    arrays = settled(arrays, local_scale)
    unseen = Unseen(*_out_of_fold(corpora, folds, local_scale), left_out)
    arrays["mixture"][1:] = calibrate(corpora, unseen)
    manifest = {
        **_provenance(data, examples, corpora, seed),
        "tasks": arrays.pop("task_names").tolist(),
        "thresholds": THRESHOLDS,
        "metrics": _metrics(corpora, examples, unseen, arrays["mixture"]),
        MANIFEST_KEY: _targets(corpora, examples, unseen, arrays["mixture"]),
    }
    every = [example for rows in examples.values() for example in rows]
    artifact = save(out, manifest, {**arrays, **train_lengths(every, seed)})
    step("calibrated and written")
    return artifact


def step_count() -> int:
    """How often `train` calls `step`."""
    return 2 * len(SOURCES) + FOLDS + 2


def calibrate(corpora: Sequence[Corpus], unseen: Unseen) -> tuple[float, float]:
    """Slope and offset of the logistic curve from gain to probability (Platt 1999), sources counting alike.

    Fitted to estimates by models that had not seen what they judged, of both sorts that requests come in: those whose
    task was recognised, with their stems left out, and those of other tasks, from the sources that mix many kinds left
    out as a whole. A source of one kind says nothing of how kinds compare. Each has its own offset, as their models
    differ; what ships is the mean of these.
    """
    gains, shorts = [], []
    for one, source in zip(corpora, SOURCES, strict=True):
        use = np.ones(len(one), bool) if source.many_kinds else unseen.recognised[one.name]
        estimates = unseen.left_out if source.many_kinds else unseen.out_of_fold
        gains.append(estimates[one.name][use])
        shorts.append(one.short[use])
    counted = [at for at, gain in enumerate(gains) if len(gain) >= _LEAST_CALIBRATED]
    rows, weights, labels = [], [], []
    for column, at in enumerate(counted):
        inputs = np.zeros((len(gains[at]), 1 + len(counted)))
        inputs[:, 0], inputs[:, 1 + column] = gains[at], 1.0
        for label, share in ((1, shorts[at]), (0, 1.0 - shorts[at])):
            rows.append(inputs)
            weights.append(share * 1000.0 / len(share))
            labels.append(np.full(len(share), label))
    curve = LogisticRegression(C=1e6, fit_intercept=False, max_iter=1000)
    curve.fit(np.vstack(rows), np.concatenate(labels), np.concatenate(weights))
    return float(curve.coef_[0, 0]), float(curve.coef_[0, 1:].mean())


def probabilities(gains: Floats, mixture: Floats) -> Floats:
    """The curve of `calibrate` over estimated gains."""
    curve: Floats = 1.0 / (1.0 + np.exp(-(mixture[1] * gains + mixture[2])))
    return curve


def _left_out(corpora: Sequence[Corpus], step: Callable[[str], None]) -> dict[str, Floats]:
    """The universal estimate on each source by a model trained on the others.

    It is left at the prior's scale. Only llmrouter_14tasks holds many kinds of request, and there the gain does grow
    by about as much as estimated (1.05 standard deviations for each); within one kind it grows by less, see `metrics`.
    """
    left_out = {}
    for one in corpora:
        left_out[one.name] = one.products @ fit_universal([other for other in corpora if other is not one])
        step(f"without {one.name}")
    return left_out


def _local_scale(
    corpora: Sequence[Corpus], seed: int, step: Callable[[str], None]
) -> tuple[float, list[tuple[Arrays, dict[str, Floats]]]]:
    """By how much the local estimate understates the gain of stems left out, where it is used; the folds' models."""
    folds, pairs = [], []
    for fold in range(FOLDS):
        arrays = fit([one.only(fold_of(one) != fold) for one in corpora], seed)
        points = {}
        for one in corpora:
            held = one.only(fold_of(one) == fold)
            points[one.name] = encode(encoder_of(arrays), held.texts)
            _, local, near = parts(arrays, held, points[one.name])
            pairs.append((local[near > 0.0], standardised(one)[fold_of(one) == fold][near > 0.0]))
        folds.append((arrays, points))
        step(f"without fold {fold + 1} of {FOLDS}")
    return _slope(pairs), folds


def _slope(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    """The least-squares slope of gains on estimates, both centred by group, groups counting alike."""
    covariance = variance = 0.0
    for estimate, gain in pairs:
        if len(gain) > 1:
            covariance += float(np.mean((estimate - estimate.mean()) * (gain - gain.mean())))
            variance += float(estimate.var())
    return covariance / variance if variance > 0.0 else 0.0


def _out_of_fold(
    corpora: Sequence[Corpus], folds: Sequence[tuple[Arrays, dict[str, Floats]]], local_scale: float
) -> tuple[dict[str, Floats], dict[str, NDArray[np.bool_]]]:
    estimates = {one.name: np.zeros(len(one)) for one in corpora}
    recognised = {one.name: np.zeros(len(one), bool) for one in corpora}
    for fold, (arrays, points) in enumerate(folds):
        ready = settled(arrays, local_scale)
        for one in corpora:
            held = fold_of(one) == fold
            estimates[one.name][held] = mixed(ready, one.only(held), points[one.name])
            recognised[one.name][held] = parts(ready, one.only(held), points[one.name])[2] > 0.0
    return estimates, recognised


def _metrics(
    corpora: Sequence[Corpus], examples: Mapping[str, Sequence[Example]], unseen: Unseen, mixture: Floats
) -> dict[str, Any]:
    """What the model is worth where it was not trained; nothing here was measured on dev/ files."""
    found: dict[str, Any] = {}
    for one in corpora:
        shares = probabilities(unseen.out_of_fold[one.name], mixture)
        found[one.name] = {
            "apgr_source_left_out": round(_apgr(examples[one.name], one, unseen.left_out[one.name]), 4),
            "slope_source_left_out": round(_slope([(unseen.left_out[one.name], standardised(one))]), 4),
            "apgr_stems_left_out": round(_apgr(examples[one.name], one, unseen.out_of_fold[one.name]), 4),
            "brier_stems_left_out": round(float(np.mean((shares - one.short) ** 2)), 4),
            "small_model_falls_short": round(float(one.short.mean()), 4),
        }
    return found


def _apgr(examples: Sequence[Example], one: Corpus, estimates: Floats) -> float:
    by_prompt = dict(zip(one.prompts, estimates, strict=True))
    weak, strong = zip(*((example.weak_score, example.strong_score) for example in examples), strict=True)
    return float(apgr(quality_curve([by_prompt[example.prompt] for example in examples], weak, strong)))


def _targets(
    corpora: Sequence[Corpus], examples: Mapping[str, Sequence[Example]], unseen: Unseen, mixture: Floats
) -> dict[str, Any]:
    sources = {}
    for one in corpora:
        scores = dict(zip(one.prompts, probabilities(unseen.out_of_fold[one.name], mixture), strict=True))
        rows = examples[one.name]
        sources[one.name] = judged(
            np.array([scores[row.prompt] for row in rows]),
            np.array([row.weak_score for row in rows]),
            np.array([row.strong_score for row in rows]),
            [row.stem for row in rows],
        )
    return quality_targets_of_each(sources, SMALL_MODEL, BASELINE_MODEL).as_json()


def _provenance(
    data: Path, examples: Mapping[str, Sequence[Example]], corpora: Sequence[Corpus], seed: int
) -> dict[str, Any]:
    return {
        "seed": seed,
        "versions": {"numpy": np.__version__, "python": platform.python_version(), "scikit-learn": sklearn.__version__},
        "sources": [
            {
                "name": source.name,
                "sha256": sha256(source.path(data).read_bytes()).hexdigest(),
                "licence": source.licence,
                "rows": len(examples[source.name]),
                "prompts": len(one),
            }
            for source, one in zip(SOURCES, corpora, strict=True)
        ],
        "set_by_hand": ["classifiers/training/prior.py", "classifiers/length_cues.py", "learned.REQUEST_SIGNALS"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 where the data cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m classifiers.training.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with routing/train/*.jsonl.gz")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("reading", total=step_count())
        try:
            # Sums taken by several threads differ in their last bits with the number of threads.
            with threadpool_limits(1):
                artifact = train(
                    given.data, given.out, given.seed, lambda done: progress.update(bar, advance=1, description=done)
                )
        except (DatasetError, OSError) as error:
            console.print(f"parsimony: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            return 2
    for name, figures in artifact.manifest["metrics"].items():
        console.print(f"{name:20} " + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    console.print(f"{artifact.name} written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
