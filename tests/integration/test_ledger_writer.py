"""From a real Redis stream to a real ledger: whatever breaks in between, each request is booked once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from sqlalchemy import Engine

from policies.spend import SpendRecord
from router.errors import StoreUnavailable
from router.stores.ledger_writer import LedgerWriter
from router.stores.sql_engine import create_ledger_engine, migrate
from router.stores.sql_ledger import SqlLedger
from tests.support.redis_server import redis_client, redis_server
from tests.support.spend import spend_record

STREAM = "{parsimony}:spend"
DEAD = STREAM + ":dead"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_client(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def client(server: redis.Redis) -> redis.Redis:
    server.flushall()
    return server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    return SqlLedger(engine)


def writer(client: redis.Redis, ledger: Any, consumer: str = "a", **options: Any) -> LedgerWriter:
    return LedgerWriter(client, ledger, STREAM, consumer=consumer, **{"linger_seconds": 0.01, **options})


def settle(client: redis.Redis, *records: SpendRecord) -> None:
    for record in records:
        client.xadd(STREAM, {"record": orjson.dumps(record.to_json())})


def booked(ledger: SqlLedger) -> tuple[int, int]:
    costs = [record.cost_nusd for part in ledger.records(0, 2**53) for record in part]
    return len(costs), sum(costs)


class Killed(BaseException):
    """What no handler catches, as no handler catches SIGKILL."""


class Flawed:
    """A ledger that does as `script` says, one word a call: ok, down, killed before or after the commit."""

    def __init__(self, ledger: SqlLedger, *script: str) -> None:
        self._ledger = ledger
        self._script = list(script)

    def append(self, records: Sequence[SpendRecord]) -> int:
        word = self._script.pop(0) if self._script else "ok"
        if word == "down":
            raise StoreUnavailable("the database is down")
        if word == "killed before":
            raise Killed
        new = self._ledger.append(records)
        if word == "killed after":
            raise Killed
        return new


def test_all_that_was_settled_is_booked_and_leaves_the_stream(client: redis.Redis, ledger: SqlLedger) -> None:
    records = [spend_record(f"req_{i}", cost_nusd=i) for i in range(25)]
    settle(client, *records)
    moving = writer(client, ledger, batch_size=10)
    assert moving.drain()
    assert booked(ledger) == (25, sum(range(25)))
    assert ledger.get("req_24") == records[24]
    assert client.xlen(STREAM) == client.xpending(STREAM, "ledger")["pending"] == 0
    assert (moving.counts.booked, moving.counts.repeated, moving.counts.dead) == (25, 0, 0)


def test_an_empty_stream_is_drained(client: redis.Redis, ledger: SqlLedger) -> None:
    assert writer(client, ledger).drain()


@pytest.mark.parametrize("moment", ["killed before", "killed after"])
@pytest.mark.parametrize("successor", ["a", "b"])
def test_a_writer_that_dies_is_followed_by_one_that_books_once(
    client: redis.Redis, ledger: SqlLedger, moment: str, successor: str
) -> None:
    settle(client, *(spend_record(f"req_{i}", cost_nusd=1) for i in range(25)))
    with pytest.raises(Killed):
        writer(client, Flawed(ledger, "ok", moment), batch_size=10).drain()
    next_writer = writer(client, ledger, successor, batch_size=10, claim_idle_ms=0)
    assert next_writer.drain()
    assert booked(ledger) == (25, 25)
    assert client.xlen(STREAM) == 0
    assert next_writer.counts.repeated == (10 if moment == "killed after" else 0)


def test_a_live_writers_entries_are_left_alone(client: redis.Redis, ledger: SqlLedger) -> None:
    settle(client, spend_record())
    with pytest.raises(Killed):
        writer(client, Flawed(ledger, "killed before")).drain()
    assert not writer(client, ledger, "b", claim_idle_ms=60_000).drain(timeout_seconds=0.1)
    assert booked(ledger) == (0, 0)


def test_a_ledger_that_is_down_loses_nothing(client: redis.Redis, ledger: SqlLedger) -> None:
    settle(client, *(spend_record(f"req_{i}", cost_nusd=1) for i in range(5)))
    moving = writer(client, Flawed(ledger, "down", "down"))
    assert not moving.drain(timeout_seconds=0.05)
    assert (client.xlen(STREAM), booked(ledger)) == (5, (0, 0))
    assert moving.drain()
    assert (client.xlen(STREAM), booked(ledger)) == (0, (5, 5))
    assert moving.counts.failed == 2


def test_a_ledger_that_goes_down_later_is_offered_the_same_records_again(
    client: redis.Redis, ledger: SqlLedger
) -> None:
    moving = writer(client, Flawed(ledger, "ok", "down"), claim_idle_ms=60_000)
    for name in ("first", "second"):
        settle(client, spend_record(name))
        assert moving.drain(timeout_seconds=5)
    assert booked(ledger)[0] == 2
    assert (moving.counts.failed, moving.counts.repeated) == (1, 0)


def test_what_is_no_record_is_set_aside_and_the_rest_goes_on(client: redis.Redis, ledger: SqlLedger) -> None:
    bad = {
        "not JSON": b"{",
        "missing fields": b'{"request_id": "x"}',
        "no object": b"[1]",
        "a wrong type": orjson.dumps(spend_record("typed").to_json() | {"cost_nusd": "12"}),
        "too large": orjson.dumps(spend_record("large").to_json() | {"cost_nusd": 2**63}),
        "an id that is no text": orjson.dumps(spend_record().to_json() | {"request_id": 7}),
        "what nothing is looked up by": orjson.dumps(spend_record("list").to_json() | {"team_id": ["support"]}),
        "nothing required": orjson.dumps(spend_record("null").to_json() | {"team_id": None}),
    }
    settle(client, spend_record("first"))
    for raw in bad.values():
        client.xadd(STREAM, {"record": raw})
    client.xadd(STREAM, {"other": "field"})
    settle(client, spend_record("last"))
    moving = writer(client, ledger)
    assert moving.drain()
    assert booked(ledger)[0] == 2
    dead = [fields for _, fields in client.xrange(DEAD)]
    assert sorted(fields[b"record"] for fields in dead) == sorted([*bad.values(), b""])
    assert all(fields[b"error"] for fields in dead)
    assert moving.counts.dead == len(bad) + 1


def test_a_record_of_a_newer_worker_is_booked_without_what_is_new(client: redis.Redis, ledger: SqlLedger) -> None:
    client.xadd(STREAM, {"record": orjson.dumps(spend_record().to_json() | {"carbon_grams": 3})})
    assert writer(client, ledger).drain()
    assert ledger.get("req_1") == spend_record()


def test_an_entry_deleted_while_pending_stops_nobody(client: redis.Redis, ledger: SqlLedger) -> None:
    settle(client, spend_record("gone"), spend_record("kept"))
    with pytest.raises(Killed):
        writer(client, Flawed(ledger, "killed before")).drain()
    client.xdel(STREAM, client.xrange(STREAM)[0][0])
    assert writer(client, ledger).drain()
    assert ledger.get("kept") is not None
    assert client.xpending(STREAM, "ledger")["pending"] == 0


def test_a_stream_that_vanished_is_made_anew(client: redis.Redis, ledger: SqlLedger) -> None:
    moving = writer(client, ledger)
    assert moving.drain()
    client.flushall()
    settle(client, spend_record())
    assert moving.drain()
    assert booked(ledger)[0] == 1


def test_several_writers_share_the_work(client: redis.Redis, ledger: SqlLedger) -> None:
    settle(client, *(spend_record(f"req_{i}", cost_nusd=1) for i in range(200)))
    stop = threading.Event()
    writers = [writer(client, ledger, name, batch_size=20) for name in "abc"]
    threads = [threading.Thread(target=one.run, args=(stop,)) for one in writers]
    for thread in threads:
        thread.start()
    settle(client, *(spend_record(f"req_{i}", cost_nusd=1) for i in range(200, 400)))
    assert writer(client, ledger, "d").drain()
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert booked(ledger) == (400, 400)


def test_redis_that_goes_away_and_comes_back(tmp_path: Path, ledger: SqlLedger) -> None:
    stop = threading.Event()
    with redis_server(tmp_path / "redis") as server, redis.Redis.from_url(server.url) as client:
        moving = writer(client, ledger)
        thread = threading.Thread(target=moving.run, args=(stop,))
        settle(client, spend_record("before"))
        server.stop()
        thread.start()
        while not moving.counts.failed:
            stop.wait(0.01)
        server.start()
        settle(client, spend_record("after"))
        while booked(ledger)[0] < 2:
            stop.wait(0.01)
        stop.set()
        thread.join(timeout=10)
    assert not thread.is_alive()
