"""How good is the estimate of the counterfactual? Tried on recorded answers, where the baseline's are known.

A file has one JSON object a line: `id`, `prompt`, and `answers`, the text of each model's answer by the model's name. A
resample draws a share of the prompts, as shadow samples would; the estimator sees the small model's answers to all, and
the baseline's to those alone. What it says of all is then compared with what they really cost.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from classifiers.base import Classifier, Message, Prompt
from policies.answer_lengths import AnswerLengths
from policies.catalog import Price
from policies.pricing import cost_of_tokens_nusd
from policies.sampling import Estimate, Stratum, StratumEstimate, estimate, plain_ratio
from router.errors import InvalidRequest
from router.tokenizers import TokenCounter

LEAST = 3
"""Samples: fewer have no spread."""
_GZIP_MAGIC = b"\x1f\x8b"


class RecordedError(InvalidRequest):
    """The recording cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One prompt as both models answered it. Tokens are the baseline's, amounts at its price."""

    task: str
    booked_nusd: int
    repriced_nusd: int
    """The small model's own tokens at the baseline's price: what others take for the counterfactual."""
    written_tokens: int
    actual_nusd: int


@dataclass(frozen=True, slots=True)
class Score:
    """Over resamples: the mean error and its standard deviation, how often the interval held the truth, and how wide it
    was on average; all but the coverage as shares of the truth."""

    bias: float
    sd: float
    coverage: float
    mean_relative_width: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    small: str
    baseline: str
    prompt_count: int
    left_out: Counter[str]
    sample_count: int
    resample_count: int
    truth_nusd: int
    booked_bias: float
    """Of the estimate before any sample."""
    repriced_bias: float
    ours: Score
    ratio: Score


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models by their names in the recording, with what is needed to reckon the baseline's cost."""

    small: str
    baseline: str
    price: Price
    counter: TokenCounter
    lengths: AnswerLengths
    classifier: Classifier


def read_recorded(path: Path, pair: Pair) -> tuple[list[Recorded], Counter[str]]:
    """The prompts that both models answered, and how many were left out, by why. Raises RecordedError."""
    if pair.small == pair.baseline:
        raise RecordedError(f"{pair.small!r} cannot be compared with itself: name another model or another baseline")
    found: list[Recorded] = []
    left_out: Counter[str] = Counter()
    models: set[str] = set()
    for line in _lines(path):
        row = _row(line)
        if isinstance(row, str):
            left_out[row] += 1
            continue
        prompt, answers = row
        models |= answers.keys()
        small, baseline = answers.get(pair.small), answers.get(pair.baseline)
        if isinstance(small, str) and isinstance(baseline, str):
            found.append(_recorded(pair, prompt, small, baseline))
        else:
            left_out["lines without an answer of both models"] += 1
    unknown = [model for model in (pair.small, pair.baseline) if model not in models]
    if unknown:
        has = ", ".join(sorted(models)) or "none"
        raise RecordedError(f"{path}: holds no answer of {' or '.join(map(repr, unknown))}; it has those of: {has}")
    return found, left_out


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if packed else path.open("rb") as lines:
            for line in lines:
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise RecordedError(f"{path}: cannot be read: {error}") from error


def _row(line: bytes) -> tuple[str, dict[str, Any]] | str:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "lines that are no JSON"
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not isinstance(row.get("answers"), dict):
        return "lines without a prompt and answers"
    return row["prompt"], row["answers"]


def _recorded(pair: Pair, prompt: str, small_text: str, baseline_text: str) -> Recorded:
    input_tokens = pair.counter.count_messages([{"role": "user", "content": prompt}])
    written, truth = pair.counter.count_text(small_text), pair.counter.count_text(baseline_text)
    expected = pair.lengths.expected_tokens(pair.small, pair.baseline, written)
    classification = pair.classifier.classify(Prompt((Message("user", prompt),)))
    booked, repriced, actual = (
        cost_of_tokens_nusd(input_tokens, tokens, pair.price) for tokens in (expected, written, truth)
    )
    return Recorded(classification.task or "", booked, repriced, written, actual)


