"""Rules as a classifier: named weights over named features, English and Chinese alike."""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from classifiers.base import COMPLEX_FROM, MODERATE_FROM, Classification, Prompt, tier_of
from classifiers.features import Features, extract
from classifiers.lengths import LengthModel

NAME = "heuristic@1"

# The logit of a prompt in which nothing was found: a score of 0.12.
BASE_LOGIT = -2.0
# Smaller contributions to the logit are not worth a reader's time.
_NAMED_FROM = 0.2


class Signal(NamedTuple):
    """One feature's say: it adds `weight` x count / (count + half) to the logit, so no single one decides alone."""

    name: str
    feature: str
    weight: float
    half: float


# Set by hand, so that everyday prompts in both languages fall into the tier a person would give them. Where the
# train/ split of the routing data tells one size from another it was followed: it bears out code and quantities, and
# holds down mathematics and length, since what the large model fails too is no reason to pay for it.
SIGNALS = (
    Signal("proof", "proof", 3.0, 0.3),
    Signal("reasoning asked", "reasoning", 2.3, 0.7),
    Signal("mathematics", "mathematics", 1.6, 2.5),
    Signal("quantities", "quantities", 2.2, 3.5),
    Signal("code", "code", 2.2, 1.6),
    Signal("constraints", "constraints", 1.4, 2.0),
    Signal("several steps", "steps", 1.0, 2.0),
    Signal("explanation asked", "explanation", 1.8, 1.0),
    Signal("long text", "units", 1.3, 150.0),
    Signal("long-form writing", "writing", 0.6, 1.0),
    Signal("format asked", "format", 0.4, 1.0),
    Signal("routine task", "routine", -1.6, 0.25),
    Signal("tools", "tools", 1.0, 2.0),
    Signal("structured output", "structured_output", 0.4, 1.0),
    Signal("images", "images", 0.8, 1.0),
    Signal("long conversation", "earlier_messages", 0.8, 8.0),
    Signal("long answer allowed", "max_output_tokens", 0.4, 4000.0),
)


class HeuristicClassifier:
    """Judges by the table above. Has no state and no file: the fallback when there is no trained model."""

    def __init__(self, moderate_from: float = MODERATE_FROM, complex_from: float = COMPLEX_FROM) -> None:
        if not 0.0 <= moderate_from <= complex_from <= 1.0:
            raise ValueError(f"0 <= moderate_from <= complex_from <= 1 must hold, not {moderate_from}, {complex_from}")
        self.moderate_from = moderate_from
        self.complex_from = complex_from
        self._lengths = LengthModel()

    def classify(self, prompt: Prompt) -> Classification:
        """Score, tier, what moved the score, the answer's length by hand-set cues; never raises, in bounded time."""
        features = extract(prompt)
        contributions = _contributions(features)
        score = _logistic(BASE_LOGIT + sum([amount for amount, _ in contributions]))
        named = [pair for pair in contributions if abs(pair[0]) >= _NAMED_FROM]
        named.sort(key=_size, reverse=True)
        return Classification(
            score,
            tier_of(score, self.moderate_from, self.complex_from),
            tuple([name for _, name in named]),
            NAME,
            output_length=self._lengths.predict(features, prompt),
        )


# Resolved once: where each signal finds its count in the tuple of features.
_TABLE = tuple((Features._fields.index(signal.feature), signal.weight, signal.half, signal.name) for signal in SIGNALS)


def _contributions(features: Features) -> list[tuple[float, str]]:
    return [
        (weight * features[at] / (features[at] + half), name) for at, weight, half, name in _TABLE if features[at] > 0.0
    ]


def _size(contribution: tuple[float, str]) -> float:
    return abs(contribution[0])


def _logistic(logit: float) -> float:
    """Weights are bounded, so is the logit: no overflow can happen here."""
    return 1.0 / (1.0 + exp(-logit))
