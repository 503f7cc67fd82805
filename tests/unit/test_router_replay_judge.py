"""One block judged: what each request would cost where, and why others stay as they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import registry
from classifiers.base import Message, Prompt
from policies.pricing import cost_nusd
from policies.usage import TokenUsage
from router.replay.answers import undated
from router.replay.judge import Judge
from router.replay.plan import Plan
from router.replay.sources import Block, Position
from router.replay.verdicts import Verdicts
from tests.support.logs import NOW_MS, STARTED_S, as_lines, pair, plan_for

EASY, HARD = "Say hello.", "Prove by induction that every tree with n vertices has n - 1 edges, and that it is planar."
DAY = date(2025, 10, 9)


PLAN = plan_for()


@pytest.fixture
def plan() -> Plan:
    return PLAN


@cache
def judge_of(plan_id: int) -> Judge:
    """Reading the prices takes longer than a test."""
    return Judge(_plans[plan_id])


_plans: dict[int, Plan] = {}


def judged(plan: Plan, *records: Any, raw: bytes | None = None) -> Verdicts:
    data = as_lines(records) if raw is None else raw
    _plans[id(plan)] = plan
    return judge_of(id(plan)).judge(Block(Position(), Position(0, len(data), 1), "lines", data))


def test_each_tier_is_priced_by_the_deployment_that_would_answer(plan: Plan) -> None:
    found = judged(plan, pair(HARD, output_tokens=200))
    by_name = {deployment.name: deployment for deployment in plan.candidates}
    usage = TokenUsage(10 + len(HARD) // 4, 200)
    names = [plan.candidates[choice].name for choice in found.choices[0].tolist()]
    assert (names[0], names[2]) == ("local/mistral-7b", "openai/gpt-4")
    small, large = (by_name[names[tier]].prices for tier in (0, 2))
    written = plan.lengths.expected_tokens("gpt-4", small.model, usage.output_tokens)
    expected = [cost_nusd(TokenUsage(usage.input_tokens, written), small.at(DAY)), cost_nusd(usage, large.at(DAY))]
    assert found.cost[0, [0, 2]].tolist() == expected
    assert found.paid.tolist() == found.baseline.tolist() == [expected[1]]


def test_another_models_answer_is_as_long_as_is_estimated(plan: Plan) -> None:
    found = judged(plan, pair(EASY, output_tokens=400), pair(EASY, output_tokens=0))
    small = plan.candidates[0]
    expected = plan.lengths.expected_tokens("gpt-4", small.prices.model, 400)
    assert expected != 400
    amount = expected * small.prices.at(DAY).output_nusd_per_mtok / 1_000_000
    assert found.open_cost[0, 0] == pytest.approx(amount, abs=1)
    assert found.open_cost[1, 0] == 0


def test_the_score_is_the_classifiers_and_the_loss_is_the_small_models(plan: Plan) -> None:
    found = judged(plan, pair(EASY), pair(HARD))
    classifier = registry.create("learned")
    scores = [classifier.classify(Prompt((Message("user", text),))).score for text in (EASY, HARD)]
    assert found.score.tolist() == pytest.approx(scores)
    assert found.loss_ppm[:, 0].tolist() == [round(score * 1_000_000) for score in scores]
    assert found.loss_ppm[:, 2].tolist() == [0, 0]


def test_only_what_another_model_would_write_is_open(plan: Plan) -> None:
    """The log knows how long the answer of its own model is, of whichever version."""
    found = judged(plan, pair(EASY, model="gpt-4-0613", output_tokens=100))
    small, large = found.open_cost[0, 0], found.open_cost[0, 2]
    assert 0 < small < found.cost[0, 0]
    assert large == found.open_baseline[0] == 0


def test_what_the_log_paid_is_taken_at_its_word(plan: Plan) -> None:
    found = judged(plan, pair(EASY, cost=0.25), pair(EASY))
    assert found.paid[0] == 250_000_000
    assert found.counts().priced == 1


def test_rows_without_text_and_requests_that_would_be_refused_stay_as_they_were(plan: Plan) -> None:
    silent = pair(EASY, cost=0.1)
    silent["request"] = {"model": "gpt-4"}
    refused = pair(EASY, cost=0.2)
    refused["request"]["n_predict"] = 9
    pictured = pair(EASY, cost=0.4)
    pictured["request"]["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    found = judged(plan, silent, refused, pictured)
    assert len(found.score) == 0
    assert sorted(found.kept_paid.tolist()) == [100_000_000, 200_000_000, 400_000_000]
    assert (found.counts().without_text, found.counts().unroutable) == (1, 2)


def test_tokens_are_counted_where_the_log_counts_none(plan: Plan) -> None:
    record = pair("one two three")
    del record["response"]["usage"]
    found = judged(plan, record)
    # 3 words and the marks of a message, 4 words and a point; see the OpenAI Cookbook on counting.
    assert found.paid[0] == cost_nusd(TokenUsage(3 + 3 + 1 + 3, 4), plan.baseline.prices.at(DAY))
    assert found.counts().counted == 1


BAD: list[tuple[str, dict[str, Any]]] = [
    ("unknown model", pair(EASY, model="nobody-knows-13b")),
    ("clock in the future", pair(EASY, created_at=NOW_MS // 1_000 + 86_400)),
    ("bad time", pair(EASY, created_at="soon")),
    ("bad cost", pair(EASY, cost=-1)),
    ("negative tokens", pair(EASY, output_tokens=-5)),
    ("implausible tokens", pair(EASY, output_tokens=10**9)),
    ("implausible tokens", pair(EASY, output_tokens=90_000_000)),
    ("missing usage", {**pair(EASY), "response": {"model": "gpt-4", "id": "x"}}),
    ("unknown format", {"hello": "world"}),
]


@pytest.mark.parametrize(("kind", "record"), BAD)
def test_a_bad_row_is_named_by_line_and_stops_nothing(plan: Plan, kind: str, record: dict[str, Any]) -> None:
    found = judged(plan, pair(EASY), record, pair(EASY))
    assert [(bad.line, bad.kind) for bad in found.bad] == [(2, kind)]
    assert len(found.score) == 2


def test_what_nobody_foresaw_is_one_bad_row(plan: Plan) -> None:
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    record = as_lines([pair("DEEP")]).replace(b'"DEEP"', deep)
    odd = pair(EASY)
    odd["request"]["tools"] = [{"type": "function", "function": {"name": 3}}, None, 7]
    found = judged(plan, raw=record + as_lines([odd]) + as_lines([pair(EASY)]))
    assert len(found.score) + len(found.bad) + len(found.kept_paid) == 3
    assert len(found.score) >= 1


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
NAMES = (
    "request response messages model usage spend startTime properties category input type traceId request_body".split()
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), anything), st.sampled_from(["", "request", "response", "usage"]))
def test_no_record_whatsoever_ends_a_replay(record: dict[str, Any], within: str) -> None:
    """Neither at the top of a record nor inside of what is known of it."""
    whole = pair(EASY)
    whole = {**whole, **record} if not within else {**whole, within: {**whole.get(within, {}), **record}}
    found = judged(PLAN, whole, pair(EASY))
    assert len(found.score) + len(found.kept_paid) + len(found.bad) + found.counts().unanswered == 2
    assert len(found.score) >= 1


def test_no_text_leaves_the_judge(plan: Plan) -> None:
    secret = "The password of the bakery is swordfish."
    found = judged(
        plan, pair(secret), {**pair(secret), "created_at": secret}, {secret: secret}, pair(secret, cost=secret)
    )
    assert len(found.bad) == 3
    assert "swordfish" not in repr(found)


def test_names_in_the_log_can_be_said_to_be_others(plan: Plan) -> None:
    known = replace(plan, models={"our-own": "gpt-4"})
    found = judged(known, pair(EASY, model="our-own"), pair(EASY, model="azure/gpt-4"), pair(EASY, model="our-other"))
    assert len(found.score) == 2
    assert [bad.kind for bad in found.bad] == ["unknown model"]


def test_repeats_share_a_digest_unless_the_cache_would_not_keep_them(plan: Plan) -> None:
    hot = pair(EASY)
    hot["request"]["temperature"] = 1.9
    timeless = {k: v for k, v in pair(EASY).items() if k != "created_at"}
    found = judged(plan, pair(EASY, 1), pair(EASY, 2), pair(EASY, user="another"), hot, timeless)
    digests = found.digest.tolist()
    assert digests[0] == digests[1] != 0
    assert digests[2] not in (0, digests[0])
    assert digests[3:] == [0, 0]
    assert found.at_s.tolist()[:2] == [STARTED_S + 60, STARTED_S + 120]


def test_requests_of_a_conversation_are_in_one_group(plan: Plan) -> None:
    later = pair(EASY)
    later["request"]["messages"] += [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Again!"}]
    found = judged(plan, pair(EASY), later, pair(HARD))
    assert found.group[0] == found.group[1] != found.group[2]


def test_batches_are_paid_at_their_own_price(plan: Plan) -> None:
    answer = pair(EASY)["response"]
    line = {"custom_id": "a", "body": pair(EASY)["request"], "response": {"status_code": 200, "body": answer}}
    found = judged(plan, line)
    usage = TokenUsage(answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"])
    assert found.paid[0] == cost_nusd(usage, plan.baseline.prices.at(date(2026, 9, 21)), batch=True)


@pytest.mark.parametrize(("model", "name"), [
    ("gpt-4-0613", "gpt-4"), ("gpt-4o-2024-08-06", "gpt-4o"), ("claude-sonnet-4-20250514", "claude-sonnet-4"),
    ("gpt-4-1106-preview", "gpt-4-1106-preview"), ("mistral-7b", "mistral-7b"),
])  # fmt: skip
def test_versions_of_a_model_are_one_model(model: str, name: str) -> None:
    assert undated(model) == name
