"""What a request came to: usage as reported or counted, cost at the day's price, and a record of it all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.base import Classification
from policies.answer_lengths import ALL_ALIKE
from policies.baseline import Baseline
from policies.catalog import Price, PriceSchedule
from policies.drivers import drivers
from policies.pricing import cost_of_tokens_nusd, prompt_cache_discount_nusd
from policies.repricing import booked as booked_amounts
from policies.repricing import reckoned
from policies.routing import Choice, RouteDecision
from policies.spend import SpendRecord
from policies.usage import TokenUsage
from router.openai.requests import parse_chat_request
from router.openai.responses import NOTHING_ANSWERED, AnswerFacts
from router.pipeline.accounts import Accountant
from router.pipeline.bounds import options_of
from router.pipeline.cached import pack, unpack
from router.pipeline.counting import CHECKED_EVERY
from router.pipeline.dispatch import Attempt
from router.pipeline.facts import Accepted, Measured, Outcome
from router.stores import redis_janitor
from router.stores.admission import Option
from router.stores.base import Principal
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import BASELINE, TOKENIZER, deployment

COUNTER = TokenCounter(TOKENIZER)
SMALL, LARGE = deployment("small", "simple"), deployment("large", "complex")
CHAIN = tuple(Choice(made, made.prices.prices[0], 7) for made in (SMALL, LARGE))
BODY = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "Hello 世界"}]}
INPUT_TOKENS = COUNTER.count_messages(BODY["messages"])  # type: ignore[arg-type]
HI_THERE_TOKENS = COUNTER.count_text("Hi there")
EXPECTED_TOKENS = ALL_ALIKE.expected_tokens("small", BASELINE, HI_THERE_TOKENS)


MEASURED = TokenUsage(40, 5, 30, cache_write_input_tokens=3)


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
        "decision": RouteDecision(CHAIN, 2, "simple", (("other", "circuit open"),)),
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
    assert (charge.baseline.input_tokens, charge.baseline.output_tokens) == (INPUT_TOKENS, EXPECTED_TOKENS)
    assert (charge.baseline.recounted_output_tokens, charge.baseline.estimator) == (HI_THERE_TOKENS, ALL_ALIKE.version)
    assert charge.baseline.cost_nusd == INPUT_TOKENS * 30 + EXPECTED_TOKENS * 60


def test_the_baselines_answer_is_no_longer_than_the_request_lets_it_be(accountant: Accountant) -> None:
    limit = EXPECTED_TOKENS - 1
    asked = accepted(request=parse_chat_request(orjson.dumps({**BODY, "max_tokens": limit})))
    record = booked(accountant, asked, CHAIN[0], answer(TokenUsage(10, 5)))
    assert (record.baseline_output_tokens, record.detail["baseline_output_limit"]) == (limit, limit)


def test_of_several_choices_each_is_as_long_as_one_alone(accountant: Accountant) -> None:
    asked = accepted(request=parse_chat_request(orjson.dumps({**BODY, "n": 2})))
    record = booked(accountant, asked, CHAIN[0], answer(TokenUsage(10, 5)))
    expected = ALL_ALIKE.expected_tokens("small", BASELINE, HI_THERE_TOKENS, choices=2)
    assert (record.baseline_output_tokens, record.detail["choices"]) == (expected, 2)


def test_an_answer_that_broke_off_would_have_been_as_short_on_the_baseline(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], replace(answer(None), finish_reasons=""))
    assert (charge.baseline.output_tokens, charge.baseline.estimator) == (HI_THERE_TOKENS, None)


def test_usage_that_is_missing_is_counted(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(None))
    assert charge.usage == TokenUsage(INPUT_TOKENS, COUNTER.count_text("Hi there"))
    assert charge.usage_source == "counted"


@pytest.mark.parametrize(
    ("reported", "booked"),
    [
        (TokenUsage(0, 0), TokenUsage(INPUT_TOKENS, HI_THERE_TOKENS)),
        (TokenUsage(0, 5), TokenUsage(INPUT_TOKENS, 5)),
        (TokenUsage(10, 0, 4), TokenUsage(10, HI_THERE_TOKENS, 4)),
    ],
)
def test_a_text_that_took_no_tokens_by_report_is_counted(
    accountant: Accountant, reported: TokenUsage, booked: TokenUsage
) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(reported))
    assert (charge.usage, charge.usage_source) == (booked, "counted")


def test_no_text_may_take_no_tokens(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 0), ""))
    assert (charge.usage, charge.usage_source) == (TokenUsage(10, 0), "provider")


def test_what_was_reported_before_a_stream_broke_off_is_not_the_end(accountant: Accountant) -> None:
    broken = AnswerFacts(TokenUsage(10, 1), "small-0613", "", "Hi there, " * 20)
    charge = accountant.charge(accepted(), CHAIN[0], broken)
    assert charge.usage == TokenUsage(10, COUNTER.count_text("Hi there, " * 20))
    reported_on = replace(broken, usage=TokenUsage(10, 500))
    assert accountant.charge(accepted(), CHAIN[0], reported_on).usage == TokenUsage(10, 500)


def test_our_own_count_is_never_more_than_was_allowed(accountant: Accountant) -> None:
    long = answer(None, "word " * 100)
    assert accountant.charge(accepted(), CHAIN[0], long).usage.output_tokens == 70
    assert accountant.charge(accepted(caps={"small": 9}), CHAIN[0], long).usage.output_tokens == 9
    # What a provider reports it bills, and that is booked.
    assert accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 99))).usage.output_tokens == 99


def test_an_image_that_nobody_counted_is_charged_as_dear_as_it_may_be(accountant: Accountant) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://images.example/1", "detail": "low"}}
    body = {"model": "auto", "messages": [{"role": "user", "content": [image]}]}
    asked = accepted(request=parse_chat_request(orjson.dumps(body)))
    choice = Choice(replace(SMALL, image_tokens=1_445), CHAIN[0].price, 7)
    charge = accountant.charge(
        replace(asked, decision=RouteDecision((choice, CHAIN[1]), 2, "simple", ())), choice, NOTHING_ANSWERED
    )
    assert charge.usage.input_tokens == COUNTER.count_messages(body["messages"], image_tokens=1_445) > 1_445
    assert charge.baseline.input_tokens < 100


# ---- attempts that failed --------------------------------------------------------------------------

FAILED = (Attempt("small", "lost", billed=True), Attempt("small", "500"), Attempt("large", billed=False))


def test_the_prompt_of_an_attempt_that_may_be_billed_is_charged_beside_the_answer(accountant: Accountant) -> None:
    charge = accountant.charge(accepted(), CHAIN[1], answer(TokenUsage(10, 5)), FAILED)
    prompt_cost = INPUT_TOKENS * 1
    assert charge.cost_nusd == 600 + prompt_cost
    assert charge.baseline.cost_nusd == 600
    outcome = Outcome("ok", "fallback", choice=CHAIN[1], charge=charge, answer=answer(None), attempts=FAILED)
    record = accountant.record(accepted(), outcome, now_s=101.0)
    assert (record.input_tokens, record.output_tokens, record.cost_nusd) == (10 + INPUT_TOKENS, 5, 600 + prompt_cost)
    assert record.detail["billed_attempts"] == [["small", INPUT_TOKENS, prompt_cost]]


def test_a_chain_that_failed_is_charged_where_it_was_billed_last(accountant: Accountant) -> None:
    charged = accountant.charge_unanswered(accepted(), (*FAILED, Attempt("large", "lost", billed=True)))
    assert charged is not None
    choice, charge = charged
    assert (choice, charge.cost_nusd) == (CHAIN[1], INPUT_TOKENS * (1 + 30))
    outcome = Outcome("error", "simple", choice=choice, charge=charge, error_code="upstream_timeout")
    record = accountant.record(accepted(), outcome, now_s=101.0)
    assert (record.deployment, record.input_tokens, record.output_tokens) == ("large", 2 * INPUT_TOKENS, 0)
    assert (record.usage_source, record.baseline_cost_nusd) == ("counted", 0)


def test_attempts_that_were_refused_cost_nothing(accountant: Accountant) -> None:
    assert accountant.charge_unanswered(accepted(), FAILED[1:]) is None
    assert accountant.charge(accepted(), CHAIN[0], answer(TokenUsage(10, 5)), FAILED[1:]).cost_nusd == 20


@given(
    messages=st.lists(
        st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=60)}), min_size=1, max_size=3
    ),
    text=st.text(max_size=400),
    tries=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    answered=st.booleans(),
    tokenizer=st.sampled_from([TOKENIZER, None]),
)
@settings(deadline=None, max_examples=50)
def test_nothing_that_we_count_costs_more_than_was_held(
    messages: list[Any], text: str, tries: tuple[int, int], answered: bool, tokenizer: str | None
) -> None:
    accountant = Accountant(Baseline(BASELINE, LARGE.prices, TOKENIZER), {TOKENIZER: COUNTER})
    chain = tuple(replace(choice, deployment=replace(choice.deployment, tokenizer=tokenizer)) for choice in CHAIN)
    request = parse_chat_request(orjson.dumps({"model": "auto", "messages": messages}))
    options = options_of(chain, request, attempts=3)
    asked = accepted(
        request=request, options=options, decision=RouteDecision(chain, 2, "simple", ()), caps={"small": 5}
    )
    failed = [
        Attempt(name, billed=True) for name, count in zip(("small", "large"), tries, strict=True) for _ in range(count)
    ]
    held_nusd = sum(o.base_nusd for o in options) + max(options[0].nusd_per_token * 5, options[1].nusd_per_token * 100)
    held_tokens = sum(o.base_tokens for o in options) + 100
    if answered:
        charge = accountant.charge(asked, chain[1], answer(None, text), failed)
    else:
        charged = accountant.charge_unanswered(asked, failed)
        assert (charged is None) == (not failed)
        if charged is None:
            return
        charge = charged[1]
    assert charge.cost_nusd <= held_nusd
    assert charge.input_tokens + charge.usage.output_tokens <= held_tokens


# ---- what providers report --------------------------------------------------------------------------

STORY = "The quick brown fox jumps over the lazy dog. " * 10
STORY_TOKENS = COUNTER.count_text(STORY)


def reported(
    accountant: Accountant, usage: TokenUsage, choice: Choice = CHAIN[0], body: dict[str, Any] = BODY
) -> TokenUsage | None:
    asked = accepted(request=parse_chat_request(orjson.dumps(body)))
    return accountant.charge(asked, choice, answer(usage, STORY)).counted


def test_a_report_that_our_count_bears_out_is_no_news(accountant: Accountant) -> None:
    assert reported(accountant, TokenUsage(INPUT_TOKENS + 16, STORY_TOKENS - 16)) is None
    assert reported(accountant, TokenUsage(INPUT_TOKENS, STORY_TOKENS + 900, reasoning_tokens=900)) is None


@pytest.mark.parametrize(
    "usage", [TokenUsage(INPUT_TOKENS + 17, STORY_TOKENS), TokenUsage(INPUT_TOKENS, 2 * STORY_TOKENS)]
)
def test_a_report_that_it_does_not_is_booked_and_kept_beside_it(accountant: Accountant, usage: TokenUsage) -> None:
    charge = accountant.charge(accepted(), CHAIN[0], answer(usage, STORY))
    assert (charge.usage, charge.counted) == (usage, TokenUsage(INPUT_TOKENS, STORY_TOKENS))
    outcome = Outcome("ok", "simple", choice=CHAIN[0], charge=charge, answer=answer(usage, STORY))
    assert accountant.record(accepted(), outcome, now_s=101.0).detail["usage_check"] == {
        "reported": [usage.input_tokens, usage.output_tokens],
        "counted": [INPUT_TOKENS, STORY_TOKENS],
    }


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example"}}]}]},
        {"messages": [{"role": "user", "content": "x" * 70_000}]},
    ],
)
def test_what_cannot_be_compared_is_not(accountant: Accountant, more: dict[str, Any]) -> None:
    assert reported(accountant, TokenUsage(10**5, 10**4), body=BODY | more) is None


def test_where_a_count_is_extra_work_a_few_reports_are_checked() -> None:
    wrong = TokenUsage(INPUT_TOKENS, 2 * STORY_TOKENS)
    accountant = Accountant(Baseline(BASELINE, LARGE.prices, TOKENIZER), {TOKENIZER: COUNTER})
    found = [reported(accountant, wrong, CHAIN[1]) is not None for _ in range(2 * CHECKED_EVERY)]
    assert found == ([True] + [False] * (CHECKED_EVERY - 1)) * 2


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
        "baseline_cached_input_tokens": INPUT_TOKENS * 4 // 10,
    }
    assert SpendRecord.from_json(orjson.loads(orjson.dumps(record.to_json()))).cost_nusd == record.cost_nusd


def test_the_record_says_which_quality_target_chose(accountant: Accountant) -> None:
    outcome = Outcome("error", "simple", attempts=(), error_code="upstream_unavailable")
    detail = accountant.record(accepted(quality=(0.95, 0.52)), outcome, now_s=100.0).detail
    assert (detail["quality_target"], detail["threshold"]) == (0.95, 0.52)


def abandoned(accountant: Accountant, asked: Accepted, option: int) -> SpendRecord:
    """As the janitor makes it of a provisional record, once it knows which option was held first."""
    values = orjson.loads(orjson.dumps(accountant.provisional(asked)))
    return SpendRecord.from_json(values | values["options"][option])


def left_behind(accountant: Accountant, asked: Accepted, option: int, nusd: int) -> SpendRecord:
    """What the janitor books for a request that held so much when its process died."""
    record = orjson.dumps(accountant.provisional(asked))
    entry = b"\n".join([b"", b"%d" % (option + 1), b"%d %d" % (nusd, 9), b"[]", record])
    return SpendRecord.from_json(orjson.loads(redis_janitor.abandoned(asked.request_id, entry).record))


def test_a_record_says_whose_request_it_was(accountant: Accountant) -> None:
    principal = Principal("key-1", "team-1", "application", None, (), project_id="search")
    asked = accepted(principal=principal, end_user="ada", tags=("batch", "nightly"))
    charge = accountant.charge(asked, CHAIN[1], answer(None))
    outcome = Outcome("ok", "complex", choice=CHAIN[1], charge=charge)
    records = (accountant.record(asked, outcome, now_s=101.0), abandoned(accountant, asked, 1))
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
    provisional = abandoned(accountant, accepted(), 0)
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


# ---- why it cost what it cost ----------------------------------------------------------------------

CACHED = tuple(
    replace(
        choice,
        price=replace(
            choice.price,
            cached_input_nusd_per_mtok=choice.price.input_nusd_per_mtok // 4,
            cache_write_nusd_per_mtok=choice.price.input_nusd_per_mtok * 2,
        ),
    )
    for choice in CHAIN
)


def caching_accountant() -> Accountant:
    """The baseline's provider grants a discount on cached input, too."""
    prices = PriceSchedule(BASELINE, (CACHED[1].price,))
    return Accountant(Baseline(BASELINE, prices, TOKENIZER), {TOKENIZER: COUNTER})


