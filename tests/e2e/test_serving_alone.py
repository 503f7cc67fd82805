"""The server while its Redis is away and its budgets serve: what is answered is booked, and within the allowance."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.asking import ask, error_code, request_id
from tests.support.server import Server, serving, two_models, wait_until
from tests.support.upstream import Upstream

pytestmark = pytest.mark.e2e

ALLOWANCE_NUSD = 1_000_000


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    budgets = {"when_unavailable": "serve", "local_allowance_usd": "0.001"}
    config = two_models(module_upstream.base_url, redis={"timeout_seconds": 1}, budgets=budgets)
    with serving(tmp_path_factory.mktemp("alone"), config) as server:
        yield server


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    made = server.create_key("alone")
    server.set_budget("teams", "alone", "1000")
    server.put_budget("team", "alone", 100_000, unit="requests", window="minute")
    return str(made["secret"])


@pytest.fixture
def http(server: Server, key: str, upstream: Upstream) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20.0) as client:
        yield client


def agreed(server: Server, answered: list[str]) -> None:
    """Each request that was answered is in the ledger, and the budget's counter holds the ledger's sum."""
    server.booked()
    rows = {row["request_id"]: row for row in server.ledger() if row["team_id"] == "alone"}
    assert set(answered) <= rows.keys()
    total = sum(row["cost_nusd"] for row in rows.values())
    assert server.counter("team:alone:month") == (total, 0)


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_answered_without_redis_is_paid_for(server: Server, http: httpx.Client, killed: bool) -> None:
    wait_until("it serves", lambda: ask(http).status_code == 200, 20)
    answered: list[str] = []
    refused: httpx.Response | None = None
    server.pause("redis")
    try:
        while refused is None and len(answered) < 500:
            response = ask(http, max_tokens=20)
            if response.status_code == 200:
                answered.append(request_id(response))
            else:
                refused = response
        assert refused is not None
        assert (refused.status_code, error_code(refused)) == (503, "store_unavailable")
        assert len(answered) > 5
        wait_until("it says so", lambda: "used up" in server.readiness()[1]["checks"]["redis"], 10)
        if killed:
            server.kill("worker")
    finally:
        server.resume("redis")
    wait_until("it serves again", lambda: server.readiness()[0], 30)
    wait_until("it answers", lambda: ask(http).status_code == 200, 10)
    wait_until("nothing waits on disk", lambda: server.readiness()[1]["checks"]["spool"] == "empty", 10)
    agreed(server, answered)
    rows = {row["request_id"]: row for row in server.ledger()}
    assert sum(rows[one]["cost_nusd"] for one in answered) <= ALLOWANCE_NUSD
