"""One request from its body to its record, over providers and stores that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest

from policies.answer_lengths import ALL_ALIKE
from policies.budget import Budget
from router.errors import (
    BudgetExhausted,
    ContextLengthExceeded,
    InvalidApiKey,
    InvalidRequest,
    ModelNotAllowed,
    ModelNotFound,
    RateLimitExceeded,
    StoreUnavailable,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.pipeline.dispatch import RetryPolicy, Timeouts
from tests.support.pipeline_bench import BASELINE, SECRET, PipelineBench
from tests.support.scripted_provider import Hangs, ScriptedProvider, completion, stream_of

NewBench = Callable[..., PipelineBench]
DOWN = UpstreamUnavailable("down")


@pytest.fixture
async def new_bench() -> AsyncIterator[NewBench]:
    """Makes benches, and looks at their books when the test is over."""
    benches: list[PipelineBench] = []

    def make(**options: Any) -> PipelineBench:
        providers = {name: ScriptedProvider(*scripts) for name, scripts in options.pop("providers", {}).items()}
        benches.append(PipelineBench(providers, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.check_books()


# answers


async def test_an_easy_request_goes_to_the_small_model_under_our_id(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask()
    assert (reply.status, reply.ended) == (200, True)
    assert reply.json() == orjson.loads(completion()) | {"id": "chatcmpl-1"}
    assert bench.providers["small"].bodies == [
        {"model": "wire-small", "messages": [{"role": "user", "content": "Hello"}]}
    ]
    told = {name: reply.header(name) for name in ("request-id", "model", "reason", "cache", "score")}
    expected = {"request-id": "chatcmpl-1", "model": "small", "reason": "simple", "cache": "miss", "score": "0.100"}
    assert told == expected


async def test_its_record_says_what_it_cost_and_would_have_cost(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask()
    record = bench.record()
    assert (record["status"], record["usage_source"], record["attempts"]) == ("ok", "provider", 1)
    assert (record["input_tokens"], record["output_tokens"], record["cost_nusd"]) == (10, 2, 14)
    input_tokens = bench.counter.count_messages([{"role": "user", "content": "Hello"}])
    output_tokens = ALL_ALIKE.expected_tokens("small", BASELINE, bench.counter.count_text("Hello."))
    assert record["baseline_cost_nusd"] == input_tokens * 30 + output_tokens * 60
    assert reply.header("cost-usd") == "0.000000014"
    assert (record["team_id"], record["key_id"], record["alias"]) == ("team-1", "key-1", "auto")
    assert (record["deployment"], record["request_model"], record["response_model"]) == (
        "small",
        "wire-small",
        "wire-model-0613",
    )


async def test_a_hard_one_goes_to_the_large_model_whose_tokens_are_the_baselines(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask("a hard question")
    assert (reply.header("model"), reply.header("reason")) == ("large", "complex")
    record = bench.record()
    assert record["cost_nusd"] == record["baseline_cost_nusd"] == 10 * 30 + 2 * 60


async def test_the_classifier_learns_which_team_asks(new_bench: NewBench) -> None:
    bench = new_bench()
    assert (await bench.ask("of team-2")).header("model") == "small"
    assert (await bench.ask("of team-2", secret="pk-other")).header("model") == "large"


async def test_a_pinned_deployment_is_not_judged(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask("a hard question", model="small")
    assert (reply.header("model"), reply.header("reason"), reply.header("score")) == ("small", "pinned", None)
    assert (bench.record()["tier"], bench.record()["score"]) == (None, None)


async def test_a_stream_is_passed_on_and_its_usage_kept_back(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hel", "lo")]})
    reply = await bench.ask(stream=True)
    assert reply.headers[b"content-type"].startswith(b"text/event-stream")
    assert (reply.text(), reply.events()[-1], reply.ended) == ("Hello", "[DONE]", True)
    assert {event["id"] for event in reply.events()[:-1]} == {"chatcmpl-1"}
    assert not any("usage" in event for event in reply.events()[:-1])
    assert bench.providers["small"].bodies[0]["stream_options"] == {"include_usage": True}
    assert (bench.record()["cost_nusd"], bench.record()["stream"], bench.record()["finish_reasons"]) == (
        14,
        True,
        "stop",
    )


async def test_a_stream_whose_client_wants_usage_has_it(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hello")]})
    reply = await bench.ask(stream=True, stream_options={"include_usage": True, "other": 1})
    assert reply.events()[-2]["usage"] == {"prompt_tokens": 10, "completion_tokens": 2}
    assert bench.providers["small"].bodies[0]["stream_options"] == {"include_usage": True, "other": 1}


async def test_an_upstream_that_knows_no_stream_options_is_not_asked_for_usage(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hello")]}, stream_usage=False)
    reply = await bench.ask(stream=True)
    assert "stream_options" not in bench.providers["small"].bodies[0]
    assert reply.events()[-2]["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_where_usage_is_missing_it_is_counted(new_bench: NewBench, stream: bool) -> None:
    bench = new_bench(
        providers={
            "small": [stream_of("你好,", "world", usage=False) if stream else completion("你好,world", usage=None)]
        }
    )
    await bench.ask(stream=stream)
    record = bench.record()
    assert record["usage_source"] == "counted"
    assert record["input_tokens"] == bench.counter.count_messages([{"role": "user", "content": "Hello"}])
    assert record["output_tokens"] == bench.counter.count_text("你好,world")
    assert record["cost_nusd"] == record["input_tokens"] + 2 * record["output_tokens"]


async def test_unknown_fields_pass_both_ways(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask(vendor={"deep": [1, {"a": None}]})
    assert bench.providers["small"].bodies[0]["vendor"] == {"deep": [1, {"a": None}]}
    assert reply.json()["vendor_extension"] == [1, None]


# refused at the door: nothing is asked of anybody


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"secret": "pk-wrong"}, InvalidApiKey),
        ({"messages": []}, InvalidRequest),
        ({"model": "nothing"}, ModelNotFound),
        ({"text": "word " * 40_000}, ContextLengthExceeded),
        ({"tools": [{"type": "function"}]}, InvalidRequest),
    ],
    ids=["key", "body", "model", "context", "capability"],
)
async def test_what_cannot_be_served_is_refused_at_the_door(
    new_bench: NewBench, changes: dict[str, Any], error: type[Exception]
) -> None:
    bench = new_bench()
    with pytest.raises(error):
        await bench.ask(**changes)
    assert (bench.calls, bench.store.asked) == (0, [])


async def test_a_key_reaches_only_its_models(new_bench: NewBench) -> None:
    bench = new_bench(allowed_models=frozenset({"small"}))
    assert (await bench.ask("a hard question")).header("reason") == "degraded"
    with pytest.raises(ModelNotAllowed):
        await bench.ask(model="large")


# the response cache


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_is_answered_from_the_cache(new_bench: NewBench, stream: bool) -> None:
    bench = new_bench(providers={"small": [stream_of("Hel", "lo") if stream else completion()]}, limit_nusd=1_000_000)
    first, second = await bench.ask(stream=stream), await bench.ask(stream=stream, user="somebody else")
    assert bench.calls == 1
    assert second.body == first.body.replace(b"chatcmpl-1", b"chatcmpl-2")
    assert second.headers[b"content-type"] == first.headers[b"content-type"]
    assert (second.header("cache"), second.header("model"), second.header("reason")) == ("hit", "small", "cache")
    assert (second.header("cost-usd"), second.header("request-id")) == ("0.00", "chatcmpl-2")
    one, two = bench.records()
    assert (two["cache"], two["cost_nusd"], two["usage_source"], two["attempts"]) == ("hit", 0, "cache", 0)
    assert two["baseline_cost_nusd"] == one["baseline_cost_nusd"] > 0
    assert bench.spent() == (14, 0)


async def test_a_hit_lasts_as_long_as_it_is_kept(new_bench: NewBench) -> None:
    bench = new_bench()
    await bench.ask()
    bench.hand.now_s += 3_601
    assert (await bench.ask()).header("cache") == "miss"


async def test_no_cache_asks_afresh_and_keeps_the_new_answer(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [completion("old"), completion("new")]})
    await bench.ask()
    fresh = await bench.ask(no_cache=True)
    assert (fresh.json()["choices"][0]["message"]["content"], fresh.header("cache")) == ("new", "miss")
    assert (await bench.ask()).json()["choices"][0]["message"]["content"] == "new"
    assert bench.calls == 2


async def test_no_store_keeps_nothing_and_says_off(new_bench: NewBench) -> None:
    bench = new_bench()
    assert (await bench.ask(no_store=True)).header("cache") == "off"
    assert (await bench.ask()).header("cache") == "miss"
    assert bench.calls == 2


async def test_answers_to_hot_requests_are_not_kept(new_bench: NewBench) -> None:
    bench = new_bench(max_temperature=0.5)
    for _ in range(2):
        assert (await bench.ask(temperature=0.6)).header("cache") == "off"
    assert (await bench.ask(temperature=0.5)).header("cache") == "miss"
    assert (await bench.ask()).header("cache") == "off"  # without one it means 1
    assert bench.store.entries.keys() == {next(iter(bench.store.entries))}


async def test_a_repeat_counts_within_the_team(new_bench: NewBench) -> None:
    bench = new_bench()
    await bench.ask()
    assert (await bench.ask(secret="pk-other")).header("cache") == "miss"


async def test_or_for_everyone_where_configured(new_bench: NewBench) -> None:
    bench = new_bench(per_team=False)
    await bench.ask()
    assert (await bench.ask(secret="pk-other")).header("cache") == "hit"


@pytest.mark.parametrize(
    "scripts",
    [
        [completion(choices=[{"index": 0, "message": {"content": "No."}, "finish_reason": "content_filter"}])],
        [completion("x" * 5_000)],
        [b'{"error":{"message":"200, but not well"}}'],
    ],
    ids=["filtered", "large", "no answer"],
)
async def test_what_is_not_worth_keeping_is_not_kept(new_bench: NewBench, scripts: list[Any]) -> None:
    bench = new_bench(providers={"small": scripts}, max_entry_bytes=2_000)
    await bench.ask()
    assert bench.store.entries == {}


async def test_a_long_stream_is_not_kept(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of(*["word "] * 50)]}, max_entry_bytes=2_000)
    assert (await bench.ask(stream=True)).text() == "word " * 50
    assert bench.store.entries == {}


async def test_an_entry_that_cannot_be_read_is_settled_all_the_same(new_bench: NewBench) -> None:
    bench = new_bench()
    await bench.ask()
    (key,) = bench.store.entries
    bench.store.entries[key] = (b"from another version", float("inf"))
    with pytest.raises(StoreUnavailable, match="an entry that cannot be read"):
        await bench.ask()
    assert (bench.records()[1]["status"], bench.records()[1]["cost_nusd"]) == ("error", 0)


# single flight


async def test_64_at_once_are_one_call(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=10**9)
    replies = await asyncio.gather(*[bench.ask() for _ in range(64)])
    assert bench.calls == 1
    assert sorted(reply.header("cache") or "" for reply in replies) == ["hit"] * 63 + ["miss"]
    assert len({reply.json()["id"] for reply in replies}) == len(bench.records()) == 64
    assert bench.spent() == (14, 0)


async def test_64_streams_at_once_are_one_call(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hel", "lo")]})
    replies = await asyncio.gather(*[bench.ask(stream=True) for _ in range(64)])
    assert (bench.calls, {reply.text() for reply in replies}) == (1, {"Hello"})


async def test_different_requests_do_not_wait_for_each_other(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [Hangs]})
    task, _ = bench.start("hard")
    assert (await bench.ask()).status == 200
    await _cancelled(task)


async def test_a_leader_whose_client_leaves_flies_on_for_those_who_wait(new_bench: NewBench) -> None:
    go_on = asyncio.Event()
    bench = new_bench(providers={"small": [[stream_of("Hel")[0], go_on, *stream_of("lo")]]})
    leader, leaders_reply = bench.start(stream=True)
    await leaders_reply.heard.wait()
    follower, followers_reply = bench.start(stream=True)
    await _settle_down()
    leaders_reply.leave(leader)
    await _settle_down()
    go_on.set()
    await asyncio.gather(leader, follower)
    assert (bench.calls, followers_reply.text(), followers_reply.header("cache")) == (1, "Hello", "hit")
    assert [record["cost_nusd"] for record in bench.records()] == [14, 0]


async def test_without_anyone_waiting_the_call_ends_with_its_client(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[stream_of("Hel")[0], Hangs]]})
    leader, reply = bench.start(stream=True)
    await reply.heard.wait()
    reply.leave(leader)
    await _cancelled(leader)
    assert bench.record()["status"] == "cancelled"


async def test_after_a_leader_that_failed_each_tries_for_itself(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN, completion()], "large": [DOWN]})
    outcomes = await asyncio.gather(*[bench.ask() for _ in range(5)], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(UpstreamUnavailable) == 1
    assert [record["status"] for record in bench.records()].count("ok") == 4
    assert len(bench.providers["small"].bodies) == 5


async def test_a_waiter_that_leaves_disturbs_nobody(new_bench: NewBench) -> None:
    go_on = asyncio.Event()
    bench = new_bench(providers={"small": [[go_on, *stream_of("Hello")]]})
    leader, reply = bench.start(stream=True)
    await _settle_down()
    follower, followers_reply = bench.start(stream=True)
    await _settle_down()
    followers_reply.leave(follower)
    await _cancelled(follower)
    go_on.set()
    await leader
    assert (reply.text(), sorted(record["status"] for record in bench.records())) == ("Hello", ["cancelled", "ok"])


# budgets


async def test_what_is_spent_is_what_it_cost(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=1_000_000)
    await bench.ask()
    assert bench.spent() == (14, 0)
    assert bench.record()["reserved_nusd"] > 14


async def test_an_exhausted_budget_refuses(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=10)
    with pytest.raises(BudgetExhausted, match="monthly budget of team 'team-1' cannot carry this request") as raised:
        await bench.ask()
    assert 0 < (raised.value.retry_after_s or 0) <= 31 * 86_400
    record = bench.record()
    assert (record["status"], record["error_code"], record["reason"]) == ("refused", "insufficient_quota", "refused")
    assert (bench.calls, record["cost_nusd"], record["deployment"]) == (0, 0, None)
    stood = {"unit": "usd", "limit": 10, "spent": 0, "held": 0}
    assert stood.items() <= record["detail"]["refused_by"].items()
    assert record["detail"]["refused_by"]["needed"] > 10


async def test_a_budget_that_carries_only_the_cheaper_one_narrows_the_choice(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=1_000)  # large may cost 6,000 and more, small about 300
    reply = await bench.ask("a hard question")
    assert (reply.header("model"), reply.header("reason")) == ("small", "budget")
    record = bench.record()
    assert (record["reason"], record["tier"]) == ("budget", "complex")
    assert ["large", "the budgets cannot carry it"] in record["detail"]["passed_over"]


@pytest.mark.parametrize(
    ("limit_nusd", "model", "considered"),
    [(1_000_000, "large", ["large", "medium"]), (2_500, "medium", ["medium", "small"]), (900, "small", ["small"])],
    ids=["all of it", "a part of the chain and the next", "the cheapest alone"],
)
async def test_what_budgets_leave_of_a_chain_that_lacks_the_cheapest(
    new_bench: NewBench, limit_nusd: int, model: str, considered: list[str]
) -> None:
    bench = new_bench(limit_nusd=limit_nusd, with_medium=True, max_fallbacks=1)
    assert (await bench.ask("a hard question")).header("model") == model
    record = bench.record()
    assert [name for name, _, _ in record["detail"]["chain"]] == considered
    assert bench.spent() == (record["cost_nusd"], 0)


async def test_an_answer_made_weaker_by_a_budget_is_kept_for_nobody(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=1_000)
    for _ in range(2):
        assert (await bench.ask("a hard question")).header("reason") == "budget"
    assert (bench.calls, bench.store.entries) == (2, {})


async def test_an_answer_of_a_fallback_is_kept_for_nobody(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN]})
    assert (await bench.ask()).header("reason") == "fallback"
    assert bench.store.entries == {}


async def test_a_narrowed_chain_falls_back_to_nothing_it_cannot_pay(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN]}, limit_nusd=1_000)
    with pytest.raises(UpstreamUnavailable):
        await bench.ask()
    assert len(bench.providers["large"].bodies) == 0
    assert bench.spent() == (0, 0)


async def test_many_at_once_never_hold_more_than_the_budget(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=1_000)
    outcomes = await asyncio.gather(*[bench.ask(f"Hello {n}") for n in range(30)], return_exceptions=True)
    refused = sum(isinstance(outcome, BudgetExhausted) for outcome in outcomes)
    assert 0 < refused < 30
    assert bench.spent() == ((30 - refused) * 14, 0)


def team_budget(limit: int, **changes: Any) -> Budget:
    return Budget(id="b1", subject_kind="team", subject_id="team-1", limit=limit, **changes)


async def test_an_answer_is_as_long_as_a_quarter_of_the_budget_pays_for(new_bench: NewBench) -> None:
    # Small costs 1 nano-dollar a token in and 2 out, and would write 8,000 tokens.
    bench = new_bench(budgets=(team_budget(4_000),), max_fallbacks=0, max_output_tokens=8_000)
    reply = await bench.ask()
    held_nusd = bench.record()["reserved_nusd"]
    cap = int(reply.header("max-tokens") or 0)
    assert held_nusd <= 1_000 < held_nusd + 2
    assert 256 < cap < 500
    assert bench.providers["small"].bodies[0]["max_tokens"] == cap
    assert bench.record()["detail"]["max_tokens"] == {"small": cap}
    assert bench.store.entries == {}, "what a budget cut short is kept for nobody"


async def test_a_limit_of_ones_own_is_left_alone_or_refused(new_bench: NewBench) -> None:
    bench = new_bench(budgets=(team_budget(1_000),), max_fallbacks=0)
    reply = await bench.ask(max_tokens=90)
    assert (reply.header("max-tokens"), bench.providers["small"].bodies[0]["max_tokens"]) == (None, 90)
    with pytest.raises(BudgetExhausted, match="lower max_tokens"):
        await bench.ask("Hello again", max_tokens=4_000)


async def test_a_long_prompt_is_counted_where_its_bytes_are_too_much(new_bench: NewBench) -> None:
    text = "a short word " * 40  # 520 bytes, 121 tokens
    bench = new_bench(budgets=(team_budget(500),), max_fallbacks=0)
    assert (await bench.ask(text, max_tokens=5)).status == 200
    assert len(bench.store.asked) == 2
    with pytest.raises(BudgetExhausted):
        await new_bench(budgets=(team_budget(200),), max_fallbacks=0).ask(text, max_tokens=5)


async def test_a_stream_gives_back_what_its_fallbacks_might_have_cost_once_it_begins(new_bench: NewBench) -> None:
    go_on = asyncio.Event()
    bench = new_bench(providers={"small": [[*stream_of("Hello")[:1], go_on.wait, *stream_of("Hello")[1:]]]},
                      limit_nusd=10**6)  # fmt: skip
    task, reply = bench.start(stream=True)
    await reply.heard.wait()
    _, held_nusd = bench.spent()
    go_on.set()
    await task
    assert held_nusd < 1_000 < bench.record()["reserved_nusd"]  # large costs 30 and 60 a token
    bench.check_books()


async def test_a_rate_limit_refuses_at_once_and_answers_say_what_is_left(new_bench: NewBench) -> None:
    bench = new_bench(budgets=(team_budget(2, unit="requests", window="minute"),))
    left = [(await bench.ask(f"Hello {n}")).headers[b"x-ratelimit-remaining-requests"] for n in range(2)]
    assert left == [b"1", b"0"]
    with pytest.raises(RateLimitExceeded) as raised:
        await bench.ask("Hello 2")
    assert 0 < (raised.value.retry_after_s or 0) <= 61
    assert (await bench.ask("Hello 1")).header("cache") == "hit", "a repeat is free"
    bench.hand.now_s += 62
    assert (await bench.ask("Hello 2")).status == 200


async def test_requests_at_once_are_given_back_at_their_end(new_bench: NewBench) -> None:
    bench = new_bench(
        providers={"small": [Hangs, completion()]}, budgets=(team_budget(1, unit="parallel", window="now"),)
    )
    task, reply = bench.start()
    await _settle_down()
    with pytest.raises(RateLimitExceeded, match="1 requests at once"):
        await bench.ask("Another")
    reply.leave(task)
    await _cancelled(task)
    assert (await bench.ask("Another")).status == 200


async def test_a_budget_that_rejects_refuses_repeats_as_well(new_bench: NewBench) -> None:
    for action, cached in (("cache_only", True), ("reject", False)):
        bench = new_bench(budgets=(team_budget(1, unit="requests", action=action),))
        await bench.ask()
        if cached:
            assert (await bench.ask()).header("cache") == "hit"
        else:
            with pytest.raises(BudgetExhausted):
                await bench.ask()


async def test_a_budget_that_turns_to_smaller_models_does_so_at_its_share(new_bench: NewBench) -> None:
    bench = new_bench(budgets=(team_budget(10**6, downgrade_from=Fraction(1, 10_000)),))
    assert (await bench.ask("a hard question")).header("model") == "large"
    assert (await bench.ask("a hard nut")).headers[b"x-parsimony-reason"] == b"budget"
    with pytest.raises(BudgetExhausted, match="only models of tier 'simple'"):
        await bench.ask("a hard nut", model="large")


async def test_a_budget_of_one_model_leaves_the_others_alone(new_bench: NewBench) -> None:
    bench = new_bench(budgets=(team_budget(1, unit="requests", model="large"),))
    assert [(await bench.ask(f"hard {n}")).header("model") for n in range(3)] == ["large", "small", "small"]
    assert bench.spent() == (1, 0)


async def test_a_paced_budget_that_is_ahead_asks_more_of_a_request(new_bench: NewBench) -> None:
    dear = completion("Deep.", usage={"prompt_tokens": 60, "completion_tokens": 90, "total_tokens": 150})
    bench = new_bench(providers={"large": [dear]}, budgets=(team_budget(41_500, paced=True),))
    bench.hand.now_s = datetime(2026, 11, 2, tzinfo=UTC).timestamp()
    # What is hard scores 0.9. The last admission tells what is spent: on the first day, 35 % gone asks a score of
    # 0.83 of a request, and 52 % asks 0.91.
    answers = [await bench.ask(f"a hard question {n}", max_tokens=100) for n in range(5)]
    assert [answer.header("reason") for answer in answers] == [*["complex"] * 4, "paced"]
    assert bench.records()[-1]["detail"]["shadow_price"] > 0.7


async def test_end_user_and_tags_are_booked_where_the_key_is_trusted(new_bench: NewBench) -> None:
    bench = new_bench()
    bench.principals[SECRET] = replace(bench.principals[SECRET], trusted=True, tags=("prod",), project_id="chat")
    task, _ = bench.start("Hello", tags=b"batch", user="anna")
    await task
    record = bench.record()
    assert (record["end_user"], record["tags"], record["project_id"]) == ("anna", ",batch,prod,", "chat")
    assert record["deployment_tier"] == "simple"


async def test_prompts_of_calls_that_may_be_billed_are_booked(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs, completion()]}, timeouts=Timeouts(0.02, 0.02), limit_nusd=10**6,
                      retries=RetryPolicy(2, 0.0, 1.0))  # fmt: skip
    assert (await bench.ask()).header("model") == "small"
    record = bench.record()
    (billed,) = record["detail"]["billed_attempts"]
    assert billed[0] == "small"
    assert record["cost_nusd"] == 14 + billed[2]
    assert bench.spent() == (record["cost_nusd"], 0)


async def test_a_chain_that_failed_is_charged_the_prompts_it_sent(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs]}, timeouts=Timeouts(0.02, 0.02), limit_nusd=1_000)
    with pytest.raises(UpstreamTimeout):
        await bench.ask()
    record = bench.record()
    assert record["status"] == "error"
    assert record["cost_nusd"] > 0
    assert bench.spent() == (record["cost_nusd"], 0)


# failures before the first byte


async def test_where_the_first_choice_is_down_the_next_answers(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN]})
    reply = await bench.ask()
    assert (reply.header("model"), reply.header("reason")) == ("large", "fallback")
    record = bench.record()
    assert (record["reason"], record["attempts"], record["status"]) == ("fallback", 2, "ok")
    assert record["detail"]["attempts"][0]["error"] == "down"


async def test_a_failure_is_tried_again_before_the_next_is_asked(new_bench: NewBench) -> None:
    limited = UpstreamRateLimited("slow down", retry_after_s=0.01)
    bench = new_bench(providers={"small": [limited, completion()]}, retries=RetryPolicy(2, 0.0, 1.0))
    assert (await bench.ask()).header("model") == "small"
    assert bench.record()["attempts"] == 2


async def test_a_retry_after_that_is_too_long_goes_to_the_next_at_once(new_bench: NewBench) -> None:
    limited = UpstreamRateLimited("slow down", retry_after_s=3_600)
    bench = new_bench(providers={"small": [limited]}, retries=RetryPolicy(3, 0.0, 1.0))
    assert (await bench.ask()).header("model") == "large"
    assert len(bench.providers["small"].bodies) == 1


async def test_where_all_fail_the_last_failure_is_told(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN], "large": [UpstreamRateLimited("slow down", retry_after_s=7)]})
    with pytest.raises(UpstreamRateLimited) as raised:
        await bench.ask()
    assert raised.value.retry_after_s == 7
    record = bench.record()
    assert (record["status"], record["error_code"], record["cost_nusd"]) == ("error", "upstream_rate_limited", 0)
    assert [attempt["deployment"] for attempt in record["detail"]["attempts"]] == ["small", "large"]


async def test_a_rejected_request_is_the_callers_and_tried_nowhere_else(new_bench: NewBench) -> None:
    body = b'{"error": {"message": "bad schema", "vendor": 1}}'
    bench = new_bench(providers={"small": [UpstreamRejected("m", status=422, body=body)]}, retries=RetryPolicy(3, 0, 1))
    with pytest.raises(UpstreamRejected) as raised:
        await bench.ask()
    assert (raised.value.status, raised.value.body, bench.calls) == (422, body, 1)
    assert (bench.record()["status"], bench.record()["error_code"]) == ("error", "upstream_rejected")


async def test_an_upstream_that_does_not_begin_is_given_up(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs]}, timeouts=Timeouts(0.02, 0.02))
    assert (await bench.ask()).header("reason") == "fallback"


async def test_a_stream_that_does_not_begin_is_closed_and_given_up(new_bench: NewBench) -> None:
    streams = {"small": [[Hangs]], "large": [stream_of("Deep.")]}
    bench = new_bench(providers=streams, timeouts=Timeouts(0.02, 5.0))
    assert (await bench.ask(stream=True)).text() == "Deep."


async def test_an_empty_stream_is_no_answer(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[]], "large": [stream_of("Deep.")]})
    assert (await bench.ask(stream=True)).header("reason") == "fallback"


NO_COMPLETIONS = [b"<html>", b'{"choices": [{"message"', b"[1, 2]", b'{"error": {"message": "in 200"}}', b"{}", b""]


@pytest.mark.parametrize("body", NO_COMPLETIONS)
async def test_where_an_answer_is_no_completion_the_next_is_asked(new_bench: NewBench, body: bytes) -> None:
    bench = new_bench(providers={"small": [body]})
    assert (await bench.ask()).header("reason") == "fallback"


@pytest.mark.parametrize("body", [b"<html>", b'{"id": "1", "choices": []}', b"\n\nHTTP"])
async def test_where_a_stream_is_none_the_next_is_asked(new_bench: NewBench, body: bytes) -> None:
    bench = new_bench(providers={"small": [[body]], "large": [stream_of("Deep.")]})
    reply = await bench.ask(stream=True)
    assert (reply.header("reason"), reply.text()) == ("fallback", "Deep.")


async def test_where_none_is_a_completion_that_is_the_error(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [b"<html>"], "large": [b"<html>"]})
    with pytest.raises(UpstreamUnavailable, match="no completion"):
        await bench.ask()
    assert (bench.record()["status"], bench.record()["error_code"]) == ("error", "upstream_unavailable")


async def test_a_circuit_opens_is_probed_and_closes(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [DOWN, DOWN, DOWN, completion()]}, failures=2)
    small = bench.providers["small"].bodies
    for n in range(3):
        assert (await bench.ask(f"n{n}")).header("model") == "large"
    assert len(small) == 2  # the third was not sent there any more
    assert bench.records()[2]["detail"]["passed_over"] == [["small", "circuit open"]]
    bench.hand.now_s += 10
    assert (await bench.ask("probe that fails")).header("reason") == "fallback"
    assert (await bench.ask("open again")).header("reason") != "fallback"
    assert len(small) == 3
    bench.hand.now_s += 10
    assert (await bench.ask("probe that succeeds")).header("model") == "small"
    assert (await bench.ask("closed")).header("model") == "small"


async def test_a_half_open_circuit_lets_one_probe_through(new_bench: NewBench) -> None:
    go_on = asyncio.Event()
    scripts = [DOWN, [go_on, *stream_of("Hello")]]
    bench = new_bench(providers={"small": scripts, "large": [stream_of("Deep.")]}, failures=1)
    await bench.ask("n", stream=True)
    bench.hand.now_s += 10
    probe, reply = bench.start("probe", stream=True)
    await _settle_down()
    assert (await bench.ask("meanwhile", stream=True)).header("model") == "large"
    go_on.set()
    await probe
    assert reply.header("model") == "small"


# failures in mid-stream


async def test_a_stream_that_breaks_off_ends_in_an_error_frame(new_bench: NewBench) -> None:
    bench = new_bench(
        providers={"small": [[*stream_of("Hel", "lo")[:2], UpstreamUnavailable("broke off")]]}, limit_nusd=10**6
    )
    reply = await bench.ask(stream=True)
    *chunks, error = reply.events()
    assert (len(chunks), error["error"]["code"], reply.ended) == (2, "upstream_unavailable", True)
    record = bench.record()
    assert (record["status"], record["error_code"], record["usage_source"]) == (
        "error",
        "upstream_unavailable",
        "counted",
    )
    assert record["output_tokens"] == bench.counter.count_text("Hello")
    assert bench.spent() == (record["cost_nusd"], 0)
    assert bench.store.entries == {}


async def test_a_stream_that_just_ends_has_broken_off_too(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hel", usage=False, finish_reason=None, done=False)]})
    assert "error" in (await bench.ask(stream=True)).events()[-1]
    assert bench.record()["status"] == "error"


async def test_a_finished_stream_without_done_gets_one(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hello", done=False)]})
    reply = await bench.ask(stream=True)
    assert (reply.events()[-1], bench.record()["status"]) == ("[DONE]", "ok")
    assert (await bench.ask(stream=True)).body == reply.body.replace(b"chatcmpl-1", b"chatcmpl-2")


async def test_an_error_frame_of_the_provider_is_passed_on_and_not_kept(new_bench: NewBench) -> None:
    frame = b'data: {"error":{"message":"overloaded"}}\n\n'
    bench = new_bench(providers={"small": [[*stream_of("Hel")[:1], frame]]})
    reply = await bench.ask(stream=True)
    assert (reply.events()[-1], reply.ended) == ({"error": {"message": "overloaded"}}, True)
    record = bench.record()
    assert (record["status"], record["error_code"]) == ("error", "upstream_unavailable")
    assert bench.store.entries == {}


async def test_a_stream_that_takes_too_long_is_ended(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[*stream_of("Hel")[:1], Hangs]]}, timeouts=Timeouts(5.0, 0.05))
    reply = await bench.ask(stream=True)
    assert reply.events()[-1]["error"]["code"] == "upstream_timeout"
    assert (bench.record()["status"], bench.record()["error_code"]) == ("error", "upstream_timeout")


async def test_a_whole_answer_that_takes_too_long_is_a_timeout(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs], "large": [Hangs]}, timeouts=Timeouts(5.0, 0.02))
    with pytest.raises(UpstreamTimeout):
        await bench.ask()


# clients that leave


async def test_a_client_that_leaves_in_mid_stream_pays_for_what_came(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[*stream_of("Hel", "lo ", "world")[:2], Hangs]]}, limit_nusd=10**6)
    task, reply = bench.start(stream=True)
    await reply.heard.wait()
    await _settle_down()
    reply.leave(task)
    await _cancelled(task)
    record = bench.record()
    assert (record["status"], record["usage_source"], record["output_tokens"]) == (
        "cancelled",
        "counted",
        bench.counter.count_text("Hello "),
    )
    assert bench.spent() == (record["cost_nusd"], 0)
    assert bench.store.entries == {}


async def test_a_client_that_leaves_before_the_answer_begins_pays_for_its_prompt(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs]}, limit_nusd=10**6)
    task, reply = bench.start()
    await _settle_down()
    assert bench.calls == 1
    reply.leave(task)
    await _cancelled(task)
    record = bench.record()
    assert (record["status"], record["deployment"], record["attempts"]) == ("cancelled", "small", 1)
    assert (record["usage_source"], record["input_tokens"] > 0, record["output_tokens"]) == ("counted", True, 0)
    assert bench.spent() == (record["cost_nusd"], 0)


async def test_a_client_that_leaves_while_the_store_is_asked(new_bench: NewBench) -> None:
    bench = new_bench(limit_nusd=10**6)
    bench.store.held_up = asyncio.Event()
    task, reply = bench.start()
    await _until(lambda: bool(bench.store.asked))
    reply.leave(task)
    await _cancelled(task)
    assert (bench.calls, bench.record()["status"], bench.spent()) == (0, "cancelled", (0, 0))


async def test_a_client_that_closes_after_done_had_its_answer(new_bench: NewBench) -> None:
    """OpenAI's client closes the connection when it has read [DONE], whether or not the end has come."""
    bench = new_bench(providers={"small": [[*stream_of("Hello"), Hangs]]})
    task, reply = bench.start(stream=True)
    await _until(lambda: b"[DONE]" in reply.body)
    await _settle_down()
    reply.leave(task)
    await _cancelled(task)
    assert bench.record()["status"] == "ok"
    assert (await bench.ask(stream=True)).header("cache") == "hit"


