"""What is on disk until Redis has booked it: one line a request, one file a process, locked while that lives."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import redis

from router.errors import ConfigError, StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import LOCAL_EPOCH, BudgetCounter, Settlement
from router.stores.counters import counters_of
from router.stores.spool import Spool, replay_dead, spool_folder
from tests.support.redis_server import redis_client
from tests.support.spend import spend_record

COUNTER = BudgetCounter(redis_keys.budget_counter("b1", "2026-11"), "usd", 1_000_000)


def settlement(request_id: str, cost: int = 30) -> Settlement:
    return Settlement(
        request_id=request_id,
        record=orjson.dumps(spend_record(request_id, cost_nusd=cost).to_json()),
        admitted=True,
        epoch=LOCAL_EPOCH,
        counters=counters_of([COUNTER]),
        amounts=(cost,),
        cache_key=redis_keys.cache_entry("digest"),
        keep_seconds=60,
        answer=b"\xff what a client was told",
    )


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_client(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def client(shared_client: redis.Redis) -> redis.Redis:
    shared_client.flushall()
    shared_client.set(redis_keys.COUNTERS_WHOLE, "epoch")
    return shared_client


def booked(client: redis.Redis) -> list[tuple[str, int]]:
    records = [orjson.loads(fields[b"record"]) for _, fields in client.xrange(redis_keys.SPEND_STREAM)]
    return [(record["request_id"], record["cost_nusd"]) for record in records]


def spent(client: redis.Redis) -> int:
    return int(client.hget(COUNTER.key, "spent") or 0)


def file_of(data_dir: Path) -> Path:
    (path,) = spool_folder(data_dir).glob("*.spool")
    return path


def test_nothing_of_a_living_process_is_taken(tmp_path: Path, client: redis.Redis) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    assert (replay_dead(tmp_path, client), booked(client)) == (0, [])
    spool.close()
    assert (replay_dead(tmp_path, client), booked(client), spent(client)) == (1, [("r1", 30)], 30)
    assert list(spool_folder(tmp_path).iterdir()) == []


def test_a_file_has_its_name_only_once_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    flock = fcntl.flock

    def seen(file: int, operation: int) -> None:
        found.extend(path.name for path in spool_folder(tmp_path).glob("*.spool"))
        flock(file, operation)

    monkeypatch.setattr("router.stores.spool.fcntl.flock", seen)
    Spool(tmp_path, "w1").close()
    assert found == []


def test_one_name_may_come_back_before_its_last_file_is_settled(tmp_path: Path, client: redis.Redis) -> None:
    for request_id in ("r1", "r2"):
        spool = Spool(tmp_path, "w1")
        spool.keep(settlement(request_id))
        spool.close()
    assert replay_dead(tmp_path, client) == 2
    assert (sorted(booked(client)), spent(client)) == ([("r1", 30), ("r2", 30)], 60)


def test_what_redis_has_booked_is_not_settled_again(tmp_path: Path, client: redis.Redis) -> None:
    spool = Spool(tmp_path, "w1")
    for request_id in ("r1", "r2", "r3"):
        spool.keep(settlement(request_id))
    spool.forget("r2")
    assert spool.waiting == 2
    spool.close()
    assert replay_dead(tmp_path, client) == 2
    assert [request_id for request_id, _ in booked(client)] == ["r1", "r3"]


def test_a_file_of_which_all_is_booked_is_empty_and_goes_with_its_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "w1")
    for round_ in range(3):
        spool.keep(settlement(f"r{round_}"))
        assert file_of(tmp_path).stat().st_size > 0
        spool.forget(f"r{round_}")
        spool.forget("unknown")
        assert (file_of(tmp_path).stat().st_size, spool.waiting) == (0, 0)
    spool.close()
    assert list(spool_folder(tmp_path).iterdir()) == []


def test_the_truth_takes_the_place_of_a_guess_and_no_guess_that_of_the_truth(
    tmp_path: Path, client: redis.Redis
) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1", cost=500), final=False)
    spool.keep(settlement("r2", cost=500), final=False)
    spool.keep(settlement("r1", cost=30))
    size = file_of(tmp_path).stat().st_size
    spool.keep(settlement("r1", cost=30))
    assert file_of(tmp_path).stat().st_size == size
    spool.close()
    replay_dead(tmp_path, client)
    assert (booked(client), spent(client)) == ([("r1", 30), ("r2", 500)], 530)


def test_no_answer_of_a_client_is_on_disk(tmp_path: Path, client: redis.Redis) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    assert b"told" not in file_of(tmp_path).read_bytes()
    assert (file_of(tmp_path).stat().st_mode & 0o777, spool_folder(tmp_path).stat().st_mode & 0o777) == (0o600, 0o700)
    spool.close()
    replay_dead(tmp_path, client)
    assert not client.exists(redis_keys.cache_entry("digest"))


@pytest.mark.parametrize("cut", [1, 10, 400])
def test_a_torn_last_line_is_left_out(
    tmp_path: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1", cost=500), final=False)
    spool.keep(settlement("r1", cost=30))
    path = file_of(tmp_path)
    spool.close()
    os.truncate(path, path.stat().st_size - cut)
    assert replay_dead(tmp_path, client) == 1
    assert (booked(client), spent(client), "ends within a line" in caplog.text) == ([("r1", 500)], 500, True)
    assert not path.exists()


@pytest.mark.parametrize(
    "line", [b"\x00\x00\n", b"{}\n", b'["r3",[]]\n', b'["r3",[8,"a"]]\n', b"[3,null]\n", b'["r3",[true]]\n']
)
def test_a_line_that_nobody_can_read_is_set_aside_and_holds_up_nothing(
    tmp_path: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    path = file_of(tmp_path)
    with path.open("ab") as file:
        file.write(line)
    spool.keep(settlement("r2"))
    spool.close()
    assert replay_dead(tmp_path, client) == 2
    aside = path.with_name(path.name + ".unreadable")
    assert (path.exists(), aside.read_bytes(), str(aside) in caplog.text) == (False, line, True)
    assert (replay_dead(tmp_path, client), spent(client)) == (0, 60)


def test_what_redis_does_not_take_waits_and_the_rest_is_settled_once(
    tmp_path: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, "w1")
    for n in range(250):
        spool.keep(settlement(f"r{n}"))
    spool.close()
    path = file_of(tmp_path)
    client.set(redis_keys.SPEND_STREAM, "no stream")
    assert (replay_dead(tmp_path, client), "100 settlements" in caplog.text, path.exists()) == (0, True, True)
    client.delete(redis_keys.SPEND_STREAM)
    assert (replay_dead(tmp_path, client), path.exists(), spent(client)) == (250, False, 250 * 30)


def test_without_redis_all_stays_on_disk(tmp_path: Path, client: redis.Redis) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    spool.close()
    nobody = redis.Redis.from_url(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(redis.ConnectionError):
        replay_dead(tmp_path, nobody)
    assert (replay_dead(tmp_path, client), spent(client)) == (1, 30)


def test_replaying_twice_books_once(tmp_path: Path, client: redis.Redis) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    path = file_of(tmp_path)
    spool.close()
    copy = path.read_bytes()
    replay_dead(tmp_path, client)
    path.write_bytes(copy)  # as if its process had died before it could remove the file
    assert (replay_dead(tmp_path, client), spent(client)) == (1, 30)


def test_a_full_disk_is_told_once_and_leaves_no_half_line(
    tmp_path: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    whole = os.write
    monkeypatch.setattr("router.stores.spool.os.write", lambda file, line: whole(file, line[:100]))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            spool.keep(settlement("r2"))
    assert (spool.waiting, spool.writable, caplog.text.count("cannot be written")) == (1, False, 1)

    def full(file: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("router.stores.spool.os.write", full)
    with pytest.raises(StoreUnavailable):
        spool.keep(settlement("r2"))
    monkeypatch.setattr("router.stores.spool.os.write", whole)
    spool.keep(settlement("r3"))
    assert spool.writable
    spool.close()
    assert (replay_dead(tmp_path, client), spent(client), "ends within" in caplog.text) == (2, 60, False)


def test_a_spool_that_is_empty_again_takes_more_for_all_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    monkeypatch.setattr("router.stores.spool.os.write", lambda file, line: 0)
    with pytest.raises(StoreUnavailable):
        spool.keep(settlement("r2"))
    spool.forget("r1")
    assert (spool.waiting, spool.writable) == (0, True)
    spool.close()


def test_it_takes_no_more_of_the_disk_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.stores.spool.MAX_SPOOL_BYTES", 4_000)
    spool = Spool(tmp_path, "w1")
    spool.keep(settlement("r1"))
    spool.keep(settlement("r2"))
    with pytest.raises(StoreUnavailable):
        spool.keep(settlement("r3"))
    assert 0 < file_of(tmp_path).stat().st_size <= 4_000
    spool.forget("r1")
    spool.forget("r2")
    spool.keep(settlement("r0"))
    assert spool.writable
    spool.close()


def test_where_there_is_no_folder_nothing_starts(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(ConfigError, match="data_dir"):
        Spool(tmp_path, "w1")
