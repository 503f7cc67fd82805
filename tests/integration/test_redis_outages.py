"""Redis goes away, comes back, stands still or forgets; workers die: nothing is lost and nothing counts twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import redis

from policies.budget import Budget
from policies.periods import Period
from policies.spend import SpendRecord
from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import LOCAL_EPOCH, Admitted, Bid, CacheHit, Option, Settlement
from router.stores.counters import counter_of, counters_of, window_of
from router.stores.redis_admission import SCRIPTS, SETTLE, RedisAdmissionStore, settle_arguments
from router.stores.redis_budgets import RedisBudgets, Used
from router.stores.redis_connection import RedisConnection
from router.stores.redis_janitor import Janitor
from tests.support.redis_server import PrivateRedis, redis_server
from tests.support.spend import spend_record

TIMEOUT_S = 0.3
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
BUDGET = Budget(id="b1", subject_kind="team", subject_id="support", limit=1_000_000)
COUNTER = counter_of(BUDGET, window_of(BUDGET, NOW))
COUNTERS = counters_of((COUNTER,))
ENTRY = redis_keys.cache_entry("x")


@dataclass(slots=True)
class Server:
    """A private Redis, and what can befall it."""

    private: PrivateRedis
    client: redis.Redis

    @property
    def url(self) -> str:
        return self.private.url

    def pid(self) -> int:
        return int(self.client.info("server")["process_id"])

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    def spent_and_reserved(self) -> tuple[int, int]:
        spent, reserved = self.client.hmget(COUNTER.key, "spent", "reserved")
        return int(spent or 0), int(reserved or 0)

    def booked(self) -> list[SpendRecord]:
        """The first record of each request: the ledger knows a repeat by its id."""
        entries = self.client.xrange(redis_keys.SPEND_STREAM)
        records = [SpendRecord.from_json(orjson.loads(fields[b"record"])) for _, fields in entries]
        return list({record.request_id: record for record in reversed(records)}.values())[::-1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with redis_server(tmp_path) as private, redis.Redis.from_url(private.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        yield Server(private, client)


@asynccontextmanager
async def opened(url: str, worker_id: str = "w1") -> AsyncIterator[RedisAdmissionStore]:
    connection = await RedisConnection.open(url, timeout_s=TIMEOUT_S, scripts=SCRIPTS)
    store = RedisAdmissionStore(connection, worker_id)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def bid(request_id: str, amount: int = 100, **changes: object) -> Bid:
    chosen = {"deployment": "mistral-7b", "deployment_tier": "simple", "reason": "simple"}
    record = spend_record(request_id, cost_nusd=0, reserved_nusd=0).to_json() | {"options": [chosen]}
    only = Option("mistral-7b", "simple", 0, amount, 0, 0, 1, 0, 0)
    asked = Bid(request_id, orjson.dumps(record), NOW_MS, (only,), 1, COUNTERS, (b"",))
    return replace(asked, **changes)  # type: ignore[arg-type]


async def admit(store: RedisAdmissionStore, request_id: str, amount: int = 100) -> Admitted:
    admission = await store.admit(bid(request_id, amount))
    assert isinstance(admission, Admitted)
    return admission


def settlement(request_id: str, cost: int = 30, epoch: str = "1") -> Settlement:
    return Settlement(
        request_id=request_id,
        record=orjson.dumps(spend_record(request_id, cost_nusd=cost).to_json()),
        admitted=True,
        started_at_ms=NOW_MS,
        epoch=epoch,
        counters=COUNTERS,
        amounts=(cost,),
    )


def forget(folder: Path) -> None:
    """What a server that is not running has on disk is gone."""
    (folder / "appendonly.aof").unlink()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


# Redis goes and comes back


async def test_settlements_put_off_in_an_outage_arrive_once(server: Server) -> None:
    async with opened(server.url) as store:
        for n in range(20):
            await admit(store, f"r{n}")
        for n in range(5):
            store.settle(settlement(f"r{n}"))
        await store.drain(5)
        for n in range(5, 10):
            store.settle(settlement(f"r{n}"))  # on their way while it dies
        server.kill()
        await until(lambda: not store.ready)
        with pytest.raises(StoreUnavailable):
            await admit(store, "late")
        for n in range(10, 20):
            store.settle(settlement(f"r{n}"))
        assert store.unsettled >= 10
        server.private.start()
        await until(lambda: store.ready)
        await store.drain(5)
        assert store.unsettled == 0
    assert sorted(record.request_id for record in server.booked()) == sorted(f"r{n}" for n in range(20))
    assert server.spent_and_reserved() == (20 * 30, 0)


async def test_a_request_that_was_under_way_in_the_crash_is_settled_by_its_retry(server: Server) -> None:
    async with opened(server.url) as store:
        waiting = [asyncio.ensure_future(admit(store, f"r{n}")) for n in range(50)]
        await asyncio.sleep(0)
        server.kill()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        for n in range(50):
            store.settle(settlement(f"r{n}", cost=0))  # as the pipeline does, whether or not it was admitted
        server.private.start()
        await until(lambda: store.ready)
        await store.drain(5)
    booked = [record.request_id for record in server.booked()]
    assert sorted(booked) == sorted(f"r{n}" for n in range(50))
    assert server.spent_and_reserved() == (0, 0)


async def test_it_connects_again_however_often(server: Server) -> None:
    async with opened(server.url) as store:
        for n in range(3):
            server.kill()
            await until(lambda: not store.ready)
            server.private.start()
            await until(lambda: store.ready)
            await admit(store, f"r{n}")
    assert server.spent_and_reserved() == (0, 300)


async def test_a_redis_that_stands_still_is_given_up_in_time(server: Server) -> None:
    pid = server.pid()
    async with opened(server.url) as store:
        await admit(store, "r0")
        os.kill(pid, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await admit(store, "r1")
            assert time.monotonic() - began_s < TIMEOUT_S + 2
            store.settle(settlement("r0"))
            store.settle(settlement("r1"))
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: store.ready)
        await store.drain(5)
        await admit(store, "r2")
    assert [record.request_id for record in server.booked() if record.request_id == "r0"] == ["r0"]
    spent_nusd, reserved_nusd = server.spent_and_reserved()
    assert (spent_nusd, reserved_nusd) == (30 * len(server.booked()), 100)


async def test_what_cannot_be_put_off_any_more_is_left_to_its_reservation(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("router.stores.redis_admission.MAX_UNSETTLED", 2)
    async with opened(server.url) as store:
        for n in range(3):
            await admit(store, f"r{n}")
        server.kill()
        await until(lambda: not store.ready)
        for n in range(3):
            store.settle(settlement(f"r{n}"))
        assert (store.unsettled, "r2 stays at its reservation" in caplog.text) == (2, True)
        server.private.start()
        await until(lambda: store.ready)
        await store.drain(5)
    assert Janitor(server.client).sweep() == 1
    assert {record.request_id: record.cost_nusd for record in server.booked()} == {"r0": 30, "r1": 30, "r2": 100}


async def test_a_counter_that_is_none_costs_no_record(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.set(COUNTER.key, "somebody else's")
        store.settle(settlement("r0"))
        await until(lambda: store.unsettled == 0)
    assert [record.request_id for record in server.booked()] == ["r0"]


async def test_a_redis_that_is_full_lets_nobody_in_and_settles_those_who_are(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await admit(store, "r1")
        store.settle(settlement("r0"))
        await until(lambda: store.unsettled == 0)
    assert ([record.request_id for record in server.booked()], server.spent_and_reserved()) == (["r0"], (30, 0))


async def test_stopping_without_redis_ends_and_says_what_is_left(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.kill()
        await until(lambda: not store.ready)
        store.settle(settlement("r0"))
        await store.drain(0.1)
    assert "1 settlements could not reach Redis" in caplog.text
    server.private.start()
    await asyncio.sleep(0)
    server.client.delete(redis_keys.lease("w1"))
    assert Janitor(server.client).sweep() == 1


async def test_scripts_that_were_flushed_are_loaded_again(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.script_flush()
        store.settle(settlement("r0"))
        await until(lambda: store.unsettled == 0)
        await until(lambda: store.ready)
        await admit(store, "r1")
    assert server.spent_and_reserved() == (30, 100)


async def test_an_error_answer_fails_its_own_command_alone(server: Server) -> None:
    connection = await RedisConnection.open(server.url, timeout_s=TIMEOUT_S)
    server.client.set("text", "abc")
    bad, good = connection.execute("INCR", "text"), connection.execute("GET", "text")
    with pytest.raises(StoreUnavailable, match="not an integer"):
        await bad
    assert (await good, connection.ready) == (b"abc", True)
    await connection.close()


async def test_a_caller_that_went_away_takes_nobody_elses_answer(server: Server) -> None:
    connection = await RedisConnection.open(server.url, timeout_s=TIMEOUT_S)
    first, second = connection.execute("ECHO", "1"), connection.execute("ECHO", "2")
    first.cancel()
    assert await second == b"2"
    await connection.close()


async def test_thousands_at_once_come_back_in_order(server: Server) -> None:
    connection = await RedisConnection.open(server.url, timeout_s=5)
    answers = await asyncio.gather(*[connection.execute("ECHO", n) for n in range(5_000)])
    assert answers == [str(n).encode() for n in range(5_000)]
    await connection.close()


async def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="Redis cannot be reached"):
        await RedisConnection.open(f"unix://{tmp_path}/none.sock", timeout_s=TIMEOUT_S)


async def test_a_wrong_password_leaves_no_connection_behind(server: Server) -> None:
    server.client.config_set("requirepass", "right")
    url = server.url.replace("unix://", "unix://:wrong@")
    try:
        with pytest.raises(StoreUnavailable, match="WRONGPASS"):
            await RedisConnection.open(url, timeout_s=TIMEOUT_S)
        await asyncio.sleep(0.2)
        with redis.Redis.from_url(server.url, password="right") as client:
            assert len(client.client_list()) <= 2  # the fixture's own, and this one
            client.config_set("requirepass", "")
    finally:
        server.client.close()


async def test_after_a_close_nothing_is_sent_and_nothing_connects_again(server: Server) -> None:
    connection = await RedisConnection.open(server.url, timeout_s=TIMEOUT_S)
    await connection.close()
    with pytest.raises(StoreUnavailable):
        connection.execute("PING")
    await asyncio.sleep(0.2)
    assert len(server.client.client_list()) == 1


# workers that die


async def test_what_a_dead_worker_held_is_booked_in_full_and_marked(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0", amount=100)
        await admit(store, "r1", amount=250)
    # Closed without settling: the lease is gone, as for a worker that was killed.
    assert Janitor(server.client).sweep() == 2
    booked = {record.request_id: record for record in server.booked()}
    expected = spend_record("r1", cost_nusd=250, reserved_nusd=250, input_tokens=0, output_tokens=0)
    whom = {"deployment": "mistral-7b", "deployment_tier": "simple", "reason": "simple"}
    assert booked["r1"] == replace(expected, status="abandoned", usage_source="reserved", **whom)
    assert (booked["r0"].cost_nusd, server.spent_and_reserved()) == (100, (350, 0))
    assert (Janitor(server.client).sweep(), len(server.booked())) == (0, 2)


async def test_a_living_workers_requests_are_left_alone(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        assert Janitor(server.client).sweep() == 0
        store.settle(settlement("r0"))
        await store.drain(5)
        assert [record.status for record in server.booked()] == ["ok"]


async def test_a_worker_thought_dead_that_settles_after_all_counts_once(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.delete(redis_keys.lease("w1"))
        assert Janitor(server.client).sweep() == 1
        store.settle(settlement("r0"))
        await store.drain(5)
    assert [record.status for record in server.booked()] == ["abandoned"]  # the truth is behind it in the stream
    assert server.spent_and_reserved() == (30, 0)


async def test_a_repeat_that_nobody_saw_end_costs_nothing(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        keep = replace(settlement("r0"), cache_key=ENTRY, keep_seconds=60, answer=b"answer")
        store.settle(keep)
        await store.drain(5)
        assert isinstance(await store.admit(bid("r1", cache_key=ENTRY, look_up=True)), CacheHit)
    assert Janitor(server.client).sweep() == 1
    assert [(record.request_id, record.cost_nusd) for record in server.booked()] == [("r0", 30), ("r1", 0)]
    assert server.spent_and_reserved() == (30, 0)


# Redis that lost its data


def used_of(amount: int) -> Callable[[Budget, Period], Used]:
    def used(budget: Budget, period: Period) -> Used:
        assert (budget, period.label) == (BUDGET, "2026-11")
        return {("", 0): amount}

    return used


async def test_counters_are_taken_from_the_ledger_before_anyone_is_let_in(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.flushall()
        with pytest.raises(StoreUnavailable, match="rebuilt"):
            await admit(store, "r1")
        budgets = RedisBudgets(server.client)
        assert not budgets.whole()
        assert budgets.rebuild([BUDGET], used_of(400_000), NOW)
        assert budgets.whole()
        assert (await admit(store, "r2")).epoch not in ("", "1")
    (state,) = budgets.states([BUDGET], NOW)
    assert (state.spent, state.reserved, state.available) == (400_000, 200, 599_800)  # r0 is under way still
    assert server.client.ttl(COUNTER.key) > 0


async def test_requests_under_way_hold_again_in_a_redis_that_came_back_empty(server: Server, tmp_path: Path) -> None:
    async with opened(server.url) as store:
        for n in range(3):
            await admit(store, f"r{n}")
        store.settle(settlement("r0"))
        await store.drain(5)
        server.kill()
        await until(lambda: not store.ready)
        forget(tmp_path)
        server.private.start()
        await until(lambda: store.ready)
        await until(lambda: server.spent_and_reserved() == (0, 200))
        assert server.client.hlen(redis_keys.pending("w1")) == 2
        # The settlement of a moment ago may have been lost with the rest: it comes again, for the ledger.
        await until(lambda: [record.request_id for record in server.booked()] == ["r0"])
        server.client.delete(redis_keys.SPEND_STREAM)  # the ledger has it
        assert RedisBudgets(server.client).rebuild([BUDGET], used_of(30), NOW)
        store.settle(settlement("r0"))  # once more
        store.settle(settlement("r1"))
        await store.drain(5)
        assert server.spent_and_reserved() == (60, 100)
        store.settle(settlement("r2", cost=0))
        await store.drain(5)
    assert server.spent_and_reserved() == (60, 0)


async def test_requests_under_way_hold_again_though_the_connection_never_broke(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_admission._RENEW_SECONDS", 0.05)
    async with opened(server.url) as store:
        for n in range(3):
            await admit(store, f"r{n}")
        server.client.flushall()
        await until(lambda: server.spent_and_reserved() == (0, 300))
        assert Janitor(server.client).sweep() == 0  # it has its lease again, too
        assert store.ready


async def test_whoever_finds_redis_emptied_brings_back_at_once_what_is_held_and_what_was_settled(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_admission._RENEW_SECONDS", 3_600.0)  # no renewal finds it
    async with opened(server.url) as store:
        await admit(store, "held")
        await admit(store, "settled")
        store.settle(settlement("settled"))
        await store.drain(5)
        server.client.flushall()
        with pytest.raises(StoreUnavailable, match="rebuilt"):
            await admit(store, "refused")
        await until(lambda: server.client.xlen(redis_keys.SPEND_STREAM) == 1)
        assert server.spent_and_reserved() == (0, 100)


async def test_what_the_janitor_booked_is_not_held_again(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.delete(redis_keys.lease("w1"))
        assert Janitor(server.client).sweep() == 1
        server.client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: bool(server.client.sismember(redis_keys.WORKERS, "w1")))  # it is back
        await admit(store, "r1")
        assert server.spent_and_reserved() == (100, 100)
        store.settle(settlement("r0"))
        await store.drain(5)
    assert server.spent_and_reserved() == (30, 100)


async def test_a_settlement_in_the_middle_of_counting_again_is_in_neither_twice_nor_lost(server: Server) -> None:
    budgets = RedisBudgets(server.client)
    async with opened(server.url) as store:
        await admit(store, "r0")
        server.client.delete(redis_keys.COUNTERS_WHOLE)
        late = settlement("r0", epoch="1")

        def sums_up_too_early(budget: Budget, period: Period) -> Used:
            arguments = settle_arguments(late, redis_keys.pending("w1"))
            server.client.eval(SETTLE, *arguments)  # type: ignore[arg-type]
            return {}

        assert not budgets.rebuild([BUDGET], sums_up_too_early, NOW)
        assert not budgets.whole()
        server.client.delete(redis_keys.SPEND_STREAM)  # the ledger has it
        assert budgets.rebuild([BUDGET], used_of(30), NOW)
        store.settle(late)
        await store.drain(5)
        assert (server.spent_and_reserved(), budgets.whole()) == ((30, 0), True)


async def test_an_answer_that_was_lost_on_its_way_leaves_nothing_held(server: Server) -> None:
    async with opened(server.url) as store:
        server.client.client_pause(5_000)
        with pytest.raises(StoreUnavailable):
            await admit(store, "r0")  # Redis does it all the same, later
        store.settle(settlement("r0", cost=0, epoch=LOCAL_EPOCH))
        server.client.client_unpause()
        await until(lambda: store.ready)
        await store.drain(5)
        await until(lambda: server.client.hlen(redis_keys.pending("w1")) == 0)
    assert server.spent_and_reserved() == (0, 0)


async def test_a_redis_busy_elsewhere_is_given_up_and_settled_with_later(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        with redis.Redis.from_url(server.url) as other:
            asleep = asyncio.create_task(asyncio.to_thread(other.execute_command, "DEBUG", "SLEEP", 1))
            await asyncio.sleep(0.05)
            store.settle(settlement("r0"))
            with pytest.raises(StoreUnavailable):
                await admit(store, "r1")
            store.settle(settlement("r1", cost=0))
            await asleep
        await until(lambda: store.ready)
        await store.drain(5)
    assert server.spent_and_reserved() == (30, 0)


async def test_a_counter_that_is_there_is_not_lowered(server: Server) -> None:
    async with opened(server.url) as store:
        await admit(store, "r0")
        store.settle(settlement("r0", cost=700))
        await store.drain(5)
    RedisBudgets(server.client).seed(BUDGET, lambda *_: {("", 0): 500}, NOW)
    assert server.spent_and_reserved() == (700, 0)