@dataclass(frozen=True, slots=True)
class ChainPrices:
    """What each deployment of a chain costs; the last is the baseline's."""

    chain: tuple[Choice, ...]

    def served(self, record: SpendRecord) -> Price | None:
        return self.attempted(record, record.deployment or "")

    def attempted(self, record: SpendRecord, deployment: str) -> Price | None:
        return next((choice.price for choice in self.chain if choice.deployment.name == deployment), None)

    def baseline(self, record: SpendRecord) -> Price | None:
        return self.chain[-1].price


def booked(charged: Accountant, asked: Accepted, choice: Choice, reply: AnswerFacts, *failed: Attempt) -> SpendRecord:
    charge = charged.charge(asked, choice, reply, failed)
    outcome = Outcome("ok", asked.decision.reason, choice=choice, charge=charge, answer=reply, attempts=failed)
    return charged.record(asked, outcome, now_s=101.0)


@given(
    text=st.text(max_size=200),
    prompt=st.text(max_size=200),
    input_tokens=st.integers(0, 5_000),
    cached_share=st.fractions(0, 1),
    written_share=st.fractions(0, 1),
    output_tokens=st.integers(0, 5_000),
    answered_by=st.integers(0, 1),
    failed=st.lists(st.sampled_from(["small", "large"]), max_size=3),
    caching=st.tuples(st.booleans(), st.booleans()),
    kind=st.sampled_from(["request", "observed", "shadow", "unanswered", "abandoned", "hit"]),
    reason=st.sampled_from(["simple", "pinned", "budget", "paced", "complex"]),
)
@settings(deadline=None, max_examples=200)
def test_the_drivers_of_every_record_add_up_to_what_was_saved(
    text: str,
    prompt: str,
    input_tokens: int,
    cached_share: Fraction,
    written_share: Fraction,
    output_tokens: int,
    answered_by: int,
    failed: list[str],
    caching: tuple[bool, bool],
    kind: str,
    reason: Any,
) -> None:
    chain = tuple((CACHED if caches else CHAIN)[at] for at, caches in enumerate(caching))
    baseline = Baseline(BASELINE, PriceSchedule(BASELINE, (chain[1].price,)), TOKENIZER)
    accountant = Accountant(baseline, {TOKENIZER: COUNTER})
    body = {"model": "auto", "messages": [{"role": "user", "content": prompt}]}
    asked = accepted(
        request=parse_chat_request(orjson.dumps(body)),
        decision=RouteDecision(chain, 2, reason, ()),
        observed=chain[0] if kind == "observed" else None,
        measures=Measured("chatcmpl-0", 0.05, "small", MEASURED) if kind == "shadow" else None,
    )
    cached_tokens = int(input_tokens * cached_share)
    written_tokens = int((input_tokens - cached_tokens) * written_share)
    usage = TokenUsage(input_tokens, output_tokens, cached_tokens, cache_write_input_tokens=written_tokens)
    attempts = tuple(Attempt(name, "lost", billed=True) for name in failed)
    if kind == "unanswered":
        charged = accountant.charge_unanswered(asked, attempts)
        choice, charge = charged or (None, None)
        record = accountant.record(asked, Outcome("error", reason, choice=choice, charge=charge), now_s=101.0)
        assert set(drivers(record)) <= {"retries"}
    elif kind == "abandoned":
        record = left_behind(accountant, asked, answered_by, nusd=input_tokens)
        assert set(drivers(record)) <= {"abandoned"}
    else:
        record = booked(accountant, asked, chain[answered_by], answer(usage, text), *attempts)
    if kind == "hit":
        record = accountant.hit_record(asked, unpack(pack(record, b"")), now_s=102.0)
        assert set(drivers(record)) <= {"response_cache"}
    if kind == "shadow":
        assert set(drivers(record)) <= {"measuring"}
        billed_tokens = sum(tokens for _, tokens, _ in record.detail.get("billed_attempts", ()))
        price = chain[answered_by].price
        listed = cost_of_tokens_nusd(record.input_tokens - billed_tokens, record.output_tokens, price)
        discounted = listed - prompt_cache_discount_nusd(MEASURED, price)
        assert record.cost_nusd - record.retries_nusd + record.prompt_cache_nusd == discounted
    elif answered_by and kind not in ("hit", "abandoned"):
        assert set(drivers(record)) <= {"retries"}
    assert sum(drivers(record).values()) == record.baseline_cost_nusd - record.cost_nusd
    # Whoever verifies the ledger finds the same amounts by what the record keeps of its tokens.
    assert reckoned(record, ChainPrices(chain)) == booked_amounts(record)


