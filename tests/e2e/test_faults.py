"""What becomes of requests when providers or clients misbehave."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.support.asking import ask, error_code, events, question, request_id
from tests.support.server import Server, deployment, serving, two_models
from tests.support.upstream import (
    Behaviour,
    Upstream,
    answer,
    close,
    garbled,
    hang,
    page,
    raw,
    reset,
    status,
    stream,
    wrong_length,
)

pytestmark = pytest.mark.e2e

OPEN_S = 1.0
TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def server(module_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = module_upstream.base_url
    brisk = {"connect_seconds": 1, "first_token_seconds": TIMEOUT_S, "total_seconds": 2}
    config = two_models(url)
    config["deployments"] += [
        *(deployment(name, url, timeouts=brisk) for name in ("first", "second", "third", "brisk")),
        deployment("fresh", url),
        deployment("nowhere", "http://127.0.0.1:9/v1"),
    ]
    config["aliases"] = {
        "auto": {"deployments": ["small", "large"]},
        "chain": {"deployments": ["first", "second", "third"]},
    }
    config["retries"] = {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 2}
    config["breaker"] = {"failures": 3, "open_seconds": OPEN_S}
    with serving(tmp_path_factory.mktemp("faults"), config) as server:
        yield server


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    made = server.create_key("faults")
    server.set_budget("teams", "faults", "1000")
    return str(made["secret"])


@pytest.fixture
def http(server: Server, key: str, upstream: Upstream) -> Iterator[httpx.Client]:
    """A client of the server; circuits that the test before may have opened are closed again."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20.0) as client:
        _close_circuits(client)
        upstream.reset()
        yield client


def _close_circuits(client: httpx.Client) -> None:
    states = client.get("/health/ready").json()["checks"]["upstreams"]
    for name in [name for name, state in states.items() if state != "ok" and name != "nowhere"]:
        assert ask(client, model=name).status_code == 200, f"the circuit of {name} stays {states[name]}"


def eventually_released(server: Server) -> None:
    """Nothing is held any more, and the budget's counter agrees with the ledger to the nano-dollar."""
    server.booked()
    spent_nusd = sum(row["cost_nusd"] for row in server.ledger() if row["team_id"] == "faults")
    assert server.counter("team:faults:month") == (spent_nusd, 0)


# ---- providers ------------------------------------------------------------------------------------------------