async def test_an_upstream_that_never_ends_after_done_is_let_go(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[*stream_of("Hello"), Hangs]]}, timeouts=Timeouts(5.0, 0.05))
    reply = await bench.ask(stream=True)
    assert (reply.events()[-1], bench.record()["status"]) == ("[DONE]", "ok")


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize(
    ("scripts", "stream"),
    [
        ([completion()], False),
        ([DOWN, completion()], False),
        ([stream_of("Hel", "lo")], True),
        ([stream_of("Hel"), stream_of("lo")], True),
    ],
    ids=["whole", "tried again", "stream", "streams"],
)
async def test_leaving_at_any_moment_leaves_the_books_in_order(
    new_bench: NewBench, scripts: list[Any], stream: bool, at_once: int
) -> None:
    """Client 0 leaves after so many turns of the loop; whoever asked the same at the same time is answered."""
    for turns in range(60):
        bench = new_bench(providers={"small": scripts}, limit_nusd=10**6, retries=RetryPolicy(2, 0.0, 1.0))
        started = [bench.start(stream=stream) for _ in range(at_once)]
        for _ in range(turns):
            await asyncio.sleep(0)
        task, reply = started[0]
        reply.leave(task)
        await asyncio.gather(*[one for one, _ in started], return_exceptions=True)
        assert all(other.ended and other.status == 200 for _, other in started[1:]), f"after {turns} turns"
        bench.check_books()
        spent_nusd = sum(counter.spent for counter in bench.store.counters.values())
        assert spent_nusd == sum(record["cost_nusd"] for record in bench.records())


