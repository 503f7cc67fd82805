"""The counterfactual: what the baseline model would have taken, and so charged, for the same request."""

from __future__ import annotations

from dataclasses import dataclass

from policies.answer_lengths import ALL_ALIKE, AnswerLengths
from policies.catalog import PriceSchedule


@dataclass(frozen=True, slots=True)
class Baseline:
    """The model that everything would have gone to.

    `tokenizer` names a tiktoken encoding, None where none is known. `lengths` say how long its answers are beside
    those of others.
    """

    model: str
    prices: PriceSchedule
    tokenizer: str | None = None
    lengths: AnswerLengths = ALL_ALIKE
