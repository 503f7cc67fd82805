"""Tokens by the tokenizer that bills them. What reports are believed is in the tests of the accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from policies.baseline import Baseline
from policies.routing import Choice
from policies.usage import TokenUsage
from router.openai.requests import ChatRequest, parse_chat_request
from router.openai.responses import AnswerFacts
from router.pipeline.counting import TokenCounting
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import BASELINE, TOKENIZER, deployment

OTHER = "o200k_base"
COUNTERS: dict[str | None, TokenCounter] = {name: TokenCounter(name) for name in (TOKENIZER, OTHER)}
SMALL = replace(deployment("small", "simple"), tokenizer=OTHER)
COUNTING = TokenCounting(Baseline(BASELINE, deployment("large", "complex").prices, TOKENIZER), COUNTERS)
TEXT = "Die Straßenbahn fährt 你好 世界. " * 9


def request(**changes: Any) -> ChatRequest:
    return parse_chat_request(
        orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": TEXT}]} | changes)
    )


def test_each_side_is_counted_with_its_own_tokenizer() -> None:
    asked = request()
    small, baseline = COUNTING.of_deployment(asked, TEXT, SMALL), COUNTING.of_baseline(asked, TEXT)
    assert small == (COUNTERS[OTHER].count_messages(asked.messages), COUNTERS[OTHER].count_text(TEXT))
    assert baseline == (COUNTERS[TOKENIZER].count_messages(asked.messages), COUNTERS[TOKENIZER].count_text(TEXT))
    assert small != baseline


def test_an_unknown_tokenizer_is_stood_in_for_by_the_baselines() -> None:
    unknown = replace(SMALL, tokenizer=None)
    assert COUNTING.of_deployment(request(), TEXT, unknown) == COUNTING.of_baseline(request(), TEXT)


def test_no_prompt_is_longer_than_the_window_that_took_it() -> None:
    assert COUNTING.input_tokens(request(), replace(SMALL, context_window=20)) == 20


def test_what_was_not_reported_is_counted_up_to_the_longest_that_could_be_billed() -> None:
    choice = Choice(SMALL, SMALL.prices.prices[0], 0)
    usage, source = COUNTING.usage(request(), choice, AnswerFacts(None, None, "stop", TEXT), 5)
    assert (usage, source) == (TokenUsage(COUNTING.input_tokens(request(), SMALL), 5), "counted")
