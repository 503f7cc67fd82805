"""What is timed: how many prompts, of which lengths, no two alike; never how fast."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.base import Classification, Prompt
from classifiers.heuristic import HeuristicClassifier
from classifiers.training.latency import (
    BUCKETS,
    BYTES_PER_TOKEN,
    CONVERSATION_FROM,
    Latency,
    measure_latency,
    timing_count,
)

TEXTS = ("What is the capital of France?", "法国的首都是哪里？" * 9, "word " * 300, "")
TIMINGS = 3


class Watched(HeuristicClassifier):
    """The rules, remembering what they were asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Prompt] = []

    def classify(self, prompt: Prompt) -> Classification:
        self.asked.append(prompt)
        return super().classify(prompt)


def measured(texts: tuple[str, ...] = TEXTS, seed: int = 0) -> tuple[Watched, tuple[Latency, ...], int]:
    judge, timed = Watched(), [0]

    def count() -> None:
        timed[0] += 1

    found = measure_latency(judge, texts, np.random.default_rng(seed), timings=TIMINGS, timed=count)
    return judge, found, timed[0]


def test_every_timing_is_counted_and_no_warming_up() -> None:
    judge, found, timed = measured()
    assert timed == timing_count(TIMINGS) == TIMINGS * len(BUCKETS)
    assert len(judge.asked) > timed
    assert len(judge.asked) % len(BUCKETS) == 0
    assert [(each.tokens, each.count) for each in found] == [(tokens, TIMINGS) for tokens in BUCKETS]
    assert all(0 < each.p50_ms <= each.p99_ms for each in found)


def test_prompts_are_as_long_as_their_bucket_says() -> None:
    judge, found, _ = measured()
    each_bucket = len(judge.asked) // len(BUCKETS)
    for number, prompt in enumerate(judge.asked):
        latency = found[number // each_bucket]
        size = sum(len(message.text.encode()) for message in prompt.messages)
        assert size == pytest.approx(latency.tokens * BYTES_PER_TOKEN, rel=0.02)
        assert len(prompt.messages) == latency.message_count


def test_the_longest_are_conversations_in_which_the_user_has_the_last_word() -> None:
    judge, found, _ = measured()
    assert [each.message_count for each in found] == [1 if each < CONVERSATION_FROM else 33 for each in BUCKETS]
    roles = [message.role for message in judge.asked[-1].messages]
    assert roles == ["user", "assistant"] * 16 + ["user"]


@pytest.mark.parametrize("texts", [TEXTS, ("the only text, and longer than the shortest bucket " * 9,), ("",)])
def test_no_two_prompts_are_alike(texts: tuple[str, ...]) -> None:
    judge, _, _ = measured(texts)
    assert len({tuple(message.text for message in prompt.messages) for prompt in judge.asked}) == len(judge.asked)


def test_a_seed_gives_the_same_prompts() -> None:
    assert measured(seed=4)[0].asked == measured(seed=4)[0].asked
    assert measured(seed=4)[0].asked != measured(seed=5)[0].asked
