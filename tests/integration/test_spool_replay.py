"""Redis is away, and requests are served within an allowance: never beyond it, and every one of them booked once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import orjson
import pytest
import redis
from fastapi import FastAPI

from policies.budget import WhenUnavailable
from policies.spend import SpendRecord
from router.api.health import health_router
from router.clock import SYSTEM_CLOCK
from router.errors import StoreUnavailable
from router.pipeline.circuit import Circuit
from router.pipeline.dispatch import Dispatcher, RetryPolicy, Target, Timeouts
from router.stores import redis_keys
from router.stores.admission import LOCAL_EPOCH, Admitted, Bid, BudgetCounter, Option, Refused, Settlement
from router.stores.counters import counters_of
from router.stores.local_admission import PATIENCE_SECONDS, PROBE_SECONDS, LocalAdmissionStore
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_connection import RedisConnection
from router.stores.redis_janitor import Janitor
from router.stores.spool import Spool, replay_dead, spool_folder
from router.telemetry import Telemetry
from tests.support.redis_server import PrivateRedis, redis_server
from tests.support.scripted_provider import ScriptedProvider
from tests.support.spend import spend_record

ALLOWANCE_NUSD = 1_000
HOLD_NUSD = 100
COST_NUSD = 30
NOW_MS = 1_793_000_000_000
TEAM = BudgetCounter("{parsimony}:budget:team", "usd", 1_000_000, when_unavailable="serve")
TOKENS = BudgetCounter("{parsimony}:budget:tokens", "tokens", 1_000_000, when_unavailable="serve")
STRICT = BudgetCounter("{parsimony}:budget:strict", "usd", 1_000_000, when_unavailable="refuse")


@dataclass(slots=True)
class Server:
    """A private Redis, what can befall it, and what it knows."""

    private: PrivateRedis
    client: redis.Redis

    def kill(self) -> None:
        os.kill(int(self.client.info("server")["process_id"]), signal.SIGKILL)

    def counter(self, counter: BudgetCounter = TEAM) -> tuple[int, int]:
        spent, reserved = self.client.hmget(counter.key, "spent", "reserved")
        return int(spent or 0), int(reserved or 0)

    def booked(self) -> dict[str, SpendRecord]:
        """By request, the truth where there is one, else the first: as the ledger has it."""
        records: dict[str, SpendRecord] = {}
        for _, fields in self.client.xrange(redis_keys.SPEND_STREAM):
            record = SpendRecord.from_json(orjson.loads(fields[b"record"]))
            known = records.get(record.request_id)
            if known is None or known.status == "abandoned" != record.status:
                records[record.request_id] = record
        return records

    def total_nusd(self) -> int:
        return sum(record.cost_nusd for record in self.booked().values())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with redis_server(tmp_path / "redis") as private, redis.Redis.from_url(private.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "epoch-1")
        yield Server(private, client)


@asynccontextmanager
async def opened(
    server: Server,
    data_dir: Path,
    *,
    when_unavailable: WhenUnavailable = "refuse",
    allowance_nusd: int = ALLOWANCE_NUSD,
    timeout_s: float = 2.0,
) -> AsyncIterator[LocalAdmissionStore]:
    connection = await RedisConnection.open(server.private.url, timeout_s=timeout_s, scripts=SCRIPTS)
    store = RedisAdmissionStore(connection, "w1")
    await store.start()
    spool = Spool(data_dir, "w1")
    try:
        yield LocalAdmissionStore(store, spool, when_unavailable=when_unavailable, allowance_nusd=allowance_nusd)
    finally:
        await store.close()
        spool.close()


def bid(request_id: str, *counters: BudgetCounter, nusd: int = HOLD_NUSD) -> Bid:
    provisional = spend_record(request_id, cost_nusd=0, reserved_nusd=0).to_json()
    named = {"deployment": "mistral-7b", "deployment_tier": "simple"}
    return Bid(
        request_id=request_id,
        record=orjson.dumps(provisional | {"options": [named]}),
        now_ms=NOW_MS,
        options=(Option("mistral-7b", "simple", 0, nusd, 0, 10, 1, 10, 10),),
        most=1,
        counters=counters_of(counters),
        masks=(b"",) * len(counters),
    )


def settlement(
    request_id: str, *counters: BudgetCounter, epoch: str = LOCAL_EPOCH, cost: int = COST_NUSD
) -> Settlement:
    return Settlement(
        request_id=request_id,
        record=orjson.dumps(spend_record(request_id, cost_nusd=cost).to_json()),
        admitted=True,
        started_at_ms=NOW_MS,
        epoch=epoch,
        counters=counters_of(counters),
        amounts=tuple(cost if counter.unit == "usd" else 200 for counter in counters),
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def admit(store: LocalAdmissionStore, request_id: str, *counters: BudgetCounter, nusd: int = HOLD_NUSD) -> str:
    """The epoch in which it was admitted."""
    admission = await store.admit(bid(request_id, *counters, nusd=nusd))
    assert isinstance(admission, Admitted)
    return admission.epoch


async def away(server: Server, store: LocalAdmissionStore) -> None:
    server.kill()
    await until(lambda: not store.ready)


async def back(server: Server, store: LocalAdmissionStore) -> None:
    server.private.start()
    await until(lambda: store.ready)
    await until(lambda: not store.unsettled)


# within the allowance


async def test_without_redis_exactly_the_allowance_is_served_and_comes_back_with_it(
    server: Server, tmp_path: Path
) -> None:
    async with opened(server, tmp_path) as store:
        assert await admit(store, "r0", TEAM) == "epoch-1"
        await away(server, store)
        store.settle(settlement("r0", TEAM, epoch="epoch-1"))
        alone = ALLOWANCE_NUSD // HOLD_NUSD
        for n in range(1, alone + 1):
            assert await admit(store, f"r{n}", TEAM) == LOCAL_EPOCH
        with pytest.raises(StoreUnavailable, match="does not pay"):
            await admit(store, "late", TEAM)
        assert (store.used_nusd, store.exhausted) == (ALLOWANCE_NUSD, True)
        for n in range(1, alone + 1):
            store.settle(settlement(f"r{n}", TEAM))
        assert store.used_nusd == alone * COST_NUSD  # what is spent does not come back before Redis knows of it
        await back(server, store)
        assert (server.counter(), len(server.booked())) == (((alone + 1) * COST_NUSD, 0), alone + 1)
        assert await admit(store, "next", TEAM) == "epoch-1"
        assert (store.used_nusd, store.exhausted) == (0, False)
        store.settle(settlement("next", TEAM, epoch="epoch-1"))
        await until(lambda: not store.unsettled)
    assert (server.total_nusd(), 0) == server.counter()
    assert list(spool_folder(tmp_path).iterdir()) == []


async def test_what_was_spent_alone_counts_until_redis_has_it_however_often_it_goes(
    server: Server, tmp_path: Path
) -> None:
    async with opened(server, tmp_path) as store:
        await away(server, store)
        assert await admit(store, "long", TEAM, nusd=900) == LOCAL_EPOCH
        for n in range(3):  # Redis comes and goes, and the answer goes on
            await back_again(server, store)
            assert await admit(store, f"through-{n}", TEAM) == "epoch-1"
            await away(server, store)
            with pytest.raises(StoreUnavailable):
                await admit(store, f"late-{n}", TEAM, nusd=101)
        store.settle(settlement("long", TEAM, cost=900))
        with pytest.raises(StoreUnavailable):
            await admit(store, "late", TEAM, nusd=101)
        await back(server, store)
        assert server.counter() == (900, 3 * HOLD_NUSD)


async def back_again(server: Server, store: LocalAdmissionStore) -> None:
    server.private.start()
    await until(lambda: store.ready)


async def test_a_redis_whose_counters_are_not_whole_gives_no_allowance_back(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        server.client.flushall()
        for n in range(10):
            assert await admit(store, f"r{n}", TEAM) == LOCAL_EPOCH
            store.settle(settlement(f"r{n}", TEAM, cost=HOLD_NUSD))
        with pytest.raises(StoreUnavailable, match="rebuilt"):
            await admit(store, "late", TEAM)
        assert (store.unsettled, server.client.exists(redis_keys.SPEND_STREAM)) == (
            10,
            0,
        )  # they would disturb the count
        server.client.set(redis_keys.COUNTERS_WHOLE, "epoch-2")
        await until(lambda: not store.unsettled)
        assert await admit(store, "next", TEAM) == "epoch-2"
        assert (store.used_nusd, server.counter()) == (0, (10 * HOLD_NUSD, HOLD_NUSD))


async def test_what_is_given_back_in_mid_answer_serves_others(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        await away(server, store)
        await admit(store, "r0", TEAM, nusd=ALLOWANCE_NUSD)
        store.reduce("r0", counters_of([TEAM]), nusd=400, tokens=10)
        assert await admit(store, "r1", TEAM, nusd=600) == LOCAL_EPOCH
        assert store.used_nusd == ALLOWANCE_NUSD


async def test_a_limit_below_the_allowance_holds(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        await away(server, store)
        small, closed = replace(TEAM, key="{parsimony}:budget:small", limit=250), replace(TOKENS, limit=0)
        assert [await admit(store, f"r{n}", TEAM, small) for n in range(2)] == [LOCAL_EPOCH] * 2
        for counters in ((TEAM, small), (closed,)):
            with pytest.raises(StoreUnavailable):
                await admit(store, "late", *counters)
        # Others of the team may go on.
        assert (store.used_nusd, store.exhausted, await admit(store, "other", TEAM)) == (200, True, LOCAL_EPOCH)
        assert not store.exhausted


async def test_money_bounds_what_counts_tokens_too(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        await away(server, store)
        assert await admit(store, "r0", TOKENS, nusd=ALLOWANCE_NUSD) == LOCAL_EPOCH
        with pytest.raises(StoreUnavailable):
            await admit(store, "r1", TOKENS, nusd=1)
        store.settle(settlement("r0", TOKENS))
        await back(server, store)
    assert server.counter(TOKENS) == (200, 0)


# who is served


async def test_one_budget_that_refuses_is_enough(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path, when_unavailable="serve") as store:
        await away(server, store)
        for counters in ((STRICT,), (TEAM, STRICT)):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await admit(store, "r0", *counters)
        assert store.used_nusd == 0


@pytest.mark.parametrize("counters", [(), (replace(TEAM, when_unavailable=None),)])
async def test_what_has_no_word_of_its_own_goes_by_the_configuration(
    server: Server, tmp_path: Path, counters: tuple[BudgetCounter, ...]
) -> None:
    async with opened(server, tmp_path, when_unavailable="serve") as serving, opened(server, tmp_path) as refusing:
        await away(server, serving)
        await until(lambda: not refusing.ready)
        assert await admit(serving, "r0", *counters) == LOCAL_EPOCH
        with pytest.raises(StoreUnavailable):
            await admit(refusing, "r1", *counters)
        serving.settle(settlement("r0", *counters))
        await back(server, serving)
    assert [*server.booked()] == ["r0"]


async def test_what_the_disk_cannot_keep_is_not_served_and_what_is_settled_stays_in_memory(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.spool.MAX_SPOOL_BYTES", 10)
    async with opened(server, tmp_path, when_unavailable="serve") as store:
        epoch = await admit(store, "r0", TEAM)
        await away(server, store)
        with pytest.raises(StoreUnavailable):
            await admit(store, "r1", TEAM)
        store.settle(settlement("r0", TEAM, epoch=epoch))
        assert (store.used_nusd, store.exhausted, store.unsettled) == (0, True, 1)
        await back(server, store)
    assert server.counter() == (COST_NUSD, 0)


# a Redis that stands still


async def test_a_redis_that_stands_still_is_waited_for_once_and_what_it_did_all_the_same_is_given_back(
    server: Server, tmp_path: Path
) -> None:
    async with opened(server, tmp_path, timeout_s=30) as store:
        server.client.client_pause(60_000, all=False)
        asked = asyncio.gather(*[admit(store, f"r{n}", TEAM) for n in range(4)])
        assert await asked == [LOCAL_EPOCH] * 4
        before = len(store._store._connection._waiting)
        assert await admit(store, "r4", TEAM) == LOCAL_EPOCH
        assert len(store._store._connection._waiting) == before  # nobody asked
        for n in range(5):
            store.settle(settlement(f"r{n}", TEAM))
        server.client.client_unpause()
        await until(lambda: not store.unsettled)
        assert (server.counter(), server.total_nusd()) == ((5 * COST_NUSD, 0), 5 * COST_NUSD)
        await asyncio.sleep(PATIENCE_SECONDS + PROBE_SECONDS)  # the time after which somebody asks
        assert (await admit(store, "next", TEAM), store.used_nusd) == ("epoch-1", 0)


async def test_who_has_no_allowance_left_waits_for_a_slow_redis_as_long_as_anyone(
    server: Server, tmp_path: Path
) -> None:
    async with opened(server, tmp_path, timeout_s=30) as store:
        server.client.client_pause(60_000, all=False)
        assert await admit(store, "r0", TEAM, nusd=ALLOWANCE_NUSD) == LOCAL_EPOCH
        waiting = asyncio.create_task(admit(store, "r1", TEAM))
        done, _ = await asyncio.wait([waiting], timeout=2 * PATIENCE_SECONDS)
        assert not done
        server.client.client_unpause()
        assert await waiting == "epoch-1"


async def test_the_truth_is_on_disk_before_a_redis_that_stands_still_has_it(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path / "alive", timeout_s=30) as store:
        server.client.client_pause(60_000, all=False)
        assert await admit(store, "r0", TEAM) == LOCAL_EPOCH
        store.settle(settlement("r0", TEAM))
        # What would be left if the process were killed now.
        shutil.copytree(spool_folder(tmp_path / "alive"), spool_folder(tmp_path / "dead"))
        server.client.client_unpause()
        await until(lambda: not store.unsettled)
    server.client.flushall()
    server.client.set(redis_keys.COUNTERS_WHOLE, "epoch-2")
    assert (replay_dead(tmp_path / "dead", server.client), server.counter()) == (1, (COST_NUSD, 0))


async def test_a_refusal_of_redis_is_a_refusal(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        server.client.hset(TEAM.key, "spent", TEAM.limit)
        assert isinstance(await store.admit(bid("r0", TEAM)), Refused)


# processes that die

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_spool_replay import STRICT, TEAM, admit, opened, settlement, Server, away
from tests.support.redis_server import PrivateRedis
import redis

async def main():
    server = Server(PrivateRedis(sys.argv[1], None), redis.Redis.from_url(sys.argv[1]))
    async with opened(server, Path(sys.argv[2])) as store:
        for n in range(3):
            await admit(store, f"through-{n}", STRICT)
        await away(server, store)
        for n in range(3):
            await admit(store, f"alone-{n}", TEAM)
        store.settle(settlement("through-0", STRICT, epoch="epoch-1"))
        store.settle(settlement("alone-0", TEAM))
        print("under way", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def killed_in_an_outage(server: Server, data_dir: Path) -> Iterator[None]:
    """A process has served with Redis and without, and was killed in mid-answer; Redis is away yet."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.private.url, str(data_dir)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "under way\n"
        yield
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_what_a_killed_process_served_is_booked_by_another_and_its_loose_ends_at_their_bound(
    server: Server, tmp_path: Path
) -> None:
    with killed_in_an_outage(server, tmp_path):
        server.private.start()
        assert replay_dead(tmp_path, server.client) == 0  # it lives
    assert replay_dead(tmp_path, server.client) == 4
    server.client.delete(redis_keys.lease("w1"))
    assert Janitor(server.client).sweep() == 2
    costs = {request_id: (record.status, record.cost_nusd) for request_id, record in server.booked().items()}
    assert costs == {
        "through-0": ("ok", COST_NUSD),
        "through-1": ("abandoned", HOLD_NUSD),
        "through-2": ("abandoned", HOLD_NUSD),
        "alone-0": ("ok", COST_NUSD),
        "alone-1": ("abandoned", HOLD_NUSD),
        "alone-2": ("abandoned", HOLD_NUSD),
    }
    assert (server.counter(TEAM), server.counter(STRICT)) == ((230, 0), (230, 0))
    assert (replay_dead(tmp_path, server.client), Janitor(server.client).sweep(), server.counter()) == (0, 0, (230, 0))


