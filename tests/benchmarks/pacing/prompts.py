"""Where the simulated prompts come from: a distribution, or what two real models made of real prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from classifiers.quality import quality_targets_of
from classifiers.registry import create
from classifiers.training.datasets import as_prompt, read, without_contaminated
from router.tokenizers import estimate_tokens

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

QUALITY_TARGET = 0.9
"""Sets the threshold of the recorded prompts, by the table of the shipped classifier."""
RECORDED = ("mmlu", "gsm8k", "mtbench")
"""Files of routing/dev in which the same two models answered."""
TILT = 6.0
"""Harder recorded prompts are drawn with weights exp(TILT * score)."""
MEDIAN_INPUT_TOKENS, SPREAD_OF_INPUT = 300, 0.7


@dataclass(frozen=True, slots=True)
class Drawn:
    """Prompts, an element each: `falls_short` where the small model's answer is worse than the large one's."""

    scores: FloatArray
    falls_short: BoolArray
    input_tokens: IntArray


class Prompts(Protocol):
    """`small` and `large` are names in configs/prices.yaml; scores from `threshold` on go to the large model."""

    name: str
    small: str
    large: str
    threshold: float

    def draw(self, rng: np.random.Generator, harder: BoolArray) -> Drawn:
        """A prompt for each element, from those that are harder on average where `harder` says so."""


class SyntheticPrompts:
    """Beta(1, 3) scores, Beta(2, 3) where harder, that are exactly the probability of falling short."""

    name, small, large, threshold = "synthetic", "gpt-4o-mini", "gpt-4o", 0.1

    def draw(self, rng: np.random.Generator, harder: BoolArray) -> Drawn:
        count = len(harder)
        scores = np.where(harder, rng.beta(2, 3, count), rng.beta(1, 3, count))
        falls_short = rng.random(count) < scores
        input_tokens = rng.lognormal(np.log(MEDIAN_INPUT_TOKENS), SPREAD_OF_INPUT, count).astype(np.int64) + 1
        return Drawn(scores, falls_short, input_tokens)


class RecordedPrompts:
    """What Mixtral and GPT-4-1106 scored on real prompts, and what the shipped classifier says of these unseen."""

    name, small, large = "recorded", "mixtral-8x7b", "gpt-4-1106-preview"

    def __init__(self, data: Path) -> None:
        """`data` is the folder that holds routing/dev. Raises DatasetError."""
        files = [data / "routing" / "dev" / f"{name}.jsonl.gz" for name in RECORDED]
        examples = [example for file in files for example in without_contaminated(read(file))]
        classifier = create("learned")
        targets = quality_targets_of(classifier)
        assert targets is not None, "the shipped classifier carries a table of quality targets"
        self.threshold = targets.threshold_for(QUALITY_TARGET).threshold
        self._scores = np.array([classifier.classify(as_prompt(example.prompt)).score for example in examples])
        self._falls_short = np.array([example.weak_score < example.strong_score for example in examples])
        self._input_tokens = np.array([estimate_tokens(example.prompt) for example in examples])
        weights = np.exp(TILT * self._scores)
        self._harder_share = weights / weights.sum()

    def draw(self, rng: np.random.Generator, harder: BoolArray) -> Drawn:
        count, among = len(harder), len(self._scores)
        chosen = np.where(harder, rng.choice(among, count, p=self._harder_share), rng.integers(0, among, count))
        return Drawn(self._scores[chosen], self._falls_short[chosen], self._input_tokens[chosen])
