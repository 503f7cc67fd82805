"""Learn the shape of the law of answer lengths, and measure the estimates by pinball loss.

The clean files record how long answers to examinations were, in characters and each source at its own scale: how it
was asked to answer. So the logarithm is taken and each source looked at by itself; what is learned is how its lengths
lean. A ridge on the features of difficulty was tried on what the hand-set weights leave, with only such weights kept
as no dataset disputes: left-out sources got worse by it (code execution by 12 %) or stayed, so weights stay by hand.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifiers.base import OutputLength
from classifiers.features import extract
from classifiers.lengths import MEAN_SHARE, P95_DEVIATIONS, LengthModel, hand_set
from classifiers.training.datasets import Example, as_prompt

Floats = NDArray[np.float64]
Source = tuple[str, str]
"""A dataset and the model that answered."""

_NO_SPREAD = 0.05
SHAPE_BOUNDS = ((0.0, 1.2), (0.5, 1.645))
"""Lowest and highest of what is learned of the shape: up to the log-normal law's."""
FOLDS = 10


def train(examples: Sequence[Example], seed: int) -> dict[str, NDArray[Any]]:
    """The arrays of `LengthModel`, from the lengths recorded as `extra.weak_chars` where examples have them.

    Without any, the hand-set arrays. Nothing in it is random: `seed` is what every part of training takes.
    """
    arrays = hand_set()
    arrays["length_base"][2:] = _shape(_logarithms(examples))
    return arrays


def _logarithms(examples: Sequence[Example]) -> dict[Source, list[float]]:
    by_source: dict[Source, list[float]] = {}
    for example in examples:
        if (chars := int(example.extra.get("weak_chars") or 0)) > 0:
            by_source.setdefault((example.dataset, example.weak_model), []).append(log(chars))
    return by_source


def _shape(by_source: Mapping[Source, list[float]]) -> Floats:
    """How the law of lengths leans: log of mean over median in variances, 95th percentile over median in deviations.

    Of each source by itself, so that no scale comes in; each dataset weighs the same.
    """
    by_dataset: dict[str, list[Floats]] = {}
    for (dataset, _), logarithms in by_source.items():
        if (deviation := float(np.std(logarithms))) > _NO_SPREAD:
            above = np.array(logarithms) - np.median(logarithms)
            leaning = np.log(np.exp(above).mean()) / deviation**2, np.quantile(above, 0.95) / deviation
            by_dataset.setdefault(dataset, []).append(np.array(leaning))
    if not by_dataset:
        return np.array([MEAN_SHARE, P95_DEVIATIONS])
    found = np.mean([np.mean(each, axis=0) for each in by_dataset.values()], axis=0)
    shape: Floats = np.clip(found, *SHAPE_BOUNDS)
    return shape


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt, and how many tokens each model's answer to it had."""

    prompt: str
    output_tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LengthScore:
    """Mean pinball losses, in tokens, of one way to estimate the answers of one model.

    `median` is at 0.5 (half the mean absolute error) of the expected tokens, `p95` at 0.95 of the 95th percentile;
    `covered` is the share of answers within the latter.
    """

    model: str
    method: str
    median: float
    p95: float
    covered: float
    mean_error: float


