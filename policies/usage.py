"""`TokenUsage` and its invariants."""

from __future__ import annotations

from classifiers.records import record


@record()
class TokenUsage:
    """Tokens of one call, in OpenTelemetry GenAI's names.

    `input_tokens` includes `cached_input_tokens` and `cache_write_input_tokens`, which some providers charge extra for
    putting into their cache, and `output_tokens` includes `reasoning_tokens`, as in OpenAI's usage object. Raises
    ValueError where that cannot be.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_input_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.cached_input_tokens <= self.input_tokens:
            raise ValueError(
                f"cached_input_tokens={self.cached_input_tokens} must lie in 0..input_tokens={self.input_tokens}"
            )
        if not 0 <= self.reasoning_tokens <= self.output_tokens:
            raise ValueError(
                f"reasoning_tokens={self.reasoning_tokens} must lie in 0..output_tokens={self.output_tokens}"
            )
        if not 0 <= self.cache_write_input_tokens <= self.input_tokens - self.cached_input_tokens:
            raise ValueError(
                f"cache_write_input_tokens={self.cache_write_input_tokens} must lie in 0..what was not cached of "
                f"input_tokens={self.input_tokens}"
            )


NO_USAGE = TokenUsage(0, 0)

TOLERATED_TOKENS = 16
"""A chat template adds a few tokens to each message that nobody else sees, and an answer ends in one or two."""
TOLERATED_SHARE = 0.2
"""The text that was generated may be cut into other tokens than the same text encoded; rarely so many."""


def disagree(reported: TokenUsage, counted: TokenUsage) -> bool:
    """Whether a provider's report is beyond what counting the same texts explains.

    Reasoning may or may not have been shown, and so counted.
    """
    shown = reported.output_tokens - reported.reasoning_tokens
    return _beyond(reported.input_tokens, reported.input_tokens, counted.input_tokens) or _beyond(
        shown, reported.output_tokens, counted.output_tokens
    )


def _beyond(least: int, most: int, counted: int) -> bool:
    tolerance = max(TOLERATED_TOKENS, round(most * TOLERATED_SHARE))
    return not least - tolerance <= counted <= most + tolerance
