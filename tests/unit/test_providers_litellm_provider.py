"""litellm behind our Provider: requests over a real socket, and its exceptions as ours."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from router.errors import (
    UpstreamContextExceeded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.providers import litellm_provider
from router.providers.litellm_provider import LiteLLMEndpoint, LiteLLMProvider, StreamedAnswer, translated

MESSAGES = [{"role": "user", "content": "你好, say hello"}]
ERROR = {"message": "no such thing", "type": "invalid_request_error", "param": "stop", "code": "odd"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


class StandIn:
    """A small provider on loopback; the model's name says what it does: `ok`, `cut`, `endless`, `status-N`."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.authorization: list[str | None] = []
        self.client_gone = asyncio.Event()
        self.base_url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.authorization.append(request.headers.get("authorization"))
        if body["model"].startswith("status-"):
            status = int(body["model"].removeprefix("status-"))
            return web.json_response({"error": ERROR}, status=status, headers={"retry-after": "7"})
        if body.get("stream"):
            return await self._stream(request, body["model"])
        message = {"role": "assistant", "content": "hello"}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        )

    async def _stream(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event(model, {"role": "assistant", "content": "he"}))
        if model == "cut":
            assert request.transport is not None
            request.transport.abort()
            return response
        if model == "endless":
            await self._write_until_gone(response)
            return response
        await response.write(event(model, {"content": "llo"}))
        await response.write(event(model, {}, finish="stop"))
        await response.write(event(model, None, usage=USAGE))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _write_until_gone(self, response: web.StreamResponse) -> None:
        try:
            while True:
                await response.write(event("endless", {"content": "x"}))
                await asyncio.sleep(0.01)
        except ConnectionError:
            self.client_gone.set()


def event(model: str, delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}
    return b"data: " + orjson.dumps({**chunk, **more}) + b"\n\n"


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    server = StandIn()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
async def provider(stand_in: StandIn) -> AsyncIterator[LiteLLMProvider]:
    provider = LiteLLMProvider(LiteLLMEndpoint("claude", "sk-test", stand_in.base_url))
    yield provider
    await provider.close()