def test_in_plain_cases_each_driver_has_its_sign() -> None:
    accountant, asked = caching_accountant(), accepted(decision=RouteDecision(CACHED, 2, "simple", ()))
    cached_by_both = drivers(booked(accountant, asked, CACHED[0], answer(TokenUsage(100, 5, 50))))
    assert cached_by_both["smaller_model"] > 0
    assert cached_by_both["prompt_cache"] < 0  # the dear baseline's discount would have been the larger
    at_last = drivers(booked(accountant, asked, CACHED[1], answer(TokenUsage(10, 5, 4)), FAILED[0]))
    assert at_last == {"retries": -INPUT_TOKENS}
    plain = accepted(decision=RouteDecision((CACHED[0], CHAIN[1]), 2, "budget", ()))
    only_here = booked(Accountant(Baseline(BASELINE, LARGE.prices, TOKENIZER), {TOKENIZER: COUNTER}), plain, CACHED[0],
                       answer(TokenUsage(100, 5, 80)))  # fmt: skip
    assert drivers(only_here)["prompt_cache"] == 80 * 1 - 80 * 1 // 4 > 0
    assert drivers(only_here)["budget"] > 0


def test_the_baselines_provider_would_have_cached_the_same_part_of_the_prompt() -> None:
    asked = accepted(decision=RouteDecision(CACHED, 2, "simple", ()))
    record = booked(caching_accountant(), asked, CACHED[0], answer(TokenUsage(100, 5, 50)))
    cached_tokens = INPUT_TOKENS // 2
    discount = cached_tokens * 30 * 3 // 4
    assert record.detail["baseline_cached_input_tokens"] == cached_tokens
    assert record.baseline_cost_nusd == -(-(2 * (INPUT_TOKENS * 30 + EXPECTED_TOKENS * 60) - cached_tokens * 45) // 2)
    assert abs(record.prompt_cache_nusd - (50 * 3 // 4 - discount)) <= 2  # each side rounds up once


def test_the_baseline_itself_pays_for_what_it_writes_into_its_cache_and_no_other_is_supposed_to() -> None:
    accountant, asked = caching_accountant(), accepted(decision=RouteDecision(CACHED, 2, "simple", ()))
    reply = answer(TokenUsage(100, 5, cache_write_input_tokens=40))
    known, estimated = (booked(accountant, asked, choice, reply) for choice in reversed(CACHED))
    assert known.cost_nusd == known.baseline_cost_nusd == (100 + 40) * 30 + 5 * 60
    assert known.detail["baseline_cache_write_input_tokens"] == 40
    assert estimated.detail["cache_write_input_tokens"] == 40
    assert estimated.baseline_cost_nusd == INPUT_TOKENS * 30 + EXPECTED_TOKENS * 60
    assert drivers(estimated)["prompt_cache"] == -40
    repeat = accountant.hit_record(asked, unpack(pack(known, b"")), now_s=102.0)
    assert reckoned(repeat, ChainPrices(CACHED)) == booked_amounts(repeat)


def test_the_record_keeps_what_the_counterfactual_rests_on(accountant: Accountant) -> None:
    classification = Classification(0.1, "simple", ("short",), "words", task="chat")
    record = booked(accountant, accepted(classification=classification), CHAIN[0], answer(TokenUsage(10, 5)))
    assert (record.kind, record.parent_id, record.sample_share, record.task) == ("request", None, None, "chat")
    assert (record.baseline_price_effective_from, record.recounted_output_tokens) == ("2024-01-01", HI_THERE_TOKENS)
    nothing = accountant.record(accepted(), Outcome("error", "simple"), now_s=100.0)
    assert (nothing.baseline_price_effective_from, nothing.recounted_output_tokens) == (None, 0)


def test_what_was_only_observed_is_priced_by_the_answer_that_was_given(accountant: Accountant) -> None:
    decision = RouteDecision((CHAIN[1],), 1, "observed", ())
    asked = accepted(decision=decision, options=(option("large", 100, 2, 400),), observed=CHAIN[0])
    record = booked(accountant, asked, CHAIN[1], answer(TokenUsage(10, 5)))
    assert (record.deployment, record.reason, record.observed_deployment) == ("large", "observed", "small")
    assert record.observed_cost_nusd == INPUT_TOKENS * 1 + HI_THERE_TOKENS * 2
    assert drivers(record) == {}
    assert abandoned(accountant, asked, 0).observed_deployment == "small"