def test_the_janitor_may_be_first(server: Server, tmp_path: Path) -> None:
    with killed_in_an_outage(server, tmp_path):
        server.private.start()
    server.client.delete(redis_keys.lease("w1"))
    assert (Janitor(server.client).sweep(), replay_dead(tmp_path, server.client)) == (3, 4)
    assert server.booked()["through-0"].status == "ok"
    assert (server.counter(TEAM), server.counter(STRICT)) == ((230, 0), (230, 0))


@pytest.mark.parametrize("first", ["replayed", "rebuilt"])
def test_a_redis_that_came_back_empty_has_it_all_once(server: Server, tmp_path: Path, first: str) -> None:
    with killed_in_an_outage(server, tmp_path):
        server.private.start()
    server.client.flushall()
    if first == "replayed":
        assert replay_dead(tmp_path, server.client) == 4
        assert (server.counter(TEAM), server.counter(STRICT)) == ((0, 0), (0, 0))  # the ledger will have it
        for counter, nusd in ((TEAM, 230), (STRICT, 30)):
            server.client.hset(counter.key, "spent", nusd)
    server.client.set(redis_keys.COUNTERS_WHOLE, "epoch-2")
    replay_dead(tmp_path, server.client)
    assert (server.counter(TEAM), server.counter(STRICT)) == ((230, 0), (30, 0))
    assert server.total_nusd() == 260


