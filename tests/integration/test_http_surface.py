"""The application with its real stores, over HTTP: models by right, health, metrics, and errors of one form."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from router.app import create_app
from router.bootstrap import open_services
from router.clock import SYSTEM_CLOCK
from router.config import load_config
from router.services import Services
from router.stores.sql_engine import migrate
from tests.support.administration import write_config
from tests.support.redis_server import PrivateRedis, redis_server

NOBODY = "http://127.0.0.1:9/v1"
"""Where no simulated models listen: the discard port."""
ASK = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


@dataclass(slots=True)
class Surface:
    http: httpx.AsyncClient
    services: Services
    redis: PrivateRedis
    address: tuple[str, int]

    async def error(self, method: str, path: str, **request: Any) -> tuple[int, str | None, str]:
        """(status, code, message) of an answer that must be an error in OpenAI's form."""
        answer = await self.http.request(method, path, **request)
        assert answer.headers["content-type"] == "application/json"
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return answer.status_code, error["code"], error["message"]

    def key(self, *models: str, role: Any = "application") -> dict[str, str]:
        """The header of a new key."""
        _, secret = self.services.admin.directory.create_key("support", "k", role=role, allowed_models=models or None)
        return {"authorization": f"Bearer {secret}"}


@pytest.fixture
async def surface(tmp_path: Path) -> AsyncIterator[Surface]:
    with redis_server(tmp_path / "redis") as server:
        path = write_config(tmp_path, server.url)
        text = path.read_text(encoding="utf-8").replace("timeout_seconds: 2", "timeout_seconds: 0.3")
        path.write_text(text + "server: {max_body_bytes: 2000, drain_seconds: 1}\nretries: {max_attempts: 1}\n")
        config = load_config(path)
        async with open_services(config, simulated_url=NOBODY) as services:
            migrate(services.admin.engine)
            services.admin.directory.create_team("support")
            services.admin.budgets.rebuild((), services.admin.used_in, SYSTEM_CLOCK.now())
            async with _served(services) as address:
                base_url = f"http://{address[0]}:{address[1]}"
                async with httpx.AsyncClient(base_url=base_url, timeout=10) as http:
                    yield Surface(http, services, server, address)


def client_of_a_new_app(
    surface: Surface, headers: dict[str, str] | None = None, *, host: str = "127.0.0.1"
) -> httpx.AsyncClient:
    """A client at `host` of an app that nobody has asked anything yet."""
    transport = httpx.ASGITransport(create_app(surface.services), client=(host, 1))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://here", headers=headers)


@asynccontextmanager
async def _served(services: Services) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(services), lifespan="off", log_config=None, http="httptools")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve(sockets=[listener]))
        try:
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.005)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await task


# models


async def test_models_are_those_that_the_key_may_use(surface: Surface) -> None:
    async def listed(headers: dict[str, str]) -> list[str]:
        answer = (await surface.http.get("/v1/models", headers=headers)).json()
        assert answer["object"] == "list"
        return [model["id"] for model in answer["data"]]

    assert await listed(surface.key()) == ["auto", "small", "large"]
    assert await listed(surface.key("small")) == ["auto", "small"]
    assert await listed(surface.key("auto")) == ["auto"]


async def test_one_model_says_what_it_is(surface: Surface) -> None:
    headers = surface.key("small")
    alias = (await surface.http.get("/v1/models/auto", headers=headers)).json()
    assert (alias["object"], alias["owned_by"], alias["parsimony"]["simulated"]) == ("model", "parsimony", True)
    small = (await surface.http.get("/v1/models/small", headers=headers)).json()
    assert (small["owned_by"], small["parsimony"]["tier"]) == ("vllm", "simple")
    assert (await surface.error("GET", "/v1/models/large", headers=headers))[:2] == (404, "model_not_found")
    assert (await surface.error("GET", "/v1/models/a/b", headers=headers))[:2] == (404, "model_not_found")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer no"}, {"authorization": "Basic x"}])
async def test_models_want_a_key(surface: Surface, headers: dict[str, str]) -> None:
    assert (await surface.error("GET", "/v1/models", headers=headers))[:2] == (401, "invalid_api_key")