def read_answers(path: Path, count_tokens: Callable[[str], int]) -> list[Answered]:
    """Recorded answers, one JSON object with `prompt` and `answers` (model to text) a line, gzip."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Answered(row["prompt"], {model: count_tokens(text) for model, text in row["answers"].items()}) for row in rows
    ]


def evaluate(model: LengthModel, rows: Sequence[Answered], buckets: int = 5) -> list[LengthScore]:
    """The model beside the best constant and the best constant of each bucket of prompt length, for each answerer.

    Constants and buckets are fitted to the very rows, which flatters them; "held out" ones to nine tenths of them at a
    time. The model has seen none; "rescaled", it is multiplied by the one factor that suits these rows best.
    """
    estimates = [_estimate(model, row.prompt) for row in rows]
    estimated = np.array([[length.expected_tokens, length.p95_tokens] for length in estimates], dtype=np.float64)
    lengths = np.array([len(row.prompt) for row in rows], dtype=np.float64)
    edges = np.quantile(lengths, np.linspace(0.0, 1.0, buckets + 1)[1:-1])
    scores = []
    for name in sorted({name for row in rows for name in row.output_tokens}):
        has = np.array([name in row.output_tokens for row in rows])
        tokens = np.array([row.output_tokens[name] for row in rows if name in row.output_tokens], dtype=np.float64)
        one, bucket = np.zeros(len(tokens), dtype=np.intp), np.searchsorted(edges, lengths[has])
        methods = {
            "constant": _by_bucket(tokens, one),
            "constant, held out": _held_out(tokens, one),
            "length bucket": _by_bucket(tokens, bucket),
            "bucket, held out": _held_out(tokens, bucket),
            "cues": estimated[has],
            "cues, rescaled": _rescaled(estimated[has], tokens),
        }
        scores += [_score(name, method, tokens, values) for method, values in methods.items()]
    return scores


def table(scores: Sequence[LengthScore]) -> str:
    """The scores as lines of text, one for each."""
    head = f"{'answers of':24s}{'estimate':20s}{'loss .5':>9s}{'loss .95':>10s}{'covered':>9s}{'mean error':>12s}"
    return "\n".join(
        [
            head,
            *[
                f"{s.model:24s}{s.method:20s}{s.median:9.1f}{s.p95:10.1f}{s.covered:9.1%}{s.mean_error:+12.1f}"
                for s in scores
            ],
        ]
    )


def pinball(tokens: Floats, estimates: Floats, quantile: float) -> float:
    """The mean of max(q (y - f), (q - 1) (y - f)); Koenker and Bassett (1978)."""
    short = tokens - estimates
    return float(np.maximum(quantile * short, (quantile - 1.0) * short).mean())


def _estimate(model: LengthModel, text: str) -> OutputLength:
    prompt = as_prompt(text)
    return model.predict(extract(prompt), prompt)


def _by_bucket(tokens: Floats, bucket: NDArray[np.intp]) -> Floats:
    """Each answer's median and 95th percentile within its bucket, (n, 2)."""
    values = np.zeros((len(tokens), 2))
    for at in np.unique(bucket):
        values[bucket == at] = np.quantile(tokens[bucket == at], (0.5, 0.95))
    return values


def _held_out(tokens: Floats, bucket: NDArray[np.intp]) -> Floats:
    """As `_by_bucket`, each tenth of the answers by what the others had; by all others where its bucket has none."""
    values = np.zeros((len(tokens), 2))
    fold = np.arange(len(tokens)) % FOLDS
    for at, (mine, kind) in enumerate(zip(fold, bucket, strict=True)):
        others = tokens[(fold != mine) & (bucket == kind)]
        values[at] = np.quantile(others if len(others) else tokens, (0.5, 0.95))
    return values


def _rescaled(estimates: Floats, tokens: Floats) -> Floats:
    """Each column times the factor of least loss, which is one of the ratios: found on a grid of their quantiles."""
    columns = []
    for column, quantile in zip(estimates.T, (0.5, 0.95), strict=True):
        factors = np.quantile(tokens / column, np.linspace(0.02, 0.99, 98))
        columns.append(column * min(factors, key=lambda factor: pinball(tokens, column * factor, quantile)))
    return np.stack(columns, axis=1)


def _score(name: str, method: str, tokens: Floats, values: Floats) -> LengthScore:
    return LengthScore(
        model=name,
        method=method,
        median=pinball(tokens, values[:, 0], 0.5),
        p95=pinball(tokens, values[:, 1], 0.95),
        covered=float((tokens <= values[:, 1]).mean()),
        mean_error=float((values[:, 0] - tokens).mean()),
    )
