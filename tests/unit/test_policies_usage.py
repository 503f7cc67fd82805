"""`TokenUsage` holds only what a provider can have meant."""

from __future__ import annotations

import pytest

from policies.usage import NO_USAGE, TokenUsage, disagree


def test_the_parts_may_be_all_of_the_whole() -> None:
    usage = TokenUsage(input_tokens=3, output_tokens=2, cached_input_tokens=3, reasoning_tokens=2)
    assert (usage.cached_input_tokens, usage.reasoning_tokens) == (3, 2)
    assert TokenUsage(3, 0, 1, cache_write_input_tokens=2).cache_write_input_tokens == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 0, 2), r"cached_input_tokens=2 must lie in 0\.\.input_tokens=1"),
        ((1, 0, -1), r"cached_input_tokens=-1 must lie in 0\.\.input_tokens=1"),
        ((-1, 0), r"cached_input_tokens=0 must lie in 0\.\.input_tokens=-1"),
        ((0, 1, 0, 2), r"reasoning_tokens=2 must lie in 0\.\.output_tokens=1"),
        ((3, 0, 2, 0, 2), r"cache_write_input_tokens=2 must lie in 0\.\.what was not cached of input_tokens=3"),
        ((3, 0, 2, 0, -1), r"cache_write_input_tokens=-1 must lie in"),
        ((0, -1), r"reasoning_tokens=0 must lie in 0\.\.output_tokens=-1"),
    ],
)
def test_what_cannot_be_is_refused(values: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenUsage(*values)


def test_no_usage_is_all_zeros() -> None:
    assert TokenUsage(0, 0, 0, 0) == NO_USAGE


@pytest.mark.parametrize(
    ("reported", "counted", "apart"),
    [
        (TokenUsage(100, 50), TokenUsage(80, 34), False),
        (TokenUsage(100, 50), TokenUsage(79, 50), True),
        (TokenUsage(100, 50), TokenUsage(121, 50), True),
        (TokenUsage(100, 50), TokenUsage(100, 67), True),
        (TokenUsage(100, 0), TokenUsage(100, 17), True),
        (TokenUsage(1_000, 1_000), TokenUsage(1_200, 800), False),
        # Reasoning: hidden, shown, and neither.
        (TokenUsage(100, 1_000, reasoning_tokens=900), TokenUsage(100, 100), False),
        (TokenUsage(100, 1_000, reasoning_tokens=900), TokenUsage(100, 1_000), False),
        (TokenUsage(100, 2_000, reasoning_tokens=900), TokenUsage(100, 100), True),
    ],
)
def test_reports_may_differ_from_a_count_by_a_fifth_or_a_few(
    reported: TokenUsage, counted: TokenUsage, apart: bool
) -> None:
    assert disagree(reported, counted) is apart
