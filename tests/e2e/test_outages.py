"""What becomes of requests when Redis, SQL or a process of ours is away for a while."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.support.asking import ask, error_code, request_id
from tests.support.server import Server, serving, two_models, wait_until
from tests.support.upstream import Upstream, answer

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = two_models(module_upstream.base_url, redis={"timeout_seconds": 1})
    with serving(tmp_path_factory.mktemp("outages"), config) as server:
        yield server


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    made = server.create_key("faults")
    server.set_budget("teams", "faults", "1000")
    return str(made["secret"])


@pytest.fixture
def http(server: Server, key: str, upstream: Upstream) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20.0) as client:
        yield client


def eventually_released(server: Server) -> None:
    """Nothing is held any more, and the budget's counter agrees with the ledger to the nano-dollar."""
    server.booked()
    spent_nusd = sum(row["cost_nusd"] for row in server.ledger() if row["team_id"] == "faults")
    assert server.counter("team:faults:month") == (spent_nusd, 0)


def steady_load(http: httpx.Client, seconds: float, client_count: int = 8) -> list[httpx.Response]:
    """What so many clients are answered in so long, each asking one question after the other."""
    until_s = time.monotonic() + seconds

    def ask_on(_: int) -> list[httpx.Response]:
        answers = []
        while time.monotonic() < until_s:
            answers.append(ask(http))
            time.sleep(0.05)
        return answers

    with ThreadPoolExecutor(client_count) as pool:
        return [response for answers in pool.map(ask_on, range(client_count)) for response in answers]


def answers_again(http: httpx.Client) -> None:
    wait_until("requests are served again", lambda: ask(http).status_code == 200, 10)
    wait_until("the server is ready again", lambda: http.get("/health/ready").status_code == 200, 10)


def assert_clean(answers: list[httpx.Response]) -> None:
    """Each was answered, or refused for want of a store in the form of the design."""
    assert {response.status_code for response in answers} <= {200, 503}
    for response in answers:
        if response.status_code == 503:
            assert error_code(response) == "store_unavailable"
            assert int(response.headers["retry-after"]) >= 1


def test_a_redis_that_stops_answering_is_an_outage(server: Server, http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(steady_load, http, 2.5)
        time.sleep(0.3)
        server.pause("redis")
        try:
            wait_until("it is not ready", lambda: not server.readiness()[0], 5)
            checks = server.readiness()[1]["checks"]
            answers = load.result()
        finally:
            server.resume("redis")
    assert "cannot be reached" in checks["redis"]
    assert checks["sql"] == "ok"
    assert_clean(answers)
    assert {response.status_code for response in answers} == {200, 503}
    answers_again(http)
    eventually_released(server)


def test_a_redis_that_dies_is_started_again(server: Server, http: httpx.Client) -> None:
    (before,) = server.pids("redis")
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(steady_load, http, 2.0)
        time.sleep(0.3)
        server.kill("redis")
        answers = load.result()
    assert_clean(answers)
    answers_again(http)
    assert server.pids("redis") != [before]
    eventually_released(server)
    booked = {row["request_id"] for row in server.ledger()}
    assert {request_id(response) for response in answers if response.status_code == 200} <= booked


def test_an_answer_during_an_outage_is_booked_after_it(server: Server, http: httpx.Client, upstream: Upstream) -> None:
    upstream.on("small", answer("late", delay_s=1.5))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, http)
        upstream.wait_for_call()
        server.pause("redis")
        try:
            response = asked.result()
        finally:
            server.resume("redis")
    assert response.status_code == 200
    assert server.record(request_id(response), 15)["status"] == "ok"
    eventually_released(server)


def test_a_locked_ledger_delays_records_only(server: Server, http: httpx.Client) -> None:
    with closing(sqlite3.connect(server.data_dir / "ledger.sqlite", timeout=10)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN EXCLUSIVE")
        seen = server.booked()
        answers = steady_load(http, 1.5)
        assert {response.status_code for response in answers} == {200}
        assert len(server.ledger()) == seen
        connection.execute("ROLLBACK")
    wanted = {request_id(response) for response in answers}
    assert wanted <= {row["request_id"] for row in server.new_records(seen, len(wanted), 20)}
    eventually_released(server)


def test_an_absent_ledger_is_said_and_delays_records_only(server: Server, http: httpx.Client) -> None:
    assert ask(http).status_code == 200
    path = server.data_dir / "ledger.sqlite"
    server.kill("writer")  # it holds the file open, and a moved file stays a file
    path.rename(path.with_suffix(".away"))
    try:
        answers = [ask(http) for _ in range(20)]
    finally:
        path.with_suffix(".away").rename(path)
    assert {response.status_code for response in answers} == {200}
    wanted = {request_id(response) for response in answers}
    wait_until("the records arrive", lambda: wanted <= {row["request_id"] for row in server.ledger()}, 20)
    eventually_released(server)


@pytest.mark.parametrize("role", ["worker", "writer"])
def test_a_process_that_dies_is_started_again(server: Server, http: httpx.Client, role: Any) -> None:
    (before,) = server.pids(role)
    server.kill(role)
    wait_until("it is back", lambda: server.pids(role) not in ([], [before]), 10)
    server.wait_until_ready()
    response = ask(http)
    assert server.record(request_id(response), 15)["status"] == "ok"
