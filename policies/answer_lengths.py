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
from zlib import crc32

VERSION = "log-1"

KNEE_TOKENS = 150
"""By hand, between 100 and 200, where recorded answers of four models to 603 prompts hardly care."""
_TYPICAL = 0.87
"""The mean of the logarithm over answers of usual spread, as a share of the logarithm at their mean length. By hand:
what it is of a lognormal distribution whose logarithm has a standard deviation of 0.85."""


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
        known = sorted((name, length.mean_tokens) for name, length in self._models.items())
        self.version = f"{VERSION}.{crc32(repr((known, usual.mean_tokens)).encode()):08x}"
        """Of the formula and of the lengths: what was estimated by the same version can be reckoned anew."""

    def __repr__(self) -> str:
        return f"AnswerLengths({self.version})"

    def of(self, model: str) -> AnswerLength:
        return self._models.get(model, self._usual)

    def expected_tokens(
        self, small: str, baseline: str, written_tokens: int, *, limit: int | None = None, choices: int = 1
    ) -> int:
        """What `baseline` would have written where `small` wrote `written_tokens` in so many choices, all of them
        together having at most `limit`."""
        scale = self._scales.get((small, baseline)) or self._scale(small, baseline)
        expected = round(choices * scale * log1p(written_tokens / (KNEE_TOKENS * choices)))
        return expected if limit is None else min(expected, limit)

    def _scale(self, small: str, baseline: str) -> float:
        a, b = self.of(small).mean_tokens, self.of(baseline).mean_tokens
        scale = self._scales[small, baseline] = b / (_TYPICAL * log1p(a / KNEE_TOKENS))
        return scale


ALL_ALIKE = AnswerLengths({}, AnswerLength("", mean_tokens=320.0, rambles=True))
"""Where nothing is known of any model."""
