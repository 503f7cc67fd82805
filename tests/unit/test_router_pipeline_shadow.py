"""Which requests are drawn, what becomes of them, and what becomes of those that find no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from policies.drivers import drivers
from policies.spend import SHADOW_TAG, SpendRecord
from router.errors import UpstreamUnavailable
from router.pipeline import shadow
from router.pipeline.shadow import MAX_WAITING, PARALLEL_CALLS
from router.stores.redis_janitor import abandoned
from tests.support.pipeline_bench import PipelineBench
from tests.support.scripted_provider import Hangs, ScriptedProvider, completion, stream_of

NewBench = Callable[..., PipelineBench]
LARGE_USAGE: dict[str, Any] = {"prompt_tokens": 12, "completion_tokens": 7}
LARGE = completion("Deep.", usage=LARGE_USAGE)
LARGE_NUSD = 12 * 30 + 7 * 60


@pytest.fixture
async def new_bench() -> AsyncIterator[NewBench]:
    """Benches that measure everything, unless told otherwise; their books are looked at when the test is over."""
    benches: list[PipelineBench] = []

    def make(**options: Any) -> PipelineBench:
        scripts = {"large": [LARGE]} | options.pop("providers", {})
        providers = {name: ScriptedProvider(*answers) for name, answers in scripts.items()}
        benches.append(PipelineBench(providers, **{"shadow_share": 1.0} | options))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.pipeline.close(0.01)
        bench.check_books()


async def measured(bench: PipelineBench) -> list[dict[str, Any]]:
    """The shadows, once those under way have ended."""
    await bench.pipeline.close(5.0)
    return [record for record in bench.records() if record["kind"] == "shadow"]


# ---- one shadow ----------------------------------------------------------------------------------


async def test_a_shadow_is_booked_as_what_it_took_and_measures_its_request(new_bench: NewBench) -> None:
    bench = new_bench()
    reply = await bench.ask()
    assert reply.json()["choices"][0]["message"]["content"] == "Hello."
    (row,) = await measured(bench)
    (asked,) = [record for record in bench.records() if record["kind"] == "request"]
    assert (row["parent_id"], row["sample_share"], row["reason"]) == (asked["request_id"], 1.0, "shadow")
    assert (row["deployment"], row["status"], row["usage_source"]) == ("large", "ok", "provider")
    assert (row["input_tokens"], row["output_tokens"], row["cost_nusd"]) == (12, 7, LARGE_NUSD)
    assert (row["baseline_cost_nusd"], row["baseline_input_tokens"], row["prompt_cache_nusd"]) == (0, 0, 0)
    assert [row[name] for name in ("team_id", "key_id", "alias", "tags", "cache", "stream")] == [
        asked["team_id"], asked["key_id"], "auto", f",{SHADOW_TAG},", "off", False,
    ]  # fmt: skip
    assert row["detail"]["measured_deployment"] == "small" and "measured_usage" not in row["detail"]
    assert drivers(SpendRecord.from_json(row)) == {"measuring": -LARGE_NUSD}


async def test_the_same_is_asked_but_for_the_stream(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [stream_of("Hi")]})
    more = {"max_tokens": 9, "temperature": 0.5, "seed": 1, "store": True, "stop": ["x"]}
    await bench.ask(stream=True, stream_options={"include_usage": True}, **more)
    (row,) = await measured(bench)
    (body,) = bench.providers["large"].bodies
    assert body == {
        "model": "wire-large", "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 9, "temperature": 0.5, "seed": 1, "stop": ["x"],
    }  # fmt: skip
    assert row["stream"] is False


async def test_the_discount_of_the_prompt_cache_is_told_apart(new_bench: NewBench) -> None:
    usage = LARGE_USAGE | {"prompt_tokens_details": {"cached_tokens": 10}}
    bench = new_bench(providers={"large": [completion("Deep.", usage=usage)]}, cached_nusd={"large": 15_000_000})
    await bench.ask()
    (row,) = await measured(bench)
    assert (row["cost_nusd"], row["prompt_cache_nusd"]) == (LARGE_NUSD - 10 * 15, 10 * 15)
    assert row["cost_nusd"] + row["prompt_cache_nusd"] == LARGE_NUSD


async def test_what_its_request_was_discounted_is_off_the_measured_cost_too(new_bench: NewBench) -> None:
    cached = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}
    bench = new_bench(providers={"small": [completion(usage=cached)]}, cached_nusd={"large": 15_000_000})
    await bench.ask()
    (row,) = await measured(bench)
    (asked,) = [record for record in bench.records() if record["kind"] == "request"]
    discounted = asked["detail"]["baseline_cached_input_tokens"]
    assert discounted > 0
    assert row["cost_nusd"] + row["prompt_cache_nusd"] == LARGE_NUSD - discounted * 15
    assert row["detail"]["measured_usage"] == [
        asked["baseline_input_tokens"], asked["baseline_output_tokens"], discounted, 0,
    ]  # fmt: skip


async def test_a_shadow_that_fails_is_no_matter_of_the_clients(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [UpstreamUnavailable("down")]}, failures=1)
    reply = await bench.ask()
    (row,) = await measured(bench)
    assert (reply.status, row["status"], row["error_code"]) == (200, "error", "upstream_unavailable")
    assert (row["cost_nusd"], len(bench.providers["large"].bodies)) == (0, 1)
    assert bench.dispatcher.circuit_states()["large"] == "closed"


async def test_a_fault_of_ours_gives_back_what_was_held(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [RuntimeError("a bug")]}, limit_nusd=10**9)
    await bench.ask()
    (row,) = await measured(bench)
    assert (row["status"], row["error_code"], row["cost_nusd"]) == ("error", "internal_error", 0)


async def test_an_answer_without_usage_is_counted_as_the_baselines(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [completion("Deep thoughts.", usage=None)]})
    await bench.ask()
    (row,) = await measured(bench)
    text_tokens = bench.counter.count_text("Deep thoughts.")
    assert (row["usage_source"], row["output_tokens"], row["status"]) == ("counted", text_tokens, "ok")


# ---- what is not measured ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "hard"},
        {"model": "small"},
        {"n": 2},
        {"no_shadow": True},
    ],
    ids=str,
)
async def test_what_is_none_of_the_population_is_neither_measured_nor_lost(
    new_bench: NewBench, changes: dict[str, Any]
) -> None:
    bench = new_bench()
    await bench.ask(**changes)
    assert (await measured(bench), bench.lost) == ([], {})


async def test_a_repeat_is_not_measured(new_bench: NewBench) -> None:
    bench = new_bench()
    await bench.ask()
    assert (await bench.ask()).header("cache") == "hit"
    assert len(await measured(bench)) == 1


async def test_an_alias_can_keep_its_requests_to_itself(new_bench: NewBench) -> None:
    bench = new_bench(alias_shadow=False)
    await bench.ask()
    assert await measured(bench) == []


async def test_what_failed_is_not_measured(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [UpstreamUnavailable("down")]}, max_fallbacks=0)
    with pytest.raises(UpstreamUnavailable):
        await bench.ask()
    assert await measured(bench) == []


async def test_nor_is_what_its_client_did_not_wait_for(new_bench: NewBench) -> None:
    bench = new_bench(providers={"small": [Hangs]})
    task, reply = bench.start()
    await asyncio.sleep(0.01)
    reply.leave(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await measured(bench) == []


async def test_a_key_that_may_not_use_the_baseline_sends_nothing_there(new_bench: NewBench) -> None:
    bench = new_bench(allowed_models=frozenset({"small"}))
    await bench.ask()
    assert (await measured(bench), bench.lost) == ([], {"unfit": 1})


async def test_what_the_baseline_could_not_read_is_counted_as_unfit(new_bench: NewBench) -> None:
    bench = new_bench(large_context_window=50)
    await bench.ask("word " * 60)
    assert (await measured(bench), bench.lost) == ([], {"unfit": 1})


async def test_while_the_clients_circuit_is_open_nothing_is_measured(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [UpstreamUnavailable("down"), LARGE]}, failures=1, max_fallbacks=0)
    with pytest.raises(UpstreamUnavailable):
        await bench.ask("hard")
    await bench.ask()
    bench.hand.now_s += 11.0  # half open: the next client's call is the probe, and no shadow is
    await bench.ask("Hello again")
    assert (await measured(bench), bench.lost) == ([], {"circuit_open": 2})


# ---- limits --------------------------------------------------------------------------------------


async def test_a_budget_of_its_own_ends_measuring_and_nothing_else(new_bench: NewBench) -> None:
    # 100 tokens of output are held at 6,000 nano-USD, with the prompt some 12,000; each call then takes 780.
    bench = new_bench(shadow_limit_usd="0.000012500", limit_nusd=10**9)
    for number in range(4):
        await bench.ask(f"Hello {number}")
        await settled(bench)
    rows = await measured(bench)
    assert 1 <= len(rows) < 4
    assert bench.lost == {"budget": 4 - len(rows)}
    counters = {key.split(":")[2]: counter.spent for key, counter in bench.store.counters.items()}
    requests = sum(record["cost_nusd"] for record in bench.records() if record["kind"] == "request")
    assert counters == {"b1": requests, "tag": len(rows) * LARGE_NUSD}


async def test_an_answer_is_never_cut_short_by_the_budget(new_bench: NewBench) -> None:
    bench = new_bench(shadow_limit_usd="0.000020", max_output_tokens=100)
    await bench.ask()
    assert len(await measured(bench)) == 1
    assert "max_tokens" not in bench.providers["large"].bodies[0]


async def test_the_queue_is_bounded_and_what_overflows_is_counted(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [Hangs]})
    overflowing = 3
    for number in range(PARALLEL_CALLS + MAX_WAITING + overflowing):
        await bench.ask(f"Hello {number}")
    assert bench.lost == {"queue_full": overflowing}
    await bench.pipeline.close(0.01)
    assert bench.lost == {"queue_full": overflowing, "shutdown": MAX_WAITING}


async def test_large_requests_do_not_pile_up(new_bench: NewBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MAX_WAITING_BYTES", 1_000)
    bench = new_bench(providers={"large": [Hangs]})
    for number in range(PARALLEL_CALLS):
        await bench.ask(f"Hello {number}")
    for number in range(3):
        await bench.ask(f"{number}" * 400)
    assert bench.lost == {"queue_full": 1}


async def test_what_waits_is_measured_in_turn(new_bench: NewBench) -> None:
    gate = asyncio.Event()
    bench = new_bench(limit_nusd=10**9)
    large = bench.providers["large"]
    opened = large.open

    async def open_later(body: dict[str, Any], *, stream: bool) -> Any:
        await gate.wait()
        return await opened(body, stream=stream)

    large.open = open_later  # type: ignore[method-assign]
    for number in range(PARALLEL_CALLS + 3):
        await bench.ask(f"Hello {number}")
    gate.set()
    await settled(bench)
    assert len(await measured(bench)) == PARALLEL_CALLS + 3


async def test_what_comes_as_the_last_call_ends_is_not_left_waiting(
    new_bench: NewBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the turn of the loop in which a call has ended, and its task has not been seen to be over."""
    monkeypatch.setattr(shadow, "PARALLEL_CALLS", 1)
    bench = new_bench()
    call, offered = bench.shadower._call, list[Any]()
    measure = call.measure

    async def measure_and_offer(request: Any) -> None:
        await measure(request)
        if not offered:
            offered.append(request)
            asyncio.get_running_loop().call_soon(bench.shadower.offer, request.accepted, request.booked)

    monkeypatch.setattr(call, "measure", measure_and_offer)
    await bench.ask()
    async with asyncio.timeout(5):
        while len(bench.providers["large"].bodies) < 2:
            await asyncio.sleep(0)
    assert len(await measured(bench)) == 2 and not bench.lost