def request(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": MESSAGES, **more}


async def chunks_of(provider: LiteLLMProvider, body: dict[str, Any]) -> list[bytes]:
    answer = await provider.open(body, stream=True)
    chunks = []
    while (chunk := await answer.next_chunk()) is not None:
        chunks.append(chunk)
    await answer.close()
    return chunks


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
async def test_a_whole_answer_arrives_in_wire_format(provider: LiteLLMProvider, stand_in: StandIn, prefix: str) -> None:
    answer = await provider.open(request(f"{prefix}/ok", temperature=0.5, max_tokens=9), stream=False)
    body = orjson.loads(await answer.read())
    await answer.close()
    sent = stand_in.bodies[0]
    assert sent.pop("stream", False) is False
    assert sent == request("ok", temperature=0.5, max_tokens=9)
    assert stand_in.authorization == ["Bearer sk-test"]
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "ok",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
async def test_a_stream_arrives_as_events(provider: LiteLLMProvider, stand_in: StandIn, prefix: str) -> None:
    body = request(f"{prefix}/ok", stream=True, stream_options={"include_usage": True})
    chunks = await chunks_of(provider, body)
    assert all(chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") for chunk in chunks)
    assert chunks[-1] == b"data: [DONE]\n\n"
    events = [orjson.loads(chunk[6:]) for chunk in chunks[:-1]]
    choices = [choice for event in events for choice in event["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "hello"
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert events[-1]["choices"] == []
    assert {name: events[-1]["usage"][name] for name in USAGE} == USAGE
    assert stand_in.bodies[0]["stream_options"] == {"include_usage": True}


async def test_litellms_own_options_do_not_pass_from_a_request(provider: LiteLLMProvider, stand_in: StandIn) -> None:
    hostile = {
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "sk-other",
        "base_url": "http://127.0.0.1:9/v1",
        "custom_llm_provider": "anthropic",
        "extra_headers": {"x": "y"},
        "fallbacks": ["openai/other"],
        "mock_response": "mocked",
        "num_retries": 5,
        "timeout": 0.001,
    }
    answer = await provider.open(request("openai/ok", **hostile), stream=False)
    assert orjson.loads(await answer.read())["choices"][0]["message"]["content"] == "hello"
    assert stand_in.bodies == [request("ok")]


def test_hints_are_left_out_where_the_model_knows_none() -> None:
    body = request("anthropic/claude-3-haiku-20240307", seed=3, temperature=0.2, tools=[], metadata={"a": "b"})
    arguments = litellm_provider.arguments_of(body, frozenset({"temperature"}))
    assert arguments == request("anthropic/claude-3-haiku-20240307", temperature=0.2, tools=[])


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, UpstreamRejected),
        (401, UpstreamUnavailable),
        (403, UpstreamUnavailable),
        (404, UpstreamRejected),
        (408, UpstreamTimeout),
        (413, UpstreamRejected),
        (422, UpstreamRejected),
        (429, UpstreamRateLimited),
        (500, UpstreamUnavailable),
        (503, UpstreamUnavailable),
    ],
)
async def test_a_refusal_becomes_our_error_after_one_request(
    provider: LiteLLMProvider, stand_in: StandIn, prefix: str, status: int, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as caught:
        await provider.open(request(f"{prefix}/status-{status}"), stream=False)
    assert type(caught.value) is expected
    assert len(stand_in.bodies) == 1
    if isinstance(caught.value, UpstreamRejected):
        assert caught.value.status == status
        assert orjson.loads(caught.value.body)["error"]["message"] == ERROR["message"]
    if isinstance(caught.value, UpstreamRateLimited):
        assert caught.value.retry_after_s == 7
    if not isinstance(caught.value, UpstreamRejected):
        assert ERROR["message"] not in str(caught.value)


async def test_a_refused_stream_is_refused_before_its_first_chunk(provider: LiteLLMProvider) -> None:
    with pytest.raises(UpstreamRateLimited):
        await provider.open(request("openai/status-429", stream=True), stream=True)


async def test_a_stream_that_breaks_off_raises(provider: LiteLLMProvider) -> None:
    with pytest.raises(UpstreamUnavailable):
        await chunks_of(provider, request("openai/cut", stream=True))


async def test_closing_a_stream_hangs_up(provider: LiteLLMProvider, stand_in: StandIn) -> None:
    answer = await provider.open(request("openai/endless", stream=True), stream=True)
    assert await answer.next_chunk()
    await answer.close()
    await answer.close()
    await asyncio.wait_for(stand_in.client_gone.wait(), 5)
    assert await answer.next_chunk() is None


async def test_nobody_listening_is_unavailable() -> None:
    provider = LiteLLMProvider(LiteLLMEndpoint("claude", "sk-test", "http://127.0.0.1:9/v1"))
    with pytest.raises(UpstreamUnavailable):
        await provider.open(request("openai/ok"), stream=False)
    await provider.close()


async def test_an_unknown_provider_is_our_fault_not_the_callers() -> None:
    provider = LiteLLMProvider(LiteLLMEndpoint("odd", "sk-test"))
    with pytest.raises(UpstreamUnavailable) as caught:
        await provider.open(request("nonsense/ok"), stream=False)
    assert not caught.value.retryable


def test_a_stranger_becomes_unavailable() -> None:
    error = translated("claude", ZeroDivisionError("sk-secret"))
    assert type(error) is UpstreamUnavailable
    assert "sk-secret" not in str(error)


@pytest.mark.parametrize("cause", [ModuleNotFoundError("mcp"), ConnectionError("x"), ZeroDivisionError("x")])
def test_what_fails_before_sending_for_reasons_of_ours_is_unavailable(cause: Exception) -> None:
    raised = ValueError("while preparing")
    raised.__cause__ = cause
    litellm = litellm_provider.load_litellm()
    wrapped = litellm.APIConnectionError("x", "anthropic", "claude-3")
    wrapped.__cause__ = cause
    assert type(translated("claude", wrapped, sent=False)) is UpstreamUnavailable
    if not isinstance(cause, ZeroDivisionError):
        assert type(translated("claude", raised, sent=False)) is UpstreamUnavailable


def test_a_mistake_is_quoted_in_one_short_line() -> None:
    error = translated("claude", ValueError("no such thing " + "x" * 1_000 + "\nTraceback"), sent=False)
    assert isinstance(error, UpstreamRejected)
    assert len(error.message) < 400
    assert "Traceback" not in error.message


def test_what_was_sent_and_not_refused_may_be_billed() -> None:
    litellm = litellm_provider.load_litellm()
    lost = litellm.APIConnectionError("x", "anthropic", "claude-3")
    lost.__cause__ = litellm.httpx.ReadError("lost")
    unconnected = litellm.APIConnectionError("x", "anthropic", "claude-3")
    unconnected.__cause__ = litellm.httpx.ConnectError("refused")
    assert litellm_provider.left_open(lost)
    assert litellm_provider.left_open(litellm.Timeout("x", "claude-3", "anthropic"))
    assert not litellm_provider.left_open(unconnected)
    assert not litellm_provider.left_open(litellm.InternalServerError("x", "anthropic", "claude-3"))


def test_a_prompt_that_is_too_long_keeps_its_code() -> None:
    litellm = litellm_provider.load_litellm()
    error = translated("claude", litellm.ContextWindowExceededError("too long", "claude-3", "anthropic"))
    assert isinstance(error, UpstreamContextExceeded)
    assert orjson.loads(error.body)["error"]["code"] == "context_length_exceeded"


def test_the_table_names_every_exception_of_litellm() -> None:
    litellm = litellm_provider.load_litellm()
    public = {name for name, value in vars(litellm).items() if is_exception(value)}
    defined = {name for name, value in vars(litellm.exceptions).items() if is_exception(value)}
    assert public | defined == set(litellm_provider.STATUS_OF_EXCEPTION)


def is_exception(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception) and value.__module__.startswith("litellm")


def test_importing_the_module_does_not_import_litellm() -> None:
    code = "import sys, router.providers.litellm_provider; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


WATCHED = """
import asyncio, sys
asked = set()
def watch(event, arguments):
    if event == "socket.getaddrinfo": asked.add(str(arguments[0]))
    if event == "socket.connect" and isinstance(arguments[1], tuple): asked.add(str(arguments[1][0]))
sys.addaudithook(watch)
from router.errors import UpstreamError
from router.providers.litellm_provider import LiteLLMEndpoint, LiteLLMProvider
async def main():
    for model in ("openai/gpt-4", "anthropic/claude-3-haiku-20240307", "hosted_vllm/x", "gemini/gemini-1.5-flash"):
        provider = LiteLLMProvider(LiteLLMEndpoint("x", "sk-test", "http://127.0.0.1:9/v1"))
        try:
            await provider.open({"model": model, "messages": [{"role": "user", "content": "hi"}]}, stream=False)
        except UpstreamError:
            pass
        await provider.close()
asyncio.run(main())
print(*sorted(asked))
"""


def test_nothing_but_the_provider_is_asked_for() -> None:
    found = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["127.0.0.1"]
    assert found.stderr == ""


def test_what_would_reach_the_network_or_the_log_is_off() -> None:
    litellm = litellm_provider.load_litellm()
    assert {name: getattr(litellm, name) for name in litellm_provider.SETTINGS} == litellm_provider.SETTINGS


def test_a_streamed_answer_can_be_read_whole() -> None:
    async def nothing() -> AsyncIterator[Any]:
        return
        yield

    assert asyncio.run(StreamedAnswer("claude", nothing()).read()) == b"data: [DONE]\n\n"
