"""A source of outcomes as arrays: its distinct prompts in numbers, and what the large model gained on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classifiers import traits
from classifiers.features import Text, extract_from, listen
from classifiers.training.datasets import Example, as_prompt

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Corpus:
    """One source, a row for each distinct prompt.

    `kinds` (prompts, 5) and `traits` (prompts, 16) come from `classifiers.traits`. `gain` (prompts,) is the large
    model's score less the small one's, the mean of each pair of models taken off it and then averaged over the pairs:
    sources differ in their models and labels, and only what varies within one compares. `short` (prompts,) is the
    share of pairs in which the small model fell short. `labels` name the task, `stems` the question.
    """

    name: str
    prompts: tuple[str, ...]
    texts: tuple[Text, ...]
    kinds: Floats
    traits: Floats
    gain: Floats
    short: Floats
    labels: tuple[str, ...]
    stems: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def products(self) -> Floats:
        """Every trait within every kind, shape (prompts, kinds x traits)."""
        return products(self.kinds, self.traits)

    def only(self, keep: NDArray[np.bool_]) -> Corpus:
        """The rows to keep."""
        rows = np.flatnonzero(keep).tolist()
        return Corpus(
            self.name,
            _at(self.prompts, rows),
            _at(self.texts, rows),
            self.kinds[rows],
            self.traits[rows],
            self.gain[rows],
            self.short[rows],
            _at(self.labels, rows),
            _at(self.stems, rows),
        )


def _at(values: Sequence[T], rows: Sequence[int]) -> tuple[T, ...]:
    return tuple([values[row] for row in rows])


def products(kinds: Floats, values: Floats) -> Floats:
    """Shapes (n, k) and (n, t) -> (n, k x t), kinds outermost, as the classifier multiplies them out."""
    every: Floats = np.einsum("nk,nt->nkt", kinds, values).reshape(len(kinds), -1)
    return every


def corpus(name: str, examples: Sequence[Example]) -> Corpus:
    """The source's examples as arrays, prompts in the order in which they first occur."""
    gains: dict[str, list[float]] = defaultdict(list)
    shorts: dict[str, list[float]] = defaultdict(list)
    first: dict[str, Example] = {}
    means = _mean_gains(examples)
    for example in examples:
        gain = example.strong_score - example.weak_score
        gains[example.prompt].append(gain - means[example.pair])
        shorts[example.prompt].append(float(gain > 0))
        first.setdefault(example.prompt, example)
    texts, measured = [], []
    for prompt in first:
        text, one = measure(prompt)
        texts.append(text)
        measured.append(one)
    return Corpus(
        name,
        tuple(first),
        tuple(texts),
        np.array([one.kinds for one in measured]),
        np.array([one.traits for one in measured]),
        np.array([np.mean(values) for values in gains.values()]),
        np.array([np.mean(values) for values in shorts.values()]),
        tuple(f"{name}:{example.subset}" for example in first.values()),
        tuple(example.stem for example in first.values()),
    )


def measure(prompt: str) -> tuple[Text, traits.Traits]:
    """A bare prompt as the classifier reads it."""
    request = as_prompt(prompt)
    heard = listen(request.messages)
    return heard.text, traits.measure(heard.text, extract_from(request, heard))


def _mean_gains(examples: Iterable[Example]) -> dict[tuple[str, str], float]:
    by_pair: dict[tuple[str, str], list[float]] = defaultdict(list)
    for example in examples:
        by_pair[example.pair].append(example.strong_score - example.weak_score)
    return {pair: float(np.mean(gains)) for pair, gains in by_pair.items()}
