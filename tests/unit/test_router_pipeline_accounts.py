"""What a request came to: usage as reported or counted, cost at the day's price, and a record of it all."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest

from classifiers.base import Classification
from policies.baseline import Baseline
from policies.routing import Choice, RouteDecision
from policies.spend import SpendRecord
from policies.usage import TokenUsage
from router.openai.requests import parse_chat_request
from router.openai.responses import NOTHING_ANSWERED, AnswerFacts
from router.pipeline.accounts import Accepted, Accountant, Outcome
from router.pipeline.cached import pack, unpack
from router.pipeline.dispatch import Attempt
from router.stores.admission import Option
from router.stores.base import Principal
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import BASELINE, TOKENIZER, deployment

COUNTER = TokenCounter(TOKENIZER)
SMALL, LARGE = deployment("small", "simple"), deployment("large", "complex")
CHAIN = tuple(Choice(made, made.prices.prices[0], 7) for made in (SMALL, LARGE))
BODY = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Hello 世界"}]}
INPUT_TOKENS = COUNTER.count_messages(BODY["messages"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def accountant() -> Accountant:
    return Accountant(Baseline(BASELINE, LARGE.prices, TOKENIZER), {TOKENIZER: COUNTER})


def option(name: str, base_nusd: int, nusd_per_token: int, longest: int) -> Option:
    return Option(name, "simple", 0, base_nusd, nusd_per_token, 10, 1, longest, longest)


def accepted(**changes: Any) -> Accepted:
    values: dict[str, Any] = {
        "request_id": "chatcmpl-1",
        "started_s": 100.0,
        "started_at_ms": 1_793_500_000_000,
        "principal": Principal("key-1", "team-1", "application", None, ()),
        "request": parse_chat_request(orjson.dumps(BODY)),
        "classification": Classification(0.1, "simple", ("short",), "words"),
        "tier": "simple",
        "decision": RouteDecision(CHAIN, "simple", (("other", "circuit open"),)),
        "options": (option("small", 10, 1, 70), option("large", 100, 2, 400)),
        "cacheable": True,
        "day": date(2026, 11, 1),
    }
    return Accepted(**{**values, **changes})


def answer(usage: TokenUsage | None, text: str = "Hi there") -> AnswerFacts:
    return AnswerFacts(usage, "small-0613", "stop", text)


def test_reported_usage_is_taken_and_priced(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 5)))
    assert (charge.usage, charge.usage_source, charge.cost_nusd) == (TokenUsage(10, 5), "provider", 20)
    assert (charge.baseline.input_tokens, charge.baseline.output_tokens) == (
        INPUT_TOKENS,
        COUNTER.count_text("Hi there"),
    )
    assert charge.baseline.cost_nusd == INPUT_TOKENS * 30 + COUNTER.count_text("Hi there") * 60


def test_usage_that_is_missing_is_counted(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(None))
    assert charge.usage == TokenUsage(INPUT_TOKENS, COUNTER.count_text("Hi there"))
    assert charge.usage_source == "counted"


def test_no_tokens_reported_is_a_report(accountant: Accountant) -> None:
    assert accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(0, 0))).usage_source == "provider"


def test_the_baseline_itself_would_have_cost_what_it_cost(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[1], answer(TokenUsage(10, 5)))
    assert charge.cost_nusd == charge.baseline.cost_nusd == 600


def test_nothing_that_came_costs_the_input_all_the_same(accountant: Accountant) -> None:
    assert accountant.charge(accepted(), CHAIN[0], NOTHING_ANSWERED).usage == TokenUsage(INPUT_TOKENS, 0)


def test_the_record_of_an_answer(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 5, 4, 2)))
    outcome = Outcome(
        "ok",
        "simple",
        choice=CHAIN[0],
        charge=charge,
        answer=answer(None),
        attempts=(Attempt("small"),),
        first_token_s=100.25,
    )
    record = accountant.record(accepted(), outcome, now_s=101.5, reserved_nusd=80)
    assert (record.duration_ms, record.first_token_ms, record.started_at_ms) == (1_500, 250, 1_793_500_000_000)
    assert (record.deployment, record.provider_name, record.request_model) == ("small", "small-provider", "wire-small")
    assert (record.response_model, record.finish_reasons, record.stream) == ("small-0613", "stop", True)
    assert (record.input_tokens, record.cached_input_tokens, record.reasoning_tokens) == (10, 4, 2)
    assert (record.reserved_nusd, record.price_effective_from, record.attempts) == (80, "2024-01-01", 1)
    assert (record.tier, record.score, record.classifier, record.cache) == ("simple", 0.1, "words", "miss")
    assert (record.baseline_model, record.baseline_cost_nusd) == (BASELINE, charge.baseline.cost_nusd)
    assert orjson.loads(orjson.dumps(record.detail)) == {
        "chain": [["small", 7, 80], ["large", 7, 900]],
        "passed_over": [["other", "circuit open"]],
        "signals": ["short"],
    }
    assert SpendRecord.from_json(orjson.loads(orjson.dumps(record.to_json()))).cost_nusd == record.cost_nusd


def test_the_record_says_which_quality_target_chose(accountant: Accountant) -> None:
    outcome = Outcome("error", "simple", attempts=(), error_code="upstream_unavailable")
    detail = accountant.record(accepted(quality=(0.95, 0.52)), outcome, now_s=100.0).detail
    assert (detail["quality_target"], detail["threshold"]) == (0.95, 0.52)


def test_a_record_says_whose_request_it_was(accountant: Accountant) -> None:
    principal = Principal("key-1", "team-1", "application", None, (), project_id="search")
    asked = accepted(principal=principal, end_user="ada", tags=("batch", "nightly"))
    charge = accountant.charge(asked, CHAIN[1], answer(None))
    records = (
        accountant.record(asked, Outcome("ok", "complex", choice=CHAIN[1], charge=charge), now_s=101.0),
        SpendRecord.from_json(accountant.provisional(replace(asked, decision=RouteDecision(CHAIN[1:], "complex", ())))),
    )
    for record in records:
        assert (record.project_id, record.end_user, record.tags) == ("search", "ada", ",batch,nightly,")
        assert record.deployment_tier == "complex"
    nobody = accountant.record(accepted(), Outcome("error", "simple"), now_s=100.0)
    assert (nobody.project_id, nobody.end_user, nobody.tags, nobody.deployment_tier) == (None, "", "", None)


def test_the_record_of_nothing(accountant: Accountant) -> None:
    outcome = Outcome("error", "simple", attempts=(Attempt("small", "down"),), error_code="upstream_unavailable")
    record = accountant.record(accepted(cacheable=False, classification=None, tier=None), outcome, now_s=100.0)
    assert (record.deployment, record.cost_nusd, record.baseline_cost_nusd) == (None, 0, 0)
    assert (record.usage_source, record.price_effective_from, record.cache) == ("none", None, "off")
    assert (record.score, record.first_token_ms, record.error_code) == (None, None, "upstream_unavailable")
    assert record.detail["attempts"] == [{"deployment": "small", "error": "down"}]


def test_what_is_known_before_dispatch_is_a_record_already(accountant: Accountant) -> None:
    provisional = SpendRecord.from_json(orjson.loads(orjson.dumps(accountant.provisional(accepted()))))
    assert (provisional.status, provisional.request_id, provisional.deployment) == ("abandoned", "chatcmpl-1", "small")
    assert (provisional.cost_nusd, provisional.baseline_cost_nusd, provisional.stream) == (0, 0, True)


def test_a_repeat_costs_nothing_and_forgoes_as_much(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 5)))
    outcome = Outcome("ok", "simple", choice=CHAIN[0], charge=charge, answer=answer(None))
    first = accountant.record(accepted(), outcome, now_s=101.0)
    repeat = accountant.hit_record(accepted(request_id="chatcmpl-2"), unpack(pack(first, b"{}")), now_s=100.1)
    assert (repeat.request_id, repeat.status, repeat.reason, repeat.cache) == ("chatcmpl-2", "ok", "cache", "hit")
    assert (repeat.cost_nusd, repeat.usage_source, repeat.attempts) == (0, "cache", 0)
    assert (repeat.input_tokens, repeat.output_tokens, repeat.deployment) == (10, 5, "small")
    assert repeat.baseline_cost_nusd == first.baseline_cost_nusd > 0
