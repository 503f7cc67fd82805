"""Measuring beside a real server: what is sampled, what it costs, who pays, and what becomes of it in a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.config_shadow import ShadowConfig
from tests.support.asking import ask, events, request_id
from tests.support.budget_load import assert_books_agree
from tests.support.server import Server, serving, two_models, wait_until
from tests.support.upstream import Upstream, answer, hang, stream

pytestmark = pytest.mark.e2e

LARGE_USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}
LARGE_NUSD = 30 * 30_000 + 20 * 60_000  # GPT-4: $30 and $60 a million
SHADOWS = ShadowConfig(share=1).budget()
RECOVERY_S = 45.0
"""A dead worker's lease lapses after ten seconds; the rest is for a slow machine."""
ROUTED = {"moderate_from": 1, "complex_from": 1}
"""Everything is simple: it goes to `small`."""


def configuration(base_url: str, limit_usd: str = "10", **changes: Any) -> dict[str, Any]:
    return two_models(
        base_url,
        shadow={"share": 1, "limit_usd": limit_usd},
        aliases={"auto": ROUTED, "private": {**ROUTED, "shadow": False}, "watched": {**ROUTED, "mode": "observe"}},
        **changes,
    )


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = configuration(module_upstream.base_url, server={"workers": 2})
    with serving(tmp_path_factory.mktemp("shadow"), config) as server:
        server.put_budget("organization", "default", 10**12)
        yield server


@pytest.fixture
def large(upstream: Upstream) -> Upstream:
    upstream.on("large", answer("Deep thoughts.", usage=LARGE_USAGE))
    return upstream


@contextmanager
def client_of(server: Server, team: str) -> Iterator[httpx.Client]:
    secret = server.create_key(team)["secret"]
    server.set_budget("teams", team, "1000")
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {secret}"}, timeout=20.0) as client:
        yield client


def rows_of(server: Server, team: str, kind: str) -> list[dict[str, Any]]:
    return [row for row in server.ledger() if (row["team_id"], row["kind"]) == (team, kind)]


def shadows(server: Server, team: str, count: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
    """The shadows of a team, once there are `count`, and nothing is under way any more."""
    wait_until(f"{count} shadows", lambda: len(rows_of(server, team, "shadow")) >= count, timeout_s)
    server.booked(timeout_s)
    return rows_of(server, team, "shadow")


def test_each_routed_request_is_measured_once_by_what_it_really_takes(server: Server, large: Upstream) -> None:
    count = 16
    with client_of(server, "measured") as client, ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(ask, client, model="auto", max_tokens=50, stream=bool(number % 2)) for number in range(count)
        ]
        asked = [request_id(future.result()) for future in futures]
    rows = shadows(server, "measured", count)
    assert sorted(row["parent_id"] for row in rows) == sorted(asked)
    for row in rows:
        assert (row["deployment"], row["status"], row["reason"]) == ("large", "ok", "shadow")
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (30, 20, "provider")
        assert (row["cost_nusd"], row["baseline_cost_nusd"], row["sample_share"]) == (LARGE_NUSD, 0, 1.0)
    requests = rows_of(server, "measured", "request")
    assert {row["deployment"] for row in requests} == {"small"}
    assert server.counter("team:measured:month") == (sum(row["cost_nusd"] for row in requests), 0)
    assert server.fields(SHADOWS)["spent"] == sum(
        row["cost_nusd"] for row in server.ledger() if row["kind"] == "shadow"
    )
    assert server.counter("organization:default:month") == (sum(row["cost_nusd"] for row in server.ledger()), 0)
    assert_books_agree(server)


def test_what_is_not_to_be_measured_is_not(server: Server, large: Upstream) -> None:
    with client_of(server, "unmeasured") as client:
        ask(client, model="private", max_tokens=50)
        ask(client, model="small", max_tokens=50)
        ask(client, model="large", max_tokens=50)
        ask(client, model="auto", max_tokens=50, n=2)
        client.headers["x-parsimony-shadow"] = "off"
        ask(client, model="auto", max_tokens=50)
        del client.headers["x-parsimony-shadow"]
        for _ in range(2):  # the second is a repeat
            ask(client, model="auto", max_tokens=50, text="Measure this, and once")
    assert len(shadows(server, "unmeasured", 1)) == 1
    assert len(rows_of(server, "unmeasured", "request")) == 7


