"""`Upstream`: a provider that misbehaves on demand, speaking OpenAI's wire over raw sockets.

A `Behaviour` turns one received request into a script: the bytes to send, the pauses between them, and how the
connection ends. `Upstream` plays it, and keeps what it received and when the other side hung up.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

Step = bytes | float | Literal["close", "reset", "hang"]
"""Bytes are sent, a number is waited for (in seconds); the words end the connection, or never do."""

DEFAULT_USAGE: Mapping[str, Any] = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
_FOREVER_S = 3600.0


@dataclass(slots=True)
class Received:
    """One request as it came, and what became of its connection. Times are on the monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    received_s: float
    played_s: float | None = None
    """When the script had been played to its end."""
    closed_s: float | None = None
    """When the peer closed the connection while the script was still playing."""
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def prompt(self) -> str:
        """The last message's text."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else json.dumps(content)

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        return (self.body.get("stream_options") or {}).get("include_usage") is True


Behaviour = Callable[[Received], list[Step]]


def answer(
    text: str = "Hello!",
    *,
    usage: Mapping[str, Any] | None = DEFAULT_USAGE,
    delay_s: float = 0.0,
    finish_reason: str = "stop",
    message: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Behaviour:
    """A completion, or a stream of `text` in words, whichever was asked for; `extra` fields go into every object."""

    def script(request: Received) -> list[Step]:
        if request.stream:
            parts = _words(text)
            return stream(parts, usage=usage, head_s=delay_s, finish_reason=finish_reason, headers=headers, **extra)(
                request
            )
        choices = [
            {"index": index, "message": {"role": "assistant", "content": text, **(message or {})},
             "finish_reason": finish_reason}
            for index in range(request.body.get("n") or 1)
        ]  # fmt: skip
        completion = _object("chat.completion", request, choices, extra)
        if usage is not None:
            completion["usage"] = dict(usage)
        return [delay_s, reply(200, json.dumps(completion).encode(), headers)]

    return script


def stream(
    pieces: Sequence[str | dict[str, Any]],
    *,
    usage: Mapping[str, Any] | None = DEFAULT_USAGE,
    head_s: float = 0.0,
    pause_s: float = 0.0,
    cut_after: int | None = None,
    cut: Literal["close", "reset", "hang"] = "close",
    finish_reason: str = "stop",
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Behaviour:
    """A stream of `pieces`, texts or whole deltas, `pause_s` apart; after `cut_after` of them it is `cut`."""

    def script(request: Received) -> list[Step]:
        steps: list[Step] = [head_s, stream_head(headers)]
        for index, piece in enumerate(pieces[:cut_after]):
            delta = {"content": piece} if isinstance(piece, str) else piece
            delta = delta if index else {"role": "assistant", **delta}
            steps += [framed(event(request, [_delta(delta)], extra)), pause_s]
        if cut_after is not None:
            return [*steps, cut]
        steps.append(framed(event(request, [_delta({}, finish_reason)], extra)))
        if usage is not None and request.wants_usage:
            steps.append(framed(event(request, [], extra | {"usage": dict(usage)})))
        return [*steps, framed(b"data: [DONE]\n\n"), b"0\r\n\r\n"]

    return script


def status(
    status_code: int, message: str = "no", *, headers: Mapping[str, str] | None = None, **error: Any
) -> Behaviour:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None, **error}})
    return lambda _: [reply(status_code, body.encode(), headers)]


def page(code: int, html: str = "<html><body>Bad gateway</body></html>") -> Behaviour:
    """An error page of some proxy on the way."""
    return lambda _: [reply(code, html.encode(), {"content-type": "text/html"})]


def garbled(body: bytes = b'{"id": "x", "choices": [') -> Behaviour:
    """HTTP 200 with something that is no completion."""
    return lambda _: [reply(200, body)]


def hang() -> Behaviour:
    """Takes the request and never says a word."""
    return lambda _: ["hang"]


def reset() -> Behaviour:
    return lambda _: ["reset"]


def close() -> Behaviour:
    return lambda _: ["close"]


def wrong_length(missing: int = 40) -> Behaviour:
    """Promises more bytes than it sends, and hangs up."""

    def script(request: Received) -> list[Step]:
        body = json.dumps(_object("chat.completion", request, [], {})).encode()
        return [reply(200, body, {"content-length": str(len(body) + missing)}), "close"]

    return script


def raw(*steps: Step) -> Behaviour:
    return lambda _: list(steps)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """The first for the first request, and so on; the last for all that follow."""
    left = deque(behaviours)

    def script(request: Received) -> list[Step]:
        return (left.popleft() if len(left) > 1 else left[0])(request)

    return script


def reply(code: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"content-type": "application/json", "content-length": str(len(body))} | dict(headers or {})
    head = f"HTTP/1.1 {code} Status\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + body


def stream_head(headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"content-type": "text/event-stream", "transfer-encoding": "chunked"} | dict(headers or {})
    return (
        "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    ).encode() + b"\r\n"


def framed(data: bytes) -> bytes:
    """One chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(request: Received, choices: list[dict[str, Any]], extra: Mapping[str, Any]) -> bytes:
    chunk = _object("chat.completion.chunk", request, choices, extra)
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def _object(kind: str, request: Received, choices: list[dict[str, Any]], extra: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-theirs", "object": kind, "created": 1_700_000_000, "model": f"{request.model}-0613",
            "choices": choices, **extra}  # fmt: skip


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


