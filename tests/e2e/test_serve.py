"""`parsimony serve` as whoever operates it sees it: what it prints, refuses, logs, and forgets."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.server import UPSTREAM_KEY, Server, serving, two_models, wait_until
from tests.support.upstream import Upstream, status

pytestmark = pytest.mark.e2e

FORGOTTEN_S = 7.0
"""How long a running server may go on accepting a key that was revoked."""
PROMPT = "a prompt that is nobody's business"


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = two_models(module_upstream.base_url)
    config["logging"] = {"format": "json", "level": "debug", "requests": True}
    with serving(tmp_path_factory.mktemp("serve"), config) as server:
        yield server


def status_with(server: Server, secret: str) -> int:
    """What the server answers to a request with this key."""
    asked = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=headers, timeout=10).status_code


def field_of(printed: str, name: str) -> str:
    """One fact of a command's output."""
    found = re.search(rf"^{name} +(\S+)$", printed, re.MULTILINE)
    assert found is not None, printed
    return found.group(1)


# ---- starting -------------------------------------------------------------------------------------------------


def test_the_first_start_prints_a_key_that_works_and_how_to_use_it(server: Server) -> None:
    printed = server.stdout()
    assert f"Parsimony serves {server.url}/v1" in printed
    assert printed.count("Admin key") == 1
    assert f'OpenAI(base_url="{server.url}/v1", api_key="{server.admin_key}")' in printed
    assert f"curl {server.url}/v1/chat/completions" in printed
    assert status_with(server, server.admin_key) == 200


def test_it_says_that_real_models_serve(server: Server) -> None:
    assert "Models: small (simple), large (complex)" in server.stdout()
    assert "SIMULATED" not in server.stdout()


def test_a_second_server_on_the_same_data_is_refused(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path, two_models("http://127.0.0.1:9/v1", data_dir=str(server.data_dir)))
    other.spawn()
    assert other.wait() == 2
    assert other.log().splitlines() == [f"parsimony: {server.data_dir}: another parsimony serve is using this data_dir"]
    assert other.processes() == []
    assert status_with(server, server.admin_key) == 200


def test_a_port_that_is_taken_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with serving(tmp_path, two_models("http://127.0.0.1:9/v1"), start=False) as server:
        with socket.create_server(("127.0.0.1", server.port)):
            server.spawn()
            assert server.wait() == 1
        assert server.processes() == []
        (line,) = server.log().splitlines()
        assert f"127.0.0.1:{server.port}" in line
        assert "already in use" in line
        assert "Admin key" not in server.stdout()


@pytest.mark.parametrize(
    ("changes", "key", "problem"),
    [
        ({"servre": {}}, "servre", "is not a known key"),
        ({"breaker": {"failures": 0}}, "breaker.failures", "greater than or equal to 1; found 0"),
        ({"baseline": "gpt-0"}, "baseline", "gpt-0"),
        ({"classifier": {"name": "oracle"}}, "classifier.name", "found 'oracle'; allowed: heuristic"),
        ({"simulate": "never", "deployments": []}, "deployments", "at least 1 item"),
    ],
)
def test_a_wrong_configuration_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], key: str, problem: str
) -> None:
    with serving(tmp_path, two_models("http://127.0.0.1:9/v1", **changes), start=False) as server:
        server.spawn()
        assert server.wait() == 2
        assert server.processes() == []
        assert problem in server.log()
        assert f"{server.config_path}: {key}: " in server.log()
        assert "Traceback" not in server.log()


def test_a_worker_that_cannot_use_the_configuration_ends_the_server(tmp_path: Path) -> None:
    """It was good at the start, and is not when a worker starts anew."""
    with serving(tmp_path, two_models("http://127.0.0.1:9/v1")) as server:
        server.configure(two_models("http://127.0.0.1:9/v1", classifier={"name": "oracle"}))
        server.kill("worker")
        assert server.wait() == 2
        assert server.processes() == []
        assert f"{server.config_path}: classifier.name: found 'oracle'" in server.log()
        assert "a worker cannot use the configuration" in server.log()
        assert "Traceback" not in server.log()


def test_a_configuration_that_is_not_there_is_said(tmp_path: Path) -> None:
    with serving(tmp_path, two_models("http://127.0.0.1:9/v1"), start=False) as server:
        server.config_path.unlink()
        server.spawn()
        assert server.wait() == 2
        assert f"{server.config_path}: cannot be read" in server.log()


def test_simulated_models_say_so_everywhere(tmp_path: Path) -> None:
    config = two_models("http://127.0.0.1:9/v1", simulate="always")
    with serving(tmp_path, config) as server:
        assert "SIMULATED models, no provider is called: small (simple), large (complex)" in server.stdout()
        # Nobody is meant to use the simulated models' own address.
        assert re.findall(r"http://127\.0\.0\.1:\d+(?=/v1)", server.stdout()) == [server.url] * 3
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.admin_key)
        models: Any = client.models.list()
        assert [model.model_extra["parsimony"]["simulated"] for model in models] == [True, True, True]
        for streamed in (False, True):
            asked = {"model": "auto", "messages": [{"role": "user", "content": "你好"}], "stream": streamed}
            headers = {"authorization": f"Bearer {server.admin_key}"}
            response = httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=headers, timeout=10)
            assert response.headers["x-parsimony-simulated"] == "true"
            assert "[simulated" in response.text
        record = server.record(response.headers["x-parsimony-request-id"])
        assert record["simulated"] == 1
        assert server.terminate() == 0
        assert server.processes() == []