def test_a_client_that_leaves_measures_nothing_and_one_that_stays_sees_nothing_of_it(
    server: Server, large: Upstream
) -> None:
    large.on("small", stream(["Hi"] * 400, pause_s=0.05), answer("Hi there"))
    with client_of(server, "leaving") as client:
        body = {"model": "auto", "stream": True, "max_tokens": 50, "messages": [{"role": "user", "content": "Leave"}]}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_text())
        row = server.record(response.headers["x-parsimony-request-id"], 20)
        assert row["status"] == "cancelled"
        stayed = ask(client, model="auto", stream=True, max_tokens=50)
    assert events(stayed.text)[-1] == "[DONE]"
    (shadow,) = shadows(server, "leaving", 1)
    assert shadow["parent_id"] == request_id(stayed)


def test_an_alias_that_observes_is_answered_by_the_baseline_and_says_what_routing_would_do(
    server: Server, large: Upstream
) -> None:
    with client_of(server, "watching") as client:
        response = ask(client, model="watched", max_tokens=50)
    assert response.json()["choices"][0]["message"]["content"] == "Deep thoughts."
    row = server.record(request_id(response))
    assert (row["deployment"], row["reason"], row["observed_deployment"]) == ("large", "observed", "small")
    assert (row["cost_nusd"], row["baseline_cost_nusd"]) == (LARGE_NUSD, LARGE_NUSD)
    assert 0 < row["observed_cost_nusd"] < LARGE_NUSD
    told = server.command("explain", request_id(response))
    assert "routing would have sent it to small" in told.stdout, told.stderr
    assert shadows(server, "watching", 0) == []


def test_a_shadow_whose_worker_dies_is_booked_at_what_was_held(server: Server, large: Upstream) -> None:
    large.on("large", hang())
    with client_of(server, "dying") as client:
        asked = ask(client, model="auto", max_tokens=50)
    wait_until("the shadow is under way", lambda: large.calls("large"))
    server.kill("worker")
    wait_until("it serves again", lambda: server.readiness()[0], RECOVERY_S)
    (row,) = shadows(server, "dying", 1, RECOVERY_S)
    assert (row["kind"], row["status"], row["usage_source"]) == ("shadow", "abandoned", "reserved")
    assert (row["parent_id"], row["sample_share"], row["deployment"]) == (request_id(asked), 1.0, "large")
    assert row["cost_nusd"] == row["reserved_nusd"] > 50 * 60_000
    assert_books_agree(server)


def test_what_was_booked_of_all_this_can_be_verified(server: Server) -> None:
    server.booked()
    told = server.command("report", "verify", "--period", "this-year", "--json")
    found = json.loads(told.stdout)
    assert (told.returncode, found["first_differences"]) == (0, [])
    assert found["record_count"] == len(server.ledger()) > 0
    assert set(found["unchecked"]) <= {"booked at its reservation: nobody counted its tokens"}


def test_a_recount_from_the_ledger_finds_the_same(server: Server, large: Upstream) -> None:
    before = server.fields(SHADOWS)["spent"]
    assert before > 0
    with server.redis() as client:
        client.flushall()
    wait_until("the counters are whole again", lambda: server.stores().budgets.whole(), RECOVERY_S)
    assert server.fields(SHADOWS)["spent"] == before
    assert_books_agree(server)


def test_its_own_limit_ends_measuring_and_nothing_else(large: Upstream, tmp_path: Path) -> None:
    limit_nusd = 10 * LARGE_NUSD
    limit_usd = f"0.{limit_nusd:09d}"
    with serving(tmp_path, configuration(large.base_url, limit_usd)) as server, client_of(server, "limited") as client:
        for _ in range(20):
            assert ask(client, model="auto", max_tokens=50).status_code == 200
            wait_until("the shadow has ended", lambda: server.pending() == 0)
        metrics = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.admin_key}"}).text
        server.booked()
        rows = rows_of(server, "limited", "shadow")
        assert 2 <= len(rows) < 10
        assert sum(row["cost_nusd"] for row in rows) <= limit_nusd
        assert f'parsimony_shadows_lost_total{{why="budget"}} {20 - len(rows)}.0' in metrics
        assert_books_agree(server)


def test_the_end_of_the_server_waits_for_no_shadow_and_loses_none(large: Upstream, tmp_path: Path) -> None:
    large.on("large", hang())
    with serving(tmp_path, configuration(large.base_url)) as server, client_of(server, "ending") as client:
        asked = ask(client, model="auto", max_tokens=50)
        wait_until("the shadow is under way", lambda: large.calls("large"))
        assert server.terminate(30) == 0
        (row,) = rows_of(server, "ending", "shadow")
        assert (row["status"], row["parent_id"]) == ("cancelled", request_id(asked))
        assert 0 < row["cost_nusd"] == row["retries_nusd"] < row["reserved_nusd"]
