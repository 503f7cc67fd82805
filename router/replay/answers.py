"""How long another model's answer would have been: what a log cannot know, behind one function."""

from __future__ import annotations

LENGTH_SPREAD = 0.2
"""Standard deviation of the logarithm of the ratio of two models' mean answer lengths. Measured on 603 prompts that
four models answered (GPT-4, Mistral-medium, Mixtral-8x7B, Mistral-7B): 0.199 over their pairs, at most 0.322."""
LENGTH_BASIS = (
    "another model's answers are taken to be as long, on average, as those in the log; the interval lets "
    "the ratio vary by 20 % (one standard deviation)"
)


def answer_tokens_of(small_model: str, baseline_model: str, output_tokens: int) -> int:
    """What `small_model` would have written where `baseline_model` wrote `output_tokens`. Either may be any model."""
    return output_tokens