# ---- keys -----------------------------------------------------------------------------------------------------


def test_a_key_made_on_the_command_line_works_at_once_and_is_gone_once_revoked(
    server: Server, upstream: Upstream
) -> None:
    assert server.command("teams", "create", "ops").returncode == 0
    made = server.command("keys", "create", "--team", "ops", "--name", "nightly")
    key_id, secret = field_of(made.stdout, "key"), field_of(made.stdout, "secret")
    assert status_with(server, secret) == 200
    listed = server.command("keys", "list").stdout
    assert key_id in listed
    assert secret not in listed
    assert server.command("keys", "revoke", key_id).returncode == 0
    wait_until("the key is refused", lambda: status_with(server, secret) == 401, FORGOTTEN_S)


def test_a_rotated_key_hands_over(server: Server, upstream: Upstream) -> None:
    old = server.create_key("rotating")
    assert status_with(server, old["secret"]) == 200
    made = server.command("keys", "rotate", old["id"])
    assert status_with(server, field_of(made.stdout, "secret")) == 200
    wait_until("the old key is refused", lambda: status_with(server, old["secret"]) == 401, FORGOTTEN_S)


def test_a_budget_set_on_a_running_server_holds(server: Server, upstream: Upstream) -> None:
    key = server.create_key("capped")
    assert status_with(server, key["secret"]) == 200
    server.set_budget("keys", key["id"], "0.000001")
    wait_until("the budget refuses", lambda: _refused(server, key["secret"]), FORGOTTEN_S)
    server.set_budget("keys", key["id"], None)
    wait_until("the key works again", lambda: not _refused(server, key["secret"]), FORGOTTEN_S)


def _refused(server: Server, secret: str) -> bool:
    asked = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"authorization": f"Bearer {secret}", "cache-control": "no-cache"}
    return httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=headers).status_code == 429


def test_what_is_stored_of_a_key_does_not_authenticate(server: Server) -> None:
    stored = hashlib.sha256(server.admin_key.encode()).hexdigest()
    assert stored.encode() in (server.data_dir / "ledger.sqlite").read_bytes() + _wal(server)
    for secret in (stored, server.admin_key[:-1], server.admin_key.upper(), "x" * 5_000):
        assert status_with(server, secret) == 401
    for header in ("Basic " + server.admin_key, server.admin_key, "Bearer", "Bearer \u00e9"):
        headers = {"authorization": header.encode("latin-1")}
        asked = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}
        response = httpx.post(f"{server.url}/v1/chat/completions", json=asked, headers=headers)  # type: ignore[arg-type]
        assert response.status_code == 401


def _wal(server: Server) -> bytes:
    path = server.data_dir / "ledger.sqlite-wal"
    return path.read_bytes() if path.exists() else b""


def test_secrets_are_not_written_to_disk(server: Server, upstream: Upstream) -> None:
    secret = server.create_key("discreet")["secret"]
    assert status_with(server, secret) == 200
    server.booked()
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret.encode() not in content, path
            assert UPSTREAM_KEY.encode() not in content, path


# ---- last, since they look back at everything -----------------------------------------------------------------


def test_the_log_holds_no_key_and_no_prompt_even_at_debug(server: Server, upstream: Upstream) -> None:
    upstream.default = status(401, f"no such key: {UPSTREAM_KEY}")
    assert status_with(server, server.create_key("unlucky")["secret"]) == 502
    wrong = "sk-parsimony-" + "w" * 43
    assert status_with(server, wrong) == 401
    server.booked()
    log = server.log()
    assert '"request_id":"chatcmpl-' in log  # there is something to look through
    secrets = {server.admin_key, UPSTREAM_KEY, wrong, *re.findall(r"sk-parsimony-\S{20,}", log)}
    assert [secret for secret in secrets if secret in log] == []
    assert PROMPT not in log


def test_every_line_of_a_json_log_is_json(server: Server) -> None:
    lines = server.log().splitlines()
    assert [line for line in lines if not (line.startswith("{") and line.endswith("}"))] == []


def test_a_restart_prints_no_key_and_keeps_everything(server: Server, upstream: Upstream) -> None:
    key = server.create_key("lasting")
    assert status_with(server, key["secret"]) == 200
    before = server.booked()
    printed = len(server.stdout())
    server.restart()
    again = server.stdout()[printed:]
    assert f"Parsimony serves {server.url}/v1" in again
    assert "key" not in again.lower()
    assert status_with(server, key["secret"]) == 200
    assert server.booked() == before + 1
    assert server.ledger()[-1]["cache"] == "hit", "the cache did not last"