# errors


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/v1/nothing"), ("POST", "/v1/embeddings")])
async def test_an_unknown_path_is_404(surface: Surface, method: str, path: str) -> None:
    status, _, message = await surface.error(method, path)
    assert (status, f"{method} {path}" in message) == (404, True)


async def test_a_wrong_method_is_named(surface: Surface) -> None:
    status, _, message = await surface.error("GET", "/v1/chat/completions")
    assert (status in (400, 405), message) == (True, "Use POST for /v1/chat/completions; found GET.")
    assert (await surface.error("DELETE", "/v1/models", headers=surface.key()))[0] == 405


async def test_a_body_that_is_too_large_is_refused_however_it_comes(surface: Surface) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    for content in (b"x" * 2_001, chunks()):
        answer = await surface.error("POST", "/v1/chat/completions", content=content, headers=surface.key())
        assert answer[:2] == (413, "request_too_large")
    assert (await surface.http.get("/health/live")).status_code == 200


async def test_an_admins_body_is_bounded_and_nobody_elses_is_read(surface: Surface) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1_000

    admin, other = surface.key(role="admin"), surface.key()
    for content in (b" " * 70_000, chunks()):
        refused = await surface.error("POST", "/admin/v1/teams", content=content, headers=admin)
        assert refused[:2] == (413, "request_too_large")
    small = {"headers": other, "content": b"{"}
    assert (await surface.error("POST", "/admin/v1/teams", **small))[:2] == (403, "admin_required")
    assert (await surface.error("POST", "/admin/v1/teams", content=b"{"))[:2] == (401, "invalid_api_key")


@pytest.mark.parametrize("body", [b"", b"{"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    surface: Surface, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr("router.api.asgi.BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection(*surface.address)
    key = surface.key(role="admin")["authorization"].encode()
    writer.write(b"POST /admin/v1/teams HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n" % key)
    writer.write(b"Content-Length: 100\r\n\r\n" + body)
    async with asyncio.timeout(5):
        assert b" 408 " in await reader.readline()
        assert b'"request_too_slow"' in await reader.readuntil(b"}}")
    writer.close()


async def test_a_chunked_body_is_read_to_its_end(surface: Surface) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, 60, 7):
            yield b'{"model":"nothing","messages":[{"role":"user","content":""}]}'[at : at + 7]

    answer = await surface.error("POST", "/v1/chat/completions", content=chunks(), headers=surface.key())
    assert answer[:2] == (404, "model_not_found")


async def test_a_client_that_leaves_in_its_body_harms_nobody(surface: Surface) -> None:
    _, writer = await asyncio.open_connection(*surface.address)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    assert (await surface.http.get("/health/live")).json() == {"status": "ok"}


async def test_an_upstream_that_is_down_is_told_and_booked(surface: Surface) -> None:
    answer = await surface.http.post("/v1/chat/completions", json=ASK, headers=surface.key())
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unavailable")
    assert answer.headers["x-parsimony-request-id"].startswith("chatcmpl-")
    metrics = (await surface.http.get("/metrics")).text
    assert 'parsimony_requests_total{cache="miss",deployment="none",reason="simple",status="error"' in metrics


async def test_a_fault_of_ours_has_the_form_of_an_error_too(surface: Surface) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    app = create_app(surface.services)
    app.rest.add_api_route("/fault", fail)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        answer = await http.get("/fault")
    assert (answer.status_code, answer.json()["error"]["type"], "secret" in answer.text) == (500, "server_error", False)


async def test_the_admin_api_is_there_as_soon_as_somebody_asks_for_it(surface: Surface) -> None:
    async with client_of_a_new_app(surface, surface.key(role="admin")) as http:
        paths = ["/admin/v1/teams", "/v1/models", "/health/live"] * 3
        assert {answer.status_code for answer in await asyncio.gather(*map(http.get, paths))} == {200}
    async with client_of_a_new_app(surface) as http:
        documented = (await http.get("/openapi.json")).json()["paths"]
        assert {"/admin/v1/teams", "/v1/models", "/health/ready"} <= set(documented)
    async with client_of_a_new_app(surface) as http:
        assert (await http.get("/docs")).status_code == 200
    async with client_of_a_new_app(surface) as http:
        assert (await http.get("/admin/v1/teams")).status_code == 401


async def test_an_admin_api_that_is_broken_breaks_nothing_else(
    surface: Surface, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    headers = surface.key(role="admin")
    async with client_of_a_new_app(surface, headers) as http:
        with monkeypatch.context() as broken:
            broken.setitem(sys.modules, "router.api.admin", None)
            answer = await http.get("/admin/v1/teams")
            assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
            assert (await http.get("/v1/models")).status_code == 200
        assert (await http.get("/admin/v1/teams")).status_code == 200
    assert "the admin API cannot be had" in caplog.text


def test_a_worker_starts_without_the_admin_api_and_reports() -> None:
    code = "import sys, router.cli.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "router.cli.worker" in loaded
    assert [name for name in loaded if name.startswith(("router.api.admin", "router.reports", "rich"))] == []


# health and metrics


async def test_it_is_ready_while_everything_is_there(surface: Surface) -> None:
    answer = await surface.http.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.json()["checks"] == {
        "redis": "ok",
        "spool": "empty",
        "sql": "ok",
        "upstreams": {"small": "ok", "large": "ok"},
    }


async def test_it_is_not_ready_without_redis_and_alive_all_the_same(surface: Surface) -> None:
    headers = surface.key()
    surface.redis.stop()
    async with asyncio.timeout(5):
        while surface.services.admission.ready:
            await asyncio.sleep(0.01)
    answer = await surface.http.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["redis"]) == (503, "Redis cannot be reached")
    assert (await surface.http.get("/health/live")).status_code == 200
    refused = await surface.error("POST", "/v1/chat/completions", json=ASK, headers=headers)
    assert refused[:2] == (503, "store_unavailable")
    surface.redis.start()
    surface.services.admin.budgets.rebuild(
        (), surface.services.admin.used_in, SYSTEM_CLOCK.now()
    )  # as the writer would, once it has the counters from the ledger
    async with asyncio.timeout(5):
        while (await surface.http.get("/health/ready")).status_code != 200:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("host", ["203.0.113.9", "2001:db8::1", "testclient", "::ffff:8.8.8.8", "172.32.0.1"])
async def test_metrics_from_afar_take_an_admin_key(surface: Surface, host: str) -> None:
    async with client_of_a_new_app(surface, host=host) as http:
        forged = {"x-forwarded-for": "127.0.0.1"}
        assert (await http.get("/metrics", headers=forged)).status_code == 401
        assert (await http.get("/metrics", headers=surface.key())).status_code == 403
        assert (await http.get("/metrics", headers=surface.key(role="admin"))).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "::ffff:192.168.0.1", "fe80::1%eth0"])
