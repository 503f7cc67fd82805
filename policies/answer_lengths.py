"""How long another model's answer would have been: what the counterfactual supposes before anything is measured.

The longer an answer is, the less does its length say about the length of another model's: short answers are short
because of the question (one word, one number), long ones for the model's own manner. So a prediction grows in
proportion to short answers and with the logarithm of long ones,

    tokens(b) = scale(a, b) * log(1 + tokens(a) / KNEE_TOKENS),

with a scale for which a typical answer of a becomes a typical answer of b. On recorded answers this says three times as
much of a single request as the plain ratio of lengths; `parsimony baseline evaluate` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log1p

VERSION = "log-1"

KNEE_TOKENS = 150
"""By hand, between 100 and 200, where recorded answers of four models to 603 prompts hardly care."""
_TYPICAL = 0.87
"""The mean of the logarithm over answers of usual spread, as a share of the logarithm at their mean length. By hand:
what it is of a lognormal distribution whose logarithm has a standard deviation of 0.9."""


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """A model's mean answer to open questions, in tokens, and whether some of its answers go on until they are cut off.

    `model` is the name that configs/prices.yaml has for it.
    """

    model: str
    mean_tokens: float
    rambles: bool


class AnswerLengths:
    """By model, as configs/prices.yaml names it, or as recordings do; one that is not known answers like `usual`."""

    def __init__(self, models: Mapping[str, AnswerLength], usual: AnswerLength) -> None:
        self._models = dict(models)
        self._usual = usual
        self._scales: dict[tuple[str, str], float] = {}

    def knows(self, model: str) -> bool:
        return model in self._models

    def of(self, model: str) -> AnswerLength:
        return self._models.get(model, self._usual)

    def expected_tokens(
        self, small: str, baseline: str, written_tokens: int, *, limit: int | None = None, choices: int = 1
    ) -> int:
        """What `baseline` would have written where `small` wrote `written_tokens` in so many choices, each of at most
        `limit` tokens."""
        scale = self._scales.get((small, baseline)) or self._scale(small, baseline)
        each = scale * log1p(written_tokens / (KNEE_TOKENS * choices))
        return round(choices * (each if limit is None else min(each, limit)))

    def _scale(self, small: str, baseline: str) -> float:
        a, b = self.of(small).mean_tokens, self.of(baseline).mean_tokens
        scale = self._scales[small, baseline] = b / (_TYPICAL * log1p(a / KNEE_TOKENS))
        return scale
