"""`TokenUsage` and its invariants."""

from __future__ import annotations

from classifiers.records import record


@record()
class TokenUsage:
    """Tokens of one call, in OpenTelemetry GenAI's names.

    `input_tokens` includes `cached_input_tokens`, and `output_tokens` includes `reasoning_tokens`,
    as in OpenAI's usage object. Raises ValueError where that cannot be.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.cached_input_tokens <= self.input_tokens:
            raise ValueError(
                f"cached_input_tokens={self.cached_input_tokens} must lie in 0..input_tokens={self.input_tokens}"
            )
        if not 0 <= self.reasoning_tokens <= self.output_tokens:
            raise ValueError(
                f"reasoning_tokens={self.reasoning_tokens} must lie in 0..output_tokens={self.output_tokens}"
            )


NO_USAGE = TokenUsage(0, 0)
