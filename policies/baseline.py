"""The counterfactual: what the baseline model would have charged for the same request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from classifiers.records import record
from policies.catalog import PriceSchedule
from policies.pricing import cost_nusd
from policies.usage import TokenUsage

Basis = Literal["counted", "estimated", "reported", "no answer"]
"""Where the tokens come from: request and answer counted with the baseline's own tokenizer; an estimate, for
want of that tokenizer; the provider's report, in the tokens of the model that answered. Or there was no
answer, and so nothing forgone."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The model that everything would have gone to. `tokenizer` names a tiktoken encoding, None where none is known."""

    model: str
    prices: PriceSchedule
    tokenizer: str | None = None


@record()
class Counterfactual:
    """What the baseline would have charged, and on what basis that is thought.

    It supposes that the baseline's answer would have been as long as the one that was given.
    """

    input_tokens: int
    output_tokens: int
    cost_nusd: int
    basis: Basis


def counterfactual(
    baseline: Baseline, input_tokens: int, output_tokens: int, day: date, basis: Basis | None = None
) -> Counterfactual:
    """So many tokens at the baseline's list price of `day`, without a discount for cached input.

    Without a `basis` they are taken as counted, or as estimated where the baseline has no tokenizer.
    Raises ValueError for negative counts.
    """
    usage = TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens)
    return Counterfactual(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_nusd=cost_nusd(usage, baseline.prices.at(day)),
        basis=basis or ("counted" if baseline.tokenizer else "estimated"),
    )