BEFORE_THE_FIRST_BYTE = (
    ("500", status(500)),
    ("408", status(408)),
    ("html page", page(503)),
    ("reset", reset()),
    ("closed without a word", close()),
    ("half a head", raw(b"HTTP/1.1 2", "close")),
    ("another protocol", raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close")),
)


@pytest.mark.parametrize(
    ("streamed", "failure"),
    [
        *(pytest.param(False, failure, id=f"{name}, whole") for name, failure in BEFORE_THE_FIRST_BYTE),
        *(pytest.param(True, failure, id=f"{name}, stream") for name, failure in BEFORE_THE_FIRST_BYTE),
        pytest.param(False, wrong_length(), id="body shorter than promised"),
    ],
)
def test_a_failure_before_the_first_byte_is_tried_again(
    server: Server, http: httpx.Client, upstream: Upstream, failure: Behaviour, streamed: bool
) -> None:
    # Each answer ends its connection: a failure on a kept one may be its age, and does not count.
    final = {"connection": "close"}
    upstream.on("fresh", answer(headers=final), failure, answer("at last", headers=final))
    ask(http, model="fresh", stream=streamed)
    response = ask(http, model="fresh", stream=streamed)
    assert response.status_code == 200, response.text
    assert len(upstream.received) == 3
    record = server.record(request_id(response))
    assert (record["attempts"], record["status"]) == (2, "ok")
    assert record["detail"]["attempts"][0]["error"]


@pytest.mark.parametrize("failure", [pytest.param(reset(), id="reset"), pytest.param(close(), id="closed")])
def test_a_request_that_kills_its_provider_is_sent_to_few_connections(
    http: httpx.Client, upstream: Upstream, failure: Behaviour
) -> None:
    upstream.on("small", answer(delay_s=0.3))
    with ThreadPoolExecutor(8) as pool:  # leaves eight connections that are kept
        list(pool.map(lambda _: ask(http), range(8)))
    upstream.received = []
    upstream.on("small", failure)
    assert error_code(ask(http)) == "upstream_unavailable"
    assert len(upstream.received) <= 4  # two attempts, each over a kept connection and then a new one


@pytest.mark.parametrize("streamed", [False, True])
def test_a_provider_that_hangs_is_given_up_in_time(
    server: Server, http: httpx.Client, upstream: Upstream, streamed: bool
) -> None:
    upstream.on("brisk", hang())
    started_s = time.monotonic()
    response = ask(http, model="brisk", stream=streamed)
    took_s = time.monotonic() - started_s
    limit_s = TIMEOUT_S if streamed else 2
    assert (response.status_code, error_code(response)) == (504, "upstream_timeout")
    assert 2 * limit_s <= took_s < 2 * limit_s + 1.5  # two attempts
    assert all(request.gone.wait(1) for request in upstream.received)


def test_a_stream_that_stalls_ends_with_an_error_frame(http: httpx.Client, upstream: Upstream) -> None:
    upstream.on("brisk", stream(["one", "two"], cut_after=1, cut="hang"))
    response = ask(http, model="brisk", stream=True)
    assert events(response.text)[-1]["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stream_cut_off_ends_with_an_error_frame(
    server: Server, http: httpx.Client, upstream: Upstream, how: Any
) -> None:
    upstream.on("small", stream(["one ", "two ", "three"], cut_after=2, cut=how, pause_s=0.05))
    asked = question(stream=True)
    response = http.post("/v1/chat/completions", json=asked)
    *chunks, last = events(response.text)
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["one ", "two "]
    assert last["error"]["code"] == "upstream_unavailable"
    record = server.record(request_id(response))
    assert (record["status"], record["error_code"]) == ("error", "upstream_unavailable")
    assert record["usage_source"] == "counted"
    assert record["output_tokens"] == 3  # "one", " two", " "
    assert record["cost_nusd"] > 0
    upstream.on("small", answer("whole"))
    assert "whole" in http.post("/v1/chat/completions", json=asked).text, "a partial answer was cached"


def test_a_stream_is_whole_once_the_provider_says_done(server: Server, http: httpx.Client, upstream: Upstream) -> None:
    upstream.on("brisk", lambda request: [*stream(["one"])(request)[:-1], "hang"])
    started_s = time.monotonic()
    response = ask(http, model="brisk", stream=True)
    assert events(response.text)[-1] == "[DONE]"
    assert time.monotonic() - started_s < 1
    assert server.record(request_id(response))["status"] == "ok"


def test_an_error_that_the_provider_streams_is_passed_on(
    server: Server, http: httpx.Client, upstream: Upstream
) -> None:
    frame = b'data: {"error": {"message": "out of memory", "type": "server_error", "code": "oom"}}\n\n'

    def script(request: Any) -> list[Any]:
        steps = stream(["one"], cut_after=1)(request)[:-1]
        return [*steps, b"%x\r\n%s\r\n" % (len(frame), frame), b"0\r\n\r\n"]

    upstream.on("small", script)
    response = ask(http, stream=True)
    assert events(response.text)[-1]["error"]["code"] == "oom"
    assert server.record(request_id(response))["status"] == "error"


def test_a_provider_without_usage_is_counted(server: Server, http: httpx.Client, upstream: Upstream) -> None:
    upstream.default = answer("one two three", usage=None)
    for streamed in (False, True):
        record = server.record(request_id(ask(http, stream=streamed)))
        assert (record["usage_source"], record["output_tokens"]) == ("counted", 3)
        assert record["input_tokens"] == record["baseline_input_tokens"]


@pytest.mark.parametrize("body", [b'{"id": "x", "choices": [', b"[]", b"null", b"", b"\xff\xfe"])
def test_an_answer_that_is_none_is_an_error(http: httpx.Client, upstream: Upstream, body: bytes) -> None:
    upstream.on("small", garbled(body))
    response = ask(http)
    assert (response.status_code, error_code(response)) == (502, "upstream_unavailable")


def test_a_provider_that_is_not_there_is_unavailable(http: httpx.Client) -> None:
    response = ask(http, model="nowhere")
    assert (response.status_code, error_code(response)) == (502, "upstream_unavailable")


# ---- clients --------------------------------------------------------------------------------------------------


def hang_up(server: Server, key: str, asked: dict[str, Any], after_bytes: bytes = b"") -> float:
    """Sends a request over a socket and closes it, once `after_bytes` have come; when that was."""
    body = json.dumps(asked).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while after_bytes not in received:
            received += connection.recv(65_536)
        if not after_bytes:
            time.sleep(0.2)
    return time.monotonic()


def test_a_client_that_leaves_in_mid_stream_ends_the_call(
    server: Server, key: str, http: httpx.Client, upstream: Upstream
) -> None:
    seen = server.booked()
    upstream.on("small", stream(["one", " two", " three"], pause_s=0.2, cut_after=3, cut="hang"))
    left_s = hang_up(server, key, question(stream=True), after_bytes=b"two")
    call = upstream.received[0]
    assert call.gone.wait(2)
    assert call.closed_s is not None
    assert call.closed_s - left_s < 1
    (record,) = server.new_records(seen, 1)
    assert (record["status"], record["usage_source"]) == ("cancelled", "counted")
    assert 2 <= record["output_tokens"] <= 3
    assert record["input_tokens"] > 0
    assert record["cost_nusd"] == -(-(record["input_tokens"] * 500 + record["output_tokens"] * 1500) // 1)
    eventually_released(server)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_before_the_first_token_ends_the_call(
    server: Server, key: str, http: httpx.Client, upstream: Upstream, streamed: bool
) -> None:
    seen = server.booked()
    upstream.on("small", hang())
    left_s = hang_up(server, key, question(stream=streamed))
    call = upstream.wait_for_call()
    assert call.gone.wait(2)
    assert call.closed_s is not None
    assert call.closed_s - left_s < 1
    (record,) = server.new_records(seen, 1)
    assert (record["status"], record["output_tokens"]) == ("cancelled", 0)
    eventually_released(server)


def test_identical_requests_share_one_call(server: Server, http: httpx.Client, upstream: Upstream) -> None:
    seen = server.booked()
    upstream.on("small", answer("one answer", delay_s=0.5))
    asked = question()
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: http.post("/v1/chat/completions", json=asked), range(64)))
    assert {response.status_code for response in answers} == {200}
    assert len({response.json()["id"] for response in answers}) == 64
    assert len(upstream.received) == 1
    records = server.new_records(seen, 64)
    assert sorted(record["cache"] for record in records) == ["hit"] * 63 + ["miss"]
    assert [record["cost_nusd"] > 0 for record in records].count(True) == 1
    eventually_released(server)


