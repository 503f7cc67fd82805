"""The hot endpoint as the server sees it: messages in, messages out."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from router.api.asgi import WATCH_AFTER_SECONDS, ClientGone, _Watch, chat_completions, read_body, send_error
from router.errors import BudgetExhausted, RequestTooLarge, UpstreamRejected, UpstreamUnavailable
from tests.support.pipeline_bench import SECRET, PipelineBench
from tests.support.scripted_provider import Hangs, ScriptedProvider, completion, stream_of

BODY = orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
STREAM = orjson.dumps(orjson.loads(BODY) | {"stream": True})
DISCONNECT = {"type": "http.disconnect"}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Wire:
    """One HTTP exchange: `parts` come in, then silence until `hang_up`."""

    def __init__(self, *parts: dict[str, Any]) -> None:
        self._parts = list(parts)
        self._hung_up = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    @property
    def unread(self) -> int:
        return len(self._parts)

    def hang_up(self) -> None:
        self._hung_up.set()

    async def receive(self) -> dict[str, Any]:
        if self._parts:
            return self._parts.pop(0)
        await self._hung_up.wait()
        return DISCONNECT

    async def send(self, message: dict[str, Any]) -> None:
        assert not (self.sent and self.sent[-1].get("more_body") is False), "sent after the end"
        expected = "http.response.body" if self.sent else "http.response.start"
        assert message["type"] == expected
        self.sent.append({"more_body": False} | message if expected.endswith("body") else message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        assert self.sent[-1]["more_body"] is False, "the answer has no end"
        return b"".join(message["body"] for message in self.sent[1:])


@pytest.fixture
def bench() -> Iterator[PipelineBench]:
    made = PipelineBench({"small": ScriptedProvider(stream_of("Hel", "lo"))})
    yield made
    made.check_books()


def exchange(bench: PipelineBench, wire: Wire, **headers: str) -> asyncio.Task[None]:
    sent = {"authorization": "Bearer pk-test"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {"headers": [(name.encode(), value.encode()) for name, value in sent.items() if value]}
    return asyncio.ensure_future(chat_completions(bench.pipeline, 1_000, scope, wire.receive, wire.send))


def watches() -> list[_Watch]:
    """Those that still exist."""
    return [found for found in gc.get_objects() if isinstance(found, _Watch)]


async def test_a_whole_answer_has_its_length() -> None:
    bench, wire = PipelineBench(), Wire(part(BODY))
    await exchange(bench, wire)
    assert (wire.status, wire.headers[b"content-type"]) == (200, b"application/json")
    assert int(wire.headers[b"content-length"]) == len(wire.body)
    assert orjson.loads(wire.body)["id"] == "chatcmpl-1"
    assert len(wire.sent) == 2


async def test_a_stream_has_none_and_comes_piece_by_piece(bench: PipelineBench) -> None:
    wire = Wire(part(STREAM))
    await exchange(bench, wire)
    assert b"content-length" not in wire.headers
    assert len(wire.sent) > 4
    assert wire.body.endswith(b"data: [DONE]\n\n")


async def test_a_body_may_come_in_pieces() -> None:
    wire = Wire(*[part(BODY[at : at + 5], more=True) for at in range(0, len(BODY), 5)], part(b""))
    await exchange(PipelineBench(), wire)
    assert wire.status == 200


@pytest.mark.parametrize(
    ("header", "calls"), [("no-cache", 2), ("no-store", 2), ("No-Store, max-age=0", 2), ("max-age=0", 1), ("", 1)]
)
async def test_cache_control_is_heard(header: str, calls: int) -> None:
    bench = PipelineBench()
    for _ in range(2):
        wire = Wire(part(BODY))
        await exchange(bench, wire, cache_control=header)
        assert wire.status == 200
    assert bench.calls == calls


async def test_a_list_of_headers_may_come_in_several_lines() -> None:
    bench = PipelineBench()
    bench.principals[SECRET] = replace(bench.principals[SECRET], trusted=True)
    lines = [
        (b"authorization", b"Bearer pk-test"), (b"x-parsimony-tags", b"batch, nightly"), (b"x-parsimony-tags", b""),
        (b"cache-control", b"No-Store"), (b"x-parsimony-tags", b"eval"), (b"cache-control", b"max-age=0"),
    ]  # fmt: skip
    for _ in range(2):
        wire = Wire(part(BODY))
        await chat_completions(bench.pipeline, 1_000, {"headers": lines}, wire.receive, wire.send)
        assert wire.status == 200
    assert bench.calls == 2
    assert [record["tags"] for record in bench.records()] == [",batch,eval,nightly,"] * 2


# errors


async def error_of(bench: PipelineBench, wire: Wire, **headers: str) -> tuple[int, Any]:
    await exchange(bench, wire, **headers)
    assert int(wire.headers[b"content-length"]) == len(wire.body)
    assert wire.headers[b"content-type"] == b"application/json"
    error = orjson.loads(wire.body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return wire.status, error["code"]


@pytest.mark.parametrize("parts", [[part(b"x" * 1_001)], [part(b"x" * 600, True)] * 2, [part(b"x" * 600, True)] * 99])
async def test_a_body_that_is_too_large_is_refused(parts: list[dict[str, Any]]) -> None:
    assert await error_of(PipelineBench(), Wire(*parts)) == (413, "request_too_large")


async def test_what_the_pipeline_raises_is_answered() -> None:
    assert await error_of(PipelineBench(), Wire(part(BODY)), authorization="") == (401, "invalid_api_key")
    assert await error_of(PipelineBench(), Wire(part(b"{"))) == (400, None)
    down = ScriptedProvider(UpstreamUnavailable("down"))
    assert await error_of(PipelineBench({"small": down, "large": down}), Wire(part(BODY))) == (
        502,
        "upstream_unavailable",
    )


@pytest.mark.parametrize("authorization", ["", "Bearer unknown", "Basic cGs="])
async def test_nothing_is_read_for_who_has_no_key(bench: PipelineBench, authorization: str) -> None:
    pieces = [part(b"x" * 600, more=True)] * 3
    wire = Wire(*pieces)
    assert await error_of(bench, wire, authorization=authorization) == (401, "invalid_api_key")
    assert wire.unread == len(pieces)


async def test_a_budget_that_is_exhausted_says_when_to_come_back() -> None:
    wire = Wire(part(BODY))
    assert await error_of(PipelineBench(limit_nusd=1), wire) == (429, "insufficient_quota")
    assert wire.headers[b"x-should-retry"] == b"false"
    assert int(wire.headers[b"retry-after"]) > 0
    assert wire.headers[b"x-parsimony-request-id"] == b"chatcmpl-1"


async def test_a_providers_rejection_is_relayed_as_it_came() -> None:
    body = b'{"error": {"message": "no", "vendor": 1}}'
    wire = Wire(part(BODY))
    await exchange(PipelineBench({"small": ScriptedProvider(UpstreamRejected("m", status=422, body=body))}), wire)
    assert (wire.status, wire.body) == (422, body)


async def test_a_fault_of_ours_is_answered_without_its_innards() -> None:
    wire = Wire(part(BODY))
    status, _ = await error_of(PipelineBench({"small": ScriptedProvider(RuntimeError("secret"))}), wire)
    assert (status, b"secret" in wire.body) == (500, False)


async def test_an_error_in_mid_stream_is_sent_as_an_event_once() -> None:
    broken = ScriptedProvider([*stream_of("Hel")[:1], UpstreamUnavailable("broke off")])
    wire = Wire(part(STREAM))
    await exchange(PipelineBench({"small": broken}), wire)
    assert (wire.status, b'"code":"upstream_unavailable"' in wire.body.split(b"\n\n")[-2]) == (200, True)


# clients that leave


async def test_a_client_that_leaves_before_its_body_is_whole_is_not_answered(bench: PipelineBench) -> None:
    wire = Wire(part(BODY[:10], more=True), DISCONNECT)
    await exchange(bench, wire)
    assert (wire.sent, bench.store.asked) == ([], [])


@pytest.mark.parametrize("parts", [[], [part(BODY[:10], more=True)]])
async def test_a_body_that_does_not_come_is_not_waited_for(
    bench: PipelineBench, monkeypatch: pytest.MonkeyPatch, parts: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("router.api.asgi.BODY_SECONDS", WATCH_AFTER_SECONDS + 0.05)
    async with asyncio.timeout(5):
        assert await error_of(bench, Wire(*parts)) == (408, "request_too_slow")
    assert bench.store.asked == []


async def test_after_a_slow_body_a_client_that_leaves_is_noticed_and_a_slow_answer_is_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.api.asgi.BODY_SECONDS", WATCH_AFTER_SECONDS + 0.2)
    bench = PipelineBench({"small": ScriptedProvider(Hangs)})
    wire = Wire(part(BODY[:10], more=True))
    receive, late = wire.receive, [part(BODY[10:])]

    async def slow_receive() -> dict[str, Any]:
        if wire.unread or not late:
            return await receive()
        await asyncio.sleep(WATCH_AFTER_SECONDS + 0.05)
        return late.pop()

    monkeypatch.setattr(wire, "receive", slow_receive)
    task = exchange(bench, wire)
    await asyncio.sleep(2 * WATCH_AFTER_SECONDS + 0.4)
    assert not task.done()
    wire.hang_up()
    async with asyncio.timeout(5):
        await task
    assert (wire.sent, bench.record()["status"]) == ([], "cancelled")
    bench.check_books()


async def test_a_client_that_leaves_in_mid_stream_ends_the_call() -> None:
    bench = PipelineBench({"small": ScriptedProvider([*stream_of("Hel")[:1], Hangs])})
    wire = Wire(part(STREAM))
    task = exchange(bench, wire)
    async with asyncio.timeout(5):
        while len(wire.sent) < 2:
            await asyncio.sleep(0.001)
        wire.hang_up()
        await task
    assert bench.record()["status"] == "cancelled"
    bench.check_books()


async def test_a_client_that_left_at_once_is_noticed_all_the_same() -> None:
    bench = PipelineBench({"small": ScriptedProvider(Hangs)})
    wire = Wire(part(BODY))
    wire.hang_up()
    async with asyncio.timeout(WATCH_AFTER_SECONDS + 5):
        await exchange(bench, wire)
    assert (wire.sent, bench.record()["status"]) == ([], "cancelled")
    bench.check_books()


async def test_a_longer_request_leaves_nothing_for_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all requests are longer; what each left behind once made a busy worker half as large again."""
    monkeypatch.setattr("router.api.asgi.WATCH_AFTER_SECONDS", 0.0)
    told = asyncio.Event()
    bench = PipelineBench({"small": ScriptedProvider([stream_of("Hel")[0], told, *stream_of("lo")[1:]])})
    wire = Wire(part(STREAM))
    gc.collect()
    gc.disable()
    try:
        task = exchange(bench, wire)
        async with asyncio.timeout(5):
            while not any(watch._task for watch in watches()):
                await asyncio.sleep(0)
            told.set()
            await task
        await asyncio.sleep(0)
        assert watches() == []
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("script", "limit_nusd", "status"), [(b"no answer", None, 502), (completion(), 1, 429), (Hangs, None, None)]
)
async def test_nor_does_one_that_fails_is_refused_or_left(script: Any, limit_nusd: int | None, status: Any) -> None:
    """Its error holds the frames that it came through, and they hold the request."""
    provider = ScriptedProvider(script)
    bench = PipelineBench({"small": provider, "large": provider}, limit_nusd=limit_nusd)

    async def ask_once() -> None:
        wire = Wire(part(BODY))
        task = exchange(bench, wire)
        if status is None:
            wire.hang_up()
        async with asyncio.timeout(5):
            await task
        assert wire.sent == [] if status is None else wire.status == status

    await ask_once()
    gc.collect()
    gc.disable()
    try:
        await ask_once()
        await asyncio.sleep(0)
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_a_server_that_stops_says_so_and_settles() -> None:
    bench = PipelineBench({"small": ScriptedProvider(Hangs)})
    wire = Wire(part(BODY))
    task = exchange(bench, wire)
    async with asyncio.timeout(5):
        while not bench.calls:
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (wire.status, orjson.loads(wire.body)["error"]["code"]) == (503, "shutting_down")
    assert bench.record()["status"] == "cancelled"
    bench.check_books()


# pieces


async def test_reading_a_body() -> None:
    assert await read_body(Wire(part(b"abc")).receive, 3) == b"abc"
    assert await read_body(Wire(part(b"ab", True), part(b"c")).receive, 3) == b"abc"
    assert await read_body(Wire({"type": "http.request"}).receive, 3) == b""
    with pytest.raises(RequestTooLarge, match="more than the 3 bytes"):
        await read_body(Wire(part(b"ab", True), part(b"cd", True)).receive, 3)
    with pytest.raises(ClientGone):
        await read_body(Wire(DISCONNECT).receive, 3)


async def test_an_error_on_its_own() -> None:
    wire = Wire()
    await send_error(wire.send, BudgetExhausted("m", retry_after_s=1.5))
    assert (wire.status, wire.headers[b"retry-after"]) == (429, b"2")
