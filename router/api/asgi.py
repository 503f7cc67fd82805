"""The hot endpoint as plain ASGI: body in, pipeline, answer out. FastAPI serves the rest.

A router, middleware and a model of the body would cost more than everything the pipeline does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from router.errors import ParsimonyError, RequestTooLarge, RequestTooSlow, ShuttingDown, fault
from router.openai.errors import error_body, error_headers
from router.pipeline.chat import ChatPipeline, Incoming
from router.pipeline.reply import Headers

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


WATCH_AFTER_SECONDS = 0.1
BODY_SECONDS = 60.0
"""From a request's head to its body's last piece."""

TAGS_HEADER = b"x-parsimony-tags"
SHADOW_HEADER = b"x-parsimony-shadow"


class ClientGone(Exception):
    """The client went away before its request was whole."""


class AsgiReply:
    """`Reply` over ASGI: the head leaves with the first bytes, with their length where they are all."""

    __slots__ = ("_head", "_send", "gone", "keep_going", "started", "too_slow")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: tuple[int, Headers] | None = None
        self.started = False
        self.gone = False
        self.too_slow = False
        self.keep_going: Callable[[], bool] | None = None

    async def start(self, status: int, headers: Headers) -> None:
        self._head = (status, headers)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        if self.gone:
            return
        if self._head is not None:
            status, headers = self._head
            self._head = None
            self.started = True
            if last:
                headers = [*headers, (b"content-length", b"%d" % len(data))]
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


async def chat_completions(
    pipeline: ChatPipeline, max_body_bytes: int, scope: Scope, receive: Receive, send: Send
) -> None:
    """POST /v1/chat/completions."""
    reply = AsgiReply(send)
    try:
        authorization, *said = _heard(scope["headers"])
        principal = await pipeline.authenticate(authorization)
        watch = _Watch(receive, reply)
        try:
            incoming = _incoming(await read_body(receive, max_body_bytes), *said)
            watch.body_came()
            await pipeline.answer(principal, incoming, reply)
        finally:
            watch.stop()
    except ClientGone:
        return
    except ParsimonyError as error:
        # Its frames hold it and the request: in an outage, thousands would wait for the garbage collector.
        error.__traceback__ = None
        await send_error(send, error, reply)
    except asyncio.CancelledError as cancelled:
        cancelled.__traceback__ = None
        if reply.too_slow:
            await send_error(send, _too_slow(), reply)
        elif not reply.gone:  # the server is stopping: the client is still there
            await send_error(send, ShuttingDown("The server is shutting down.", retry_after_s=1), reply)
            raise
    except Exception:  # the border to the client: whatever went wrong, it gets an answer
        logger.exception("a request failed")
        await send_error(send, fault(), reply)


class _Watch:
    """Cancels the request when its body takes too long, or when the client leaves and nobody else wants its answer.

    It begins to look after WATCH_AFTER_SECONDS: a task, or a timer for the body, would cost every short
    request more than it saves.
    """

    __slots__ = ("_has_begun", "_is_reading", "_receive", "_reply", "_request", "_task", "_timer")

    def __init__(self, receive: Receive, reply: AsgiReply) -> None:
        self._receive = receive
        self._reply = reply
        self._request = asyncio.current_task()
        self._is_reading = True
        self._has_begun = False
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._begin)

    def body_came(self) -> None:
        self._is_reading = False
        if self._has_begun:
            self._timer.cancel()
            self._begin()

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            # Its frame, which holds this, would be held by it: whatever a request has left would wait in that circle
            # for the garbage collector, and after some thousands of requests that is tens of megabytes.
            self._task = None

    def _begin(self) -> None:
        if self._is_reading:
            self._has_begun = True
            self._timer = asyncio.get_running_loop().call_later(BODY_SECONDS - WATCH_AFTER_SECONDS, self._give_up)
            return
        self._task = asyncio.ensure_future(self._look())

    def _give_up(self) -> None:
        self._reply.too_slow = True
        if self._request is not None:
            self._request.cancel()

    async def _look(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._reply.gone = True
        keep_going = self._reply.keep_going
        if self._request is not None and not (keep_going is not None and keep_going()):
            self._request.cancel()


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Raises RequestTooLarge and ClientGone."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) <= limit_bytes:
            return body
    return await _collect(message, receive, limit_bytes)


def bounded(receive: Receive, limit_bytes: int) -> Receive:
    """`receive`, raising RequestTooLarge and RequestTooSlow while the body comes; for who collects it himself."""
    size = 0
    is_whole = False
    deadline_s: float | None = None

    async def receive_bounded() -> dict[str, Any]:
        nonlocal size, is_whole, deadline_s
        if is_whole:
            return await receive()
        deadline_s = deadline_s or asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(deadline_s):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        is_whole = not message.get("more_body")
        return message

    return receive_bounded


def _too_large(limit_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The body has more than the {limit_bytes} bytes that are allowed.")


def _too_slow() -> RequestTooSlow:
    return RequestTooSlow(f"The body was not complete after {BODY_SECONDS:g} s.")


async def _collect(message: dict[str, Any], receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def send_error(send: Send, error: ParsimonyError, reply: AsgiReply | None = None) -> None:
    """Answers with `error`, if nothing has been answered yet and somebody is there to read it."""
    if reply is not None and (reply.gone or reply.started):
        return
    body = error_body(error)
    headers = [*error_headers(error), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _heard(headers: list[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes, bytes, bytes]:
    """The headers that count: Authorization, Cache-Control in small letters, the request's tags, and whether it may be
    measured. Lists may come in several lines (RFC 9110, 5.3)."""
    authorization: bytes | None = None
    cache_control = tags = shadow = b""
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == b"cache-control":
            cache_control += value.lower() + b","
        elif name == TAGS_HEADER:
            tags = b",".join(filter(None, (tags, value)))
        elif name == SHADOW_HEADER:
            shadow = value.lower()
    return authorization, cache_control, tags, shadow


def _incoming(raw: bytes, cache_control: bytes, tags: bytes, shadow: bytes) -> Incoming:
    if not (cache_control or tags or shadow):
        return Incoming(raw)
    no_cache, no_store = b"no-cache" in cache_control, b"no-store" in cache_control
    return Incoming(raw, no_cache=no_cache, no_store=no_store, tags=tags, no_shadow=shadow == b"off")
