"""A wire that is not OpenAI's, through litellm: Anthropic's messages, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from router.errors import UpstreamRejected, UpstreamUnavailable
from router.providers.litellm_provider import LiteLLMEndpoint, LiteLLMProvider

MODEL = "claude-3-haiku-20240307"
USAGE = {"input_tokens": 7, "output_tokens": 2}
START = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
STREAM: list[dict[str, Any]] = [
    {"type": "message_start", "message": START | {"usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "你"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "好"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


class Anthropic:
    """Answers POST /v1/messages; `events` is what it streams, `refusal` what it says instead."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.events = STREAM
        self.refusal: tuple[int, dict[str, Any]] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.keys.append(request.headers.get("x-api-key"))
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        if not body.get("stream"):
            content = [{"type": "text", "text": "你好"}]
            return web.json_response(START | {"content": content, "stop_reason": "end_turn", "usage": USAGE})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            await response.write(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event)))
        return response


@pytest.fixture
async def anthropic() -> AsyncIterator[tuple[Anthropic, LiteLLMProvider]]:
    server = Anthropic()
    app = web.Application()
    app.router.add_post("/v1/messages", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    provider = LiteLLMProvider(LiteLLMEndpoint("claude", "sk-test", base_url))
    yield server, provider
    await provider.close()
    await runner.cleanup()


def request(**more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello in Chinese."}]
    return {"model": f"anthropic/{MODEL}", "messages": messages, "max_tokens": 9, **more}


async def test_a_whole_answer_is_translated_both_ways(anthropic: tuple[Anthropic, LiteLLMProvider]) -> None:
    server, provider = anthropic
    answer = await provider.open(request(seed=3, stop=["!"]), stream=False)
    body = orjson.loads(await answer.read())
    sent = server.bodies[0]
    assert server.keys == ["sk-test"]
    assert (sent["model"], sent["max_tokens"], sent["stop_sequences"]) == (MODEL, 9, ["!"])
    assert "seed" not in sent
    assert [message["role"] for message in sent["messages"]] == ["user"]
    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("你好", "stop")
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (7, 2)


async def test_a_stream_is_translated_with_its_usage(anthropic: tuple[Anthropic, LiteLLMProvider]) -> None:
    _, provider = anthropic
    answer = await provider.open(request(stream=True, stream_options={"include_usage": True}), stream=True)
    raw = await answer.read()
    events = [orjson.loads(line[6:]) for line in raw.split(b"\n\n") if line and line != b"data: [DONE]"]
    choices = [choice for event in events for choice in event["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "你好"
    assert choices[-1]["finish_reason"] == "stop"
    usages = [event["usage"] for event in events if event.get("usage")]
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages] == [(7, 2)]


async def test_an_error_within_a_stream_is_raised(anthropic: tuple[Anthropic, LiteLLMProvider]) -> None:
    server, provider = anthropic
    server.events = [*STREAM[:3], OVERLOADED]
    answer = await provider.open(request(stream=True), stream=True)
    with pytest.raises(UpstreamUnavailable):
        await answer.read()
    await answer.close()


async def test_a_refusal_keeps_the_providers_words(anthropic: tuple[Anthropic, LiteLLMProvider]) -> None:
    server, provider = anthropic
    message = "messages: at least one message is required"
    server.refusal = (400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    with pytest.raises(UpstreamRejected) as caught:
        await provider.open(request(), stream=False)
    assert orjson.loads(caught.value.body)["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def called(arguments: str) -> list[dict[str, Any]]:
    """A conversation in which a tool was called with `arguments`."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ]


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("broken arguments", {"messages": called("{broken"), "tools": [FUNCTION]}, "Failed to parse tool call arguments"),
    ("no function", {"tools": [{"type": "function"}]}, "needs a function with a name"),
    ("no name", {"tools": [{"type": "function", "function": {}}]}, "needs a function with a name"),
    ("no json_schema", {"response_format": {"type": "json_schema"}}, "'json_schema' is missing"),
    ("no schema", {"response_format": {"type": "json_schema", "json_schema": {}}}, "'schema' is missing"),
    ("mcp", {"tools": [FUNCTION, {"type": "mcp", "server_url": "http://127.0.0.1:9"}]}, "not 'mcp'"),
    ("computer", {"tools": [{"type": "computer_20250124", "name": "computer"}]}, "not 'computer_20250124'"),
    ("no type", {"tools": [{"function": {"name": "f"}}]}, "not None"),
    ("no tool", {"tools": ["f"]}, "not None"),
    ("tool choice", {"tools": [FUNCTION], "tool_choice": {"type": "odd"}}, "Invalid tool choice"),
    ("content", {"messages": [{"role": "user", "content": 5}]}, "'int' object is not iterable"),
    ("role", {"messages": [{"role": "odd", "content": "x"}]}, "Invalid Message"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "words"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
async def test_a_callers_mistake_is_told_to_the_caller(
    anthropic: tuple[Anthropic, LiteLLMProvider], fields: dict[str, Any], words: str, stream: bool
) -> None:
    server, provider = anthropic
    with pytest.raises(UpstreamRejected) as caught:
        await provider.open(request(**fields), stream=stream)
    error = orjson.loads(caught.value.body)["error"]
    assert (caught.value.status, caught.value.retryable, server.bodies) == (400, False, [])
    assert words in error["message"]
    assert "Traceback" not in error["message"] + str(caught.value)


async def test_a_function_is_offered_as_a_tool(anthropic: tuple[Anthropic, LiteLLMProvider]) -> None:
    server, provider = anthropic
    await provider.open(request(tools=[FUNCTION], messages=called('{"x": 1}')), stream=False)
    assert [tool["name"] for tool in server.bodies[0]["tools"]] == ["f"]
    assert server.bodies[0]["messages"][1]["content"][0]["input"] == {"x": 1}


@pytest.mark.parametrize("said", [{"odd": 1}, {"content": [{"text": "x"}]}])
async def test_an_answer_that_cannot_be_read_is_not_the_callers_fault(
    anthropic: tuple[Anthropic, LiteLLMProvider], said: dict[str, Any]
) -> None:
    server, provider = anthropic
    server.refusal = (200, said)
    with pytest.raises(UpstreamUnavailable):
        await provider.open(request(), stream=False)
