"""How long another model's answer would have been: what a log cannot know, behind one function."""

from __future__ import annotations

import re
from functools import lru_cache

from policies.answer_lengths import AnswerLengths

_VERSION = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")
LENGTH_SPREAD = 0.2
"""Standard deviation, in logarithms, of what the estimated lengths of all of a model's answers together are wrong by.
On 603 recorded prompts of four models, over their pairs: 0.04 by published lengths, whose benchmark asks alike, and
0.20 where all answers are taken for equally long. Other traffic knows no more of its own kind than the latter."""
LENGTH_BASIS = (
    "how long another model's answers are is estimated from those in the log and from published lengths; "
    f"the interval lets all of a model's answers be wrong by {LENGTH_SPREAD:.0%} together (one standard deviation)"
)


def answer_tokens_of(
    lengths: AnswerLengths, model: str, logged_model: str, output_tokens: int, choices: int, most: int | None
) -> int:
    """What `model` would have written, in so many choices of at most `most` tokens each, where `logged_model` wrote
    `output_tokens`; models by their names in the price list. At least a token where there was an answer.
    """
    if output_tokens == 0:
        return 0
    expected = max(lengths.expected_tokens(logged_model, model, output_tokens, choices=choices), 1)
    return expected if most is None else min(expected, most * choices)


@lru_cache(maxsize=4_096)
def undated(model: str) -> str:
    """A model's name without its version's date: how long its answers are is no matter of versions."""
    return _VERSION.sub("", model)