def evaluate(
    pair: Pair,
    rows: Sequence[Recorded],
    left_out: Counter[str],
    *,
    share: float,
    resamples: int,
    seed: int = 0,
    on_resample: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Both estimators on the same resamples, each of `share` of the prompts.

    Raises RecordedError for too few, and for a baseline that costs nothing.
    """
    size = round(share * len(rows)) if isfinite(share) else 0
    if size < LEAST or size >= len(rows):
        raise RecordedError(
            f"a share of {share:g} of {len(rows)} prompts is a sample of {size}; it must have {LEAST} at least, "
            "and leave some to be estimated"
        )
    rng = np.random.default_rng(seed)
    truth = sum(row.actual_nusd for row in rows)
    if not truth:
        raise RecordedError(f"the answers of {pair.baseline!r} cost nothing at its price: there is nothing to estimate")
    ours: list[Estimate] = []
    ratios: list[StratumEstimate] = []
    for _ in range(resamples):
        drawn = set(rng.choice(len(rows), size, replace=False).tolist())
        ours.append(estimate(_strata(pair, rows, drawn, size / len(rows))))
        ratios.append(_ratio(rows, drawn))
        on_resample()
    return Evaluation(
        small=pair.small,
        baseline=pair.baseline,
        prompt_count=len(rows),
        left_out=left_out,
        sample_count=size,
        resample_count=resamples,
        truth_nusd=truth,
        booked_bias=sum(row.booked_nusd for row in rows) / truth - 1,
        repriced_bias=sum(row.repriced_nusd for row in rows) / truth - 1,
        ours=_score([(one.total_nusd, one.low_nusd, one.high_nusd) for one in ours], truth),
        ratio=_score([(one.corrected_nusd, one.low_nusd, one.high_nusd) for one in ratios], truth),
    )


def _strata(pair: Pair, rows: Sequence[Recorded], drawn: set[int], share: float) -> list[Stratum]:
    by_task: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_task.setdefault(row.task, []).append(index)
    return [
        Stratum(
            name=task,
            booked_nusd=sum(rows[index].booked_nusd for index in indexes),
            booked_count=len(indexes),
            samples=[(rows[i].booked_nusd, rows[i].actual_nusd, share) for i in indexes if i in drawn],
            rambles=pair.lengths.of(pair.baseline).rambles,
        )
        for task, indexes in by_task.items()
    ]


def _ratio(rows: Sequence[Recorded], drawn: set[int]) -> StratumEstimate:
    """The rival is given the cost at the small model's length, and so the exact cost of the input."""
    lengths = [(rows[index].repriced_nusd, rows[index].actual_nusd) for index in sorted(drawn)]
    return plain_ratio(lengths, sum(row.repriced_nusd for row in rows), len(rows))


def _score(found: Sequence[tuple[int, int, int]], truth: int) -> Score:
    totals, lows, highs = np.array(found, dtype=float).T / truth
    return Score(
        bias=float(totals.mean() - 1),
        sd=float(totals.std()),
        coverage=float(((lows <= 1) & (highs >= 1)).mean()),
        mean_relative_width=float((highs - lows).mean()),
    )


def evaluation_as_json(found: Evaluation) -> dict[str, Any]:
    def score(one: Score) -> dict[str, float]:
        return {
            "bias": one.bias,
            "sd": one.sd,
            "coverage": one.coverage,
            "mean_relative_width": one.mean_relative_width,
        }

    return {
        "small": found.small,
        "baseline": found.baseline,
        "prompts": found.prompt_count,
        "left_out": dict(found.left_out),
        "sample": found.sample_count,
        "resamples": found.resample_count,
        "truth_nusd": found.truth_nusd,
        **score(found.ours),
        "plain_ratio": score(found.ratio),
        "unsampled": {"bias": found.booked_bias},
        "repriced": {"bias": found.repriced_bias},
    }