async def test_metrics_from_nearby_take_none(surface: Surface, host: str) -> None:
    async with client_of_a_new_app(surface, host=host) as http:
        assert (await http.get("/metrics")).status_code == 200


def _ruin(engine: Engine) -> None:
    """A folder in the place of the database file."""
    engine.dispose()
    path = Path(engine.url.database or "")
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    path.mkdir()


async def test_a_database_that_is_gone_is_not_described(surface: Surface) -> None:
    _ruin(surface.services.admin.engine)
    answer = await surface.http.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["sql"]) == (503, "cannot be used")
    error = await surface.error("POST", "/v1/chat/completions", json=ASK, headers={"authorization": "Bearer x"})
    assert error == (503, "store_unavailable", "the database cannot be used")


async def test_metrics_are_what_prometheus_reads(surface: Surface) -> None:
    await surface.http.post("/v1/chat/completions", json=ASK, headers=surface.key())
    answer = await surface.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    (requests,) = families["parsimony_requests"].samples
    assert (requests.value, requests.labels["team"], requests.labels["status"]) == (1, "support", "error")
    buckets = [s for s in families["parsimony_request_duration_seconds"].samples if s.name.endswith("_bucket")]
    assert (buckets[-1].labels["le"], buckets[-1].value) == ("+Inf", 1)
    assert families["parsimony_unsettled_requests"].samples[0].value >= 0
    assert {sample.labels["deployment"] for sample in families["parsimony_circuit_open"].samples} == {"small", "large"}
    assert families["parsimony_cost_usd"].samples[0].value == 0