async def test_what_memory_has_no_room_for_is_on_disk_and_settled_after_its_process(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_admission.MAX_UNSETTLED", 2)
    async with opened(server, tmp_path) as store:
        epochs = [await admit(store, f"r{n}", STRICT) for n in range(5)]
        await away(server, store)
        for n, epoch in enumerate(epochs):
            store.settle(settlement(f"r{n}", STRICT, epoch=epoch))
        assert store.unsettled == 5
        server.private.start()
        await until(lambda: store.spool.waiting == 3)
        assert server.counter(STRICT) == (2 * COST_NUSD, 3 * HOLD_NUSD)
    assert (replay_dead(tmp_path, server.client), server.counter(STRICT)) == (3, (5 * COST_NUSD, 0))


async def test_what_was_put_off_comes_in_portions_and_without_its_answers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_admission._RETRIED_AT_ONCE", 3)
    async with opened(server, tmp_path) as store:
        epochs = [await admit(store, f"r{n}", STRICT) for n in range(10)]
        await away(server, store)
        entry = redis_keys.cache_entry("digest")
        for n, epoch in enumerate(epochs):
            ended = settlement(f"r{n}", STRICT, epoch=epoch)
            store.settle(replace(ended, cache_key=entry, keep_seconds=60, answer=b"x" * 1_000))
        most = 0
        server.private.start()
        async with asyncio.timeout(10):
            while store.unsettled:
                most = max(most, store._store._in_flight)
                await asyncio.sleep(0)
        assert (most, server.counter(STRICT), server.client.exists(entry)) == (3, (10 * COST_NUSD, 0), 0)


# readiness


def asked_of(store: LocalAdmissionStore) -> Callable[[], Awaitable[tuple[int, str, str]]]:
    """Asks for readiness: its status, and what it says of Redis and of the disk."""

    async def nobody(_: object) -> None:
        return None

    model = Target("small", ScriptedProvider(), Circuit(5, 15), Timeouts(1, 1), "small", True)
    dispatcher = Dispatcher({"small": model}, RetryPolicy(1, 0.1, 1), SYSTEM_CLOCK)
    app = FastAPI()
    app.include_router(health_router(store, dispatcher, lambda: None, Telemetry(), nobody))

    async def ready() -> tuple[int, str, str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/health/ready")
        checks = answer.json()["checks"]
        return answer.status_code, checks["redis"], checks["spool"]

    return ready


async def test_readiness_without_redis_is_that_of_what_it_may_spend_alone(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path, when_unavailable="serve") as store:
        ready = asked_of(store)
        assert await ready() == (200, "ok", "empty")
        await away(server, store)
        alone = "Redis cannot be reached; serving within local allowances"
        assert await ready() == (200, alone, "empty")
        await admit(store, "r0", TEAM, nusd=ALLOWANCE_NUSD)
        assert await ready() == (200, alone, "1 requests wait for Redis")
        with pytest.raises(StoreUnavailable):
            await admit(store, "r1", TEAM)
        used_up = "Redis cannot be reached; what may be spent without it is used up"
        assert await ready() == (503, used_up, "1 requests wait for Redis")
        store.settle(settlement("r0", TEAM))
        await back(server, store)
        assert await ready() == (200, "ok", "empty")


async def test_readiness_where_budgets_refuse_needs_redis(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as store:
        ready = asked_of(store)
        epoch = await admit(store, "r0", STRICT)
        await away(server, store)
        store.settle(settlement("r0", STRICT, epoch=epoch))
        assert await ready() == (503, "Redis cannot be reached", "1 requests wait for Redis")
        await back(server, store)
        server.client.delete(redis_keys.COUNTERS_WHOLE)
        assert await ready() == (503, "budget counters are being taken from the ledger", "empty")
