"""Every script's keys lie in one slot: a Redis Cluster runs them all."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import redis

from policies.budget import Budget
from router.processes import follow_parent
from router.stores import redis_keys
from router.stores.admission import Admitted, Bid, CacheHit, Option, Settlement
from router.stores.counters import counter_of, counters_of, window_of
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_budgets import RedisBudgets
from router.stores.redis_connection import RedisConnection
from router.stores.redis_janitor import Janitor
from router.stores.redis_server import _binary
from tests.support.spend import spend_record

SLOTS = 16_384
START_SECONDS = 20
NOW = datetime(2030, 11, 15, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
BUDGETS = (
    Budget(id="team:t:month", subject_kind="team", subject_id="t", limit=1_000),
    Budget(id="key:k:minute:tokens", subject_kind="key", subject_id="k", limit=1_000, unit="tokens", window="minute"),
    Budget(id="user:t/*:day", subject_kind="user", subject_id="t/*", limit=1_000, window="day"),
)
COUNTERS = counters_of([counter_of(b, window_of(b, NOW), "ann" if b.is_of_every_user else None) for b in BUDGETS])
ENTRY = redis_keys.cache_entry("digest")


def _free_port() -> int:
    """One whose bus, 10,000 above it, is free, too."""
    for _ in range(1_000):
        with socket.socket() as own, socket.socket() as bus:
            own.bind(("127.0.0.1", 0))
            port = int(own.getsockname()[1])
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node that has every slot."""
    folder, port = tmp_path_factory.mktemp("cluster"), _free_port()
    process = _start(folder, port)
    try:
        with redis.Redis(port=port) as client:
            _wait_for(client, process)
            client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
            deadline_s = time.monotonic() + START_SECONDS
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline_s, "the cluster does not come up"
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [_binary(), "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "",
         "--dir", str(folder)],
        stdout=subprocess.DEVNULL, preexec_fn=follow_parent,
    )  # fmt: skip


def _wait_for(client: redis.Redis, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            time.sleep(0.02)
    pytest.skip("this redis-server does not start as a node of a cluster")


@pytest.fixture
def client(cluster_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(cluster_url) as client:
        client.flushall()
        yield client


def _bid(request_id: str, *, look_up: bool = False) -> Bid:
    chosen = {"deployment": "small", "deployment_tier": "simple", "reason": "simple"}
    record = spend_record(request_id, started_at_ms=NOW_MS, cost_nusd=0, output_tokens=0).to_json()
    only = Option("small", "simple", 0, 100, 1, 50, 1, 20, 20)
    record_with_options = orjson.dumps(record | {"options": [chosen]})
    return Bid(request_id, record_with_options, NOW_MS, (only,), 1, COUNTERS, (b"",) * 3, ENTRY, look_up)


def _settlement(request_id: str, epoch: str) -> Settlement:
    record = orjson.dumps(spend_record(request_id).to_json())
    return Settlement(request_id, record, True, NOW_MS, epoch, COUNTERS, (30, 20, 30), ENTRY, 60, b"answer")


def test_a_key_of_another_slot_would_be_refused(client: redis.Redis) -> None:
    """The node is one of a cluster indeed: what the other tests pass can fail."""
    with pytest.raises(redis.ResponseError, match=r"CROSSSLOT|same slot|non local key"):
        client.eval("return redis.call('MGET', KEYS[1], KEYS[2])", 2, "one", "another")


async def test_every_script_runs_on_a_cluster(client: redis.Redis, cluster_url: str) -> None:
    budgets = RedisBudgets(client)
    for budget in BUDGETS:
        budgets.seed(budget, lambda *_: {("", 0): 1}, NOW)
    assert budgets.rebuild(BUDGETS, lambda budget, period: {}, NOW)
    connection = await RedisConnection.open(cluster_url, timeout_s=2, scripts=SCRIPTS)
    store = RedisAdmissionStore(connection, "w1")
    await store.start()
    first = await store.admit(_bid("r1", look_up=True))
    assert isinstance(first, Admitted)
    assert (first.nusd, first.tokens) == (120, 70)
    store.reduce("r1", COUNTERS, 110, 60)
    store.settle(_settlement("r1", first.epoch))
    await store.drain(5)
    assert _amounts(client) == [(30, 0), (20, 0), (30, 0)]
    assert await store.admit(_bid("r2", look_up=True)) == CacheHit(b"answer")
    await store.admit(_bid("r3"))

    client.flushall()
    await asyncio.gather(*store._announce())
    store._hold_again()
    assert budgets.rebuild(BUDGETS, lambda budget, period: {}, NOW)
    await connection.execute("PING")
    assert _amounts(client) == [(0, 120), (0, 70), (0, 120)]
    store.settle(_settlement("r1", first.epoch))  # once more, in another epoch
    await store.drain(5)
    await store.close()

    assert Janitor(client).sweep() == 1
    assert _amounts(client) == [(150, 0), (90, 0), (150, 0)]
    client.delete(redis_keys.SPEND_STREAM)  # the ledger has it
    assert budgets.reconcile(BUDGETS[0], lambda budget, period: {("", 0): 120}, NOW) == 1
    states = budgets.states(BUDGETS, NOW, {BUDGETS[2].id: ["ann"]})
    assert [state.spent for state in states] == [120, 90, 150]


def _amounts(client: redis.Redis) -> list[tuple[int, int]]:
    found = [client.hmget(key, "spent", "reserved") for key in COUNTERS.keys]
    return [(int(spent or 0), int(reserved or 0)) for spent, reserved in found]


def test_all_keys_lie_in_one_slot() -> None:
    keys = [
        redis_keys.COUNTERS_WHOLE, redis_keys.RECOUNT, redis_keys.SPEND_STREAM, redis_keys.WORKERS,
        redis_keys.cache_entry("d}"), redis_keys.pending("{w}"), redis_keys.lease("w"), redis_keys.abandoned("{r}"),
        redis_keys.booked("r"), redis_keys.budget_counter("team:{t}:month", "2026-11", "{ann}"),
    ]  # fmt: skip
    assert len({redis.crc.key_slot(key.encode()) for key in keys}) == 1