class Upstream:
    """The server. `on` says how a model behaves, `default` how all others do; `received` is what came so far."""

    def __init__(self, default: Behaviour | None = None) -> None:
        self.default = default or answer()
        self.received: list[Received] = []
        self.accepted = 0
        self._by_model: dict[str, Behaviour] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def on(self, model: str, *behaviours: Behaviour) -> None:
        """From now on `model` behaves so: each behaviour once, the last one for good."""
        self._by_model[model] = in_turn(*behaviours)

    def reset(self, default: Behaviour | None = None) -> None:
        """Forgets everything scripted and received."""
        self._by_model.clear()
        self.default = default or answer()
        self.received = []

    def calls(self, model: str | None = None) -> list[Received]:
        return [request for request in self.received if model is None or request.model == model]

    def wait_for_call(self, count: int = 1, timeout_s: float = 5.0) -> Received:
        """The `count`-th request since the last reset. Raises AssertionError where it does not come."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.received) < count:
            assert time.monotonic() < deadline_s, f"only {len(self.received)} of {count} requests came"
            time.sleep(0.005)
        return self.received[count - 1]

    def behaviour_for(self, request: Received) -> Behaviour:
        return self._by_model.get(request.model, self.default)

    def start(self) -> None:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        started.result(5)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    """One connection: requests in, scripts out, one at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._request: Received | None = None
        self._playing: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream.accepted += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._request is not None:
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in fields)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = line.split(" ")
        self._request = Received(method, path, headers, rest[:length], time.monotonic())
        self._upstream.received.append(self._request)
        self._playing = asyncio.ensure_future(self._play(self._request))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._playing is not None:
            self._playing.cancel()
        if self._request is not None:
            self._request.closed_s = time.monotonic()
            self._request.gone.set()

    async def _play(self, request: Received) -> None:
        for step in self._upstream.behaviour_for(request)(request):
            if isinstance(step, bytes):
                self._transport.write(step)
            elif step == "hang":
                await asyncio.sleep(_FOREVER_S)
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step)
            else:
                self._request = None  # the end of this connection is our doing, not the peer's
                self._end(step)
                return
        request.played_s = time.monotonic()
        self._request = self._playing = None
        if self._buffer:
            self.data_received(b"")

    def _end(self, how: str) -> None:
        if how == "reset":
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()


@contextmanager
def upstream_server(default: Behaviour | None = None) -> Iterator[Upstream]:
    upstream = Upstream(default)
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.stop()
