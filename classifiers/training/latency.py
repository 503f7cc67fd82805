"""How long a classification takes, by the length of the prompt, in this process and warm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from classifiers.base import Classifier, Message, Prompt

BUCKETS = (50, 200, 1_000, 4_000, 32_000)
"""Lengths in tokens, about: four bytes of UTF-8 a token, English and Chinese alike."""
BYTES_PER_TOKEN = 4
CONVERSATION_FROM = 32_000
"""From this length on the prompt is a conversation, not one message: nobody writes that much at once."""
MESSAGE_TOKENS = 1_000
TIMINGS = 300
_WARM_UP = 20
_DRAWN_AT_ONCE = 32  # one at a time, short texts make a long prompt slower to put together than to judge


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds a classification, over `count` prompts of about `tokens` tokens, no two alike."""

    tokens: int
    message_count: int
    count: int
    p50_ms: float
    p99_ms: float


def measure_latency(
    judge: Classifier,
    texts: Sequence[str],
    rng: np.random.Generator,
    *,
    timings: int = TIMINGS,
    timed: Callable[[], None] = lambda: None,
) -> tuple[Latency, ...]:
    """The latency for each of `BUCKETS`, on prompts put together from `texts`; `timed` is called after each timing."""
    found = []
    for tokens in BUCKETS:
        durations_ns: list[int] = []
        for number, prompt in enumerate(_prompts(texts, tokens, timings + _WARM_UP, rng)):
            started_ns = perf_counter_ns()
            judge.classify(prompt)
            ended_ns = perf_counter_ns()
            if number >= _WARM_UP:
                durations_ns.append(ended_ns - started_ns)
                timed()
        p50, p99 = np.quantile(durations_ns, (0.5, 0.99)) / 1e6
        found.append(Latency(tokens, _message_count(tokens), timings, float(p50), float(p99)))
    return tuple(found)


def timing_count(timings: int = TIMINGS) -> int:
    """How often `measure_latency` will call `timed`."""
    return timings * len(BUCKETS)


def _message_count(tokens: int) -> int:
    # An odd number, so that the user has the last word.
    return 1 if tokens < CONVERSATION_FROM else 2 * (tokens // MESSAGE_TOKENS // 2) + 1


def _prompts(texts: Sequence[str], tokens: int, count: int, rng: np.random.Generator) -> Iterator[Prompt]:
    messages = _message_count(tokens)
    bytes_each = tokens * BYTES_PER_TOKEN // messages
    pieces = [text.encode("utf-8", "replace") + b"\n\n" for text in texts]
    for serial in range(count):
        yield Prompt(
            tuple(
                Message("user" if number % 2 == 0 else "assistant", _text(pieces, bytes_each, rng, f"{serial}\n"))
                for number in range(messages)
            )
        )


def _text(pieces: Sequence[bytes], size: int, rng: np.random.Generator, start: str) -> str:
    """Pieces drawn at random, one after the other, cut at `size` bytes of UTF-8.

    `start` tells one prompt from the next where a file holds few texts, or one that fills the whole length.
    """
    parts = [start.encode()]
    length = len(parts[0])
    while length < size:
        drawn = [pieces[index] for index in rng.integers(len(pieces), size=_DRAWN_AT_ONCE)]
        parts += drawn
        length += sum(map(len, drawn))
    return b"".join(parts)[:size].decode("utf-8", "ignore")
