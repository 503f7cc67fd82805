"""Whatever is killed, whenever: every answered request is in the ledger once, and the counters agree with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.support.server import Server, serving, two_models, wait_until
from tests.support.upstream import Received, Step, Upstream, answer, stream

pytestmark = pytest.mark.e2e

TEAM = "loaded"
REQUEST_COUNT = 300
CLIENT_COUNT = 24
HIT_AFTER = 100
RECOVERY_S = 40.0
"""A dead worker's lease lapses after ten seconds; the rest is for a slow machine."""


def varied(request: Received) -> list[Step]:
    """Answers whose usage, and so whose cost, differs from prompt to prompt; some take a while."""
    number = int(request.prompt.split()[-1])
    usage = {"prompt_tokens": 10 + number, "completion_tokens": 1 + number % 7}
    if request.stream:
        return stream(["one", " two", " three"], pause_s=0.01 * (number % 9), usage=usage)(request)
    return answer("one two three", delay_s=0.02 * (number % 5), usage=usage)(request)


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = two_models(module_upstream.base_url)
    config["server"] = {"drain_seconds": 6, "workers": 2}
    with serving(tmp_path_factory.mktemp("no-loss"), config) as server:
        yield server


@pytest.fixture(scope="module")
def key(server: Server) -> dict[str, Any]:
    made = server.create_key(TEAM)
    server.set_budget("teams", TEAM, "10000")
    server.set_budget("keys", made["id"], "10000")
    return made


@dataclass(slots=True)
class Load:
    """What clients of the server saw. `begun` holds the ids of answers of which at least the head came."""

    server: Server
    secret: str
    begun: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    failed: int = 0
    under_way: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with ThreadPoolExecutor(CLIENT_COUNT) as pool:
            for worker in range(CLIENT_COUNT):
                pool.submit(self._ask_in_turn, range(worker, REQUEST_COUNT, CLIENT_COUNT))

    def _ask_in_turn(self, numbers: range) -> None:
        headers = {"authorization": f"Bearer {self.secret}"}
        with httpx.Client(base_url=self.server.url, headers=headers, timeout=20.0) as client:
            for number in numbers:
                try:
                    self._ask(client, number)
                except httpx.TransportError:
                    self.failed += 1
                    time.sleep(0.1)

    def _ask(self, client: httpx.Client, number: int) -> None:
        # Every tenth is a repeat, which the cache may answer; two in five stream.
        asked = {
            "model": "auto",
            "messages": [{"role": "user", "content": f"Question {number if number % 10 else 0}"}],
            "stream": number % 5 < 2,
        }
        with client.stream("POST", "/v1/chat/completions", json=asked) as response:
            if response.status_code != 200:
                self.failed += 1
                return
            request_id = response.headers["x-parsimony-request-id"]
            self.begun.append(request_id)
            response.read()
            self.answered.append(request_id)
            if len(self.answered) >= HIT_AFTER:
                self.under_way.set()


def kill_writer_and_worker(server: Server) -> None:
    server.kill("writer")
    server.kill("worker")


def kill_everything(server: Server) -> None:
    server.kill_all()
    server.start()


def kill_supervisor(server: Server) -> None:
    server.kill("serve")
    assert server.process is not None
    server.process.wait(5)
    wait_until("the port is free", lambda: not server.pids("worker"), 15)
    server.start()


@pytest.mark.parametrize("kill", [kill_writer_and_worker, kill_everything, kill_supervisor])
def test_nothing_answered_is_lost(
    server: Server, key: dict[str, Any], upstream: Upstream, kill: Callable[[Server], None]
) -> None:
    upstream.default = varied
    seen = {row["request_id"] for row in server.ledger()}
    load = Load(server, key["secret"])
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(load.run)
        assert load.under_way.wait(30), f"only {len(load.answered)} answers"
        kill(server)
        done.result()
    server.wait_until_ready()
    server.booked(RECOVERY_S)

    rows = [row for row in server.ledger() if row["request_id"] not in seen]
    booked = [row["request_id"] for row in rows]
    assert load.failed > 0, "the blow fell after the load"
    assert len(load.answered) >= HIT_AFTER
    assert sorted(set(load.begun) - set(booked)) == []
    assert len(booked) == len(set(booked))
    answered = set(load.answered)
    assert {row["status"] for row in rows if row["request_id"] in answered} <= {"ok", "abandoned"}
    paid = [row for row in rows if row["cost_nusd"] > 0]
    assert len(paid) >= len([row for row in rows if row["cache"] == "miss" and row["status"] == "ok"])
    assert_counters_agree(server, key["id"])


def assert_counters_agree(server: Server, key_id: str) -> None:
    """Spent is what the ledger says, to the nano-dollar; nothing is reserved, and nothing went astray."""
    spent_nusd = sum(row["cost_nusd"] for row in server.ledger() if row["team_id"] == TEAM)
    assert server.counter(f"team:{TEAM}:month") == (spent_nusd, 0)
    assert server.counter(f"key:{key_id}:month") == (spent_nusd, 0)
    with server.redis() as client:
        assert client.xlen("{parsimony}:spend:dead") == 0


def open_stream(server: Server, secret: str, first: threading.Barrier) -> tuple[str, str]:
    """(request id, everything that was streamed); waits at `first` once the first bytes are there."""
    asked = {"model": "small", "messages": [{"role": "user", "content": str(threading.get_ident())}], "stream": True}
    headers = {"authorization": f"Bearer {secret}", "cache-control": "no-store"}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=asked, headers=headers) as response:
        parts = response.iter_bytes()
        text = next(parts)
        first.wait(10)
        text += b"".join(parts)
        return response.headers["x-parsimony-request-id"], text.decode()


def test_sigterm_lets_running_streams_finish(server: Server, key: dict[str, Any], upstream: Upstream) -> None:
    upstream.default = stream([f" {number}" for number in range(10)], pause_s=0.2)
    barrier = threading.Barrier(9)
    with ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(open_stream, server, key["secret"], barrier) for _ in range(8)]
        barrier.wait(10)
        assert server.process is not None
        server.process.terminate()
        time.sleep(0.3)
        with pytest.raises(httpx.ConnectError):  # not queued for a worker that will never come
            httpx.get(f"{server.url}/health/live", timeout=1.0)
        ended = [future.result() for future in streams]
    assert server.wait(10) == 0, server.log_tail()
    assert server.processes() == []
    assert list((server.data_dir / "redis").glob("*.sock")) == []
    assert all(text.endswith("data: [DONE]\n\n") for _, text in ended)
    rows = {row["request_id"]: row for row in server.ledger()}
    assert [rows[request_id]["status"] for request_id, _ in ended] == ["ok"] * 8
    server.start()
    assert server.pending() == 0
    assert_counters_agree(server, key["id"])


def test_sigterm_cuts_streams_that_outlast_the_bound(server: Server, key: dict[str, Any], upstream: Upstream) -> None:
    upstream.default = stream(["one", " two"], cut_after=2, cut="hang")
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(open_stream, server, key["secret"], barrier)
        barrier.wait(10)
        started_s = time.monotonic()
        assert server.terminate(20) == 0, server.log_tail()
        assert time.monotonic() - started_s < 12
        with pytest.raises(httpx.TransportError):
            future.result()
    assert server.processes() == []
    newest = server.ledger()[-1]
    assert (newest["status"], newest["usage_source"]) == ("cancelled", "counted")
    assert newest["output_tokens"] == 2