# stores and faults of ours


@pytest.mark.parametrize("outage", ["before", "after"])
async def test_without_the_store_nobody_is_served_and_nothing_stays_held(new_bench: NewBench, outage: Any) -> None:
    bench = new_bench(limit_nusd=10**6)
    bench.store.outage = outage
    with pytest.raises(StoreUnavailable):
        await bench.ask()
    assert bench.calls == 0
    records = bench.records()
    assert [record["error_code"] for record in records] == ["store_unavailable"]


async def test_those_who_wait_go_on_when_the_store_fails_their_leader(new_bench: NewBench) -> None:
    bench = new_bench()
    bench.store.held_up = asyncio.Event()
    leader, leaders_reply = bench.start()
    await _until(lambda: bool(bench.store.asked))
    follower, reply = bench.start()
    await _settle_down()
    leaders_reply.leave(leader)
    await _cancelled(leader)
    bench.store.held_up.set()
    await follower
    assert reply.status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fault_of_ours_is_settled_once(new_bench: NewBench, stream: bool) -> None:
    bench = new_bench(providers={"small": [RuntimeError("a bug")]}, limit_nusd=10**6)
    with pytest.raises(RuntimeError):
        await bench.ask(stream=stream)
    assert (bench.record()["status"], bench.record()["error_code"]) == ("error", "internal_error")


async def test_a_fault_in_mid_stream_still_charges_what_came(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [[*stream_of("Hello")[:1], RuntimeError("a bug")]]}, limit_nusd=10**6)
    with pytest.raises(RuntimeError):
        await bench.ask(stream=True)
    record = bench.record()
    assert (record["status"], record["error_code"]) == ("error", "internal_error")
    assert record["output_tokens"] == bench.counter.count_text("Hello")
    assert bench.spent()[0] == record["cost_nusd"] > 0


async def test_metrics_agree_with_the_records(new_bench: NewBench) -> None:
    bench = new_bench()
    await asyncio.gather(*[bench.ask() for _ in range(3)])
    text = bench.telemetry.exposition().decode()
    assert 'cache="hit",deployment="small",reason="cache",status="ok",team="team-1"} 2.0' in text
    assert (
        'parsimony_output_tokens_total{cache="miss",deployment="small",reason="simple",status="ok",team="team-1"} 2.0'
        in text
    )


async def _settle_down() -> None:
    """Lets everything go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