def test_a_shared_call_goes_on_when_its_first_asker_leaves(
    server: Server, key: str, http: httpx.Client, upstream: Upstream
) -> None:
    upstream.on("small", answer("for whoever waits", delay_s=1.0))
    asked = question()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(hang_up, server, key, asked)
        upstream.wait_for_call()
        waiting = pool.submit(lambda: http.post("/v1/chat/completions", json=asked))
        assert waiting.result().json()["choices"][0]["message"]["content"] == "for whoever waits"
    assert len(upstream.received) == 1


def test_askers_of_a_shared_call_that_fails_each_get_their_own(http: httpx.Client, upstream: Upstream) -> None:
    upstream.on("small", status(400, "no"), answer("yes"))
    asked = question()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.post("/v1/chat/completions", json=asked), range(8)))
    assert sorted(response.status_code for response in answers) == [200] * 7 + [400]


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 4096, b"GET\r\n\r\n"])
def test_bytes_that_are_no_request_are_refused(server: Server, http: httpx.Client, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        received = connection.recv(65_536)
    assert received == b"" or received.startswith(b"HTTP/1.1 400")
    assert ask(http).status_code == 200


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b'{"model":"small","messages":[{}]}']
)
def test_a_body_that_is_no_request_is_bad(http: httpx.Client, body: bytes) -> None:
    response = http.post("/v1/chat/completions", content=body)
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_huge_body_is_refused_and_the_server_goes_on(http: httpx.Client) -> None:
    try:
        response = http.post("/v1/chat/completions", content=b"x" * 20_000_000)
    except httpx.TransportError:
        pass  # refused while it was still being sent
    else:
        assert (response.status_code, error_code(response)) == (413, "request_too_large")
    assert ask(http).status_code == 200


def test_a_client_that_sends_slowly_is_answered(server: Server, key: str, http: httpx.Client) -> None:
    body = json.dumps(question()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        for start in range(0, len(request), 16):
            connection.sendall(request[start : start + 16])
            time.sleep(0.01)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def test_an_idle_connection_is_kept_for_the_next_request(server: Server, key: str) -> None:
    """One that the server closes may be closed under a request that has just been sent on it."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    with contextlib.closing(connection):
        for idle_s in (0, 6):  # uvicorn alone would close it after five
            time.sleep(idle_s)
            connection.request("POST", "/v1/chat/completions", json.dumps(question()), headers)
            connection.auto_open = False  # from now on the same connection, or an error
            with connection.getresponse() as response:
                assert response.status == 200
                response.read()


def test_a_client_that_does_not_read_is_given_up(
    server: Server, key: str, http: httpx.Client, upstream: Upstream
) -> None:
    seen = server.booked()
    upstream.on("brisk", stream(["x" * 100_000] * 200))
    body = json.dumps(question("brisk", stream=True)).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        (record,) = server.new_records(seen, 1)  # while the connection is still open
    assert record["status"] in ("cancelled", "error")
    eventually_released(server)
