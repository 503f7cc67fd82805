"""The private Redis keeps its data, belongs to one user, and goes with its owner."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from router.errors import ConfigError, StoreUnavailable
from router.stores.redis_server import EmbeddedRedis, embedded_url, socket_path
from tests.support.redis_server import redis_server
from tests.support.server import wait_until


def client(folder: Path) -> redis.Redis:
    return redis.Redis.from_url(embedded_url(folder))


def test_data_survive_a_stop(tmp_path: Path) -> None:
    with redis_server(tmp_path), client(tmp_path) as one:
        one.set("k", "v")
    with redis_server(tmp_path), client(tmp_path) as other:
        assert other.get("k") == b"v"
    assert not socket_path(tmp_path).exists()


def test_data_survive_a_kill(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, client(tmp_path) as one:
        one.set("k", "v")
        os.kill(one.info("server")["process_id"], signal.SIGKILL)
        while server.server.running:
            pass
        server.start()
        assert one.get("k") == b"v"


def test_what_is_answered_is_written_and_put_on_disk_beside_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    synced: list[str] = []

    def fsync(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        if len(synced) in (2, 3):
            raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr("router.stores.redis_server._SYNC_SECONDS", 0.01)
    monkeypatch.setattr(os, "fsync", fsync)
    with redis_server(tmp_path), client(tmp_path) as one:
        assert one.config_get("appendfsync") == {"appendfsync": "no"}
        one.set("k", "v" * 1_000)
        (written,) = [path for path in tmp_path.rglob("appendonly*") if path.is_file()]
        assert written.stat().st_size > 1_000
        wait_until("it has been synced, and in vain, and again", lambda: len(synced) > 4)
    assert set(synced) == {str(written)}
    assert caplog.text.count(f"{written} cannot be put on disk") == 1


def test_it_listens_on_no_port_and_to_its_user_alone(tmp_path: Path) -> None:
    with redis_server(tmp_path), client(tmp_path) as one:
        assert one.config_get("port") == {"port": "0"}
        assert one.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis_server(tmp_path):
        assert stat.S_IMODE(socket_path(tmp_path).stat().st_mode) == 0o700


def test_a_server_left_over_is_ended_before_another_starts(tmp_path: Path) -> None:
    orphan = EmbeddedRedis(tmp_path)
    orphan.start()
    with client(tmp_path) as one:
        one.set("k", "v")
    try:
        with redis_server(tmp_path), client(tmp_path) as other:
            assert other.get("k") == b"v"
            assert not orphan.running
    finally:
        orphan.stop()


def test_a_path_too_long_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    assert len(os.fsencode(socket_path(folder))) <= 100
    with redis_server(folder), client(folder) as one:
        assert one.ping()
    assert not socket_path(folder).parent.exists()


def test_a_folder_that_cannot_be_made_is_said_and_stopping_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = EmbeddedRedis(tmp_path / "file" / ("x" * 100))
    with pytest.raises((ConfigError, OSError)):
        server.start()
    server.stop()
    server.stop()


def test_a_redis_that_does_not_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"garbage, not commands")
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"did not start; see .*redis\.log"):
        server.start()
    server.stop()


def test_one_that_stands_still_is_ended_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.stores.redis_server.STOP_SECONDS", 0.2)
    server = EmbeddedRedis(tmp_path)
    server.start()
    with client(tmp_path) as one:
        os.kill(one.info("server")["process_id"], signal.SIGSTOP)
    server.stop()
    assert not server.running