async def test_a_call_that_the_end_of_the_process_breaks_off_is_booked(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [Hangs]})
    await bench.ask()
    await asyncio.sleep(0.01)
    await bench.pipeline.close(0.01)
    (row,) = [record for record in bench.records() if record["kind"] == "shadow"]
    assert (row["status"], row["usage_source"], row["output_tokens"]) == ("cancelled", "counted", 0)
    assert row["cost_nusd"] == row["retries_nusd"] > 0


async def test_a_store_that_is_away_is_no_matter_of_the_clients_either(new_bench: NewBench) -> None:
    bench = new_bench()
    task, _ = bench.start()
    while not bench.records():
        await asyncio.sleep(0)
    bench.store.outage = "before"
    await task
    rows = await measured(bench)
    assert [(row["status"], row["reason"], row["cost_nusd"]) for row in rows] == [("error", "refused", 0)]
    assert bench.lost == {"store_unavailable": 1}


async def test_a_dead_workers_shadow_is_a_shadow_still(new_bench: NewBench) -> None:
    bench = new_bench(providers={"large": [Hangs]})
    await bench.ask()
    while not bench.store.pending:
        await asyncio.sleep(0)
    ((request_id, pending),) = bench.store.pending.items()
    row = SpendRecord.from_json(orjson.loads(abandoned(request_id, pending.entry()).record))
    assert (row.kind, row.parent_id, row.sample_share, row.deployment) == ("shadow", "chatcmpl-1", 1.0, "large")
    assert drivers(row) == {"measuring": -pending.nusd}


async def settled(bench: PipelineBench) -> None:
    """Until each shadow has ended."""
    while bench.store.pending:
        await asyncio.sleep(0)
