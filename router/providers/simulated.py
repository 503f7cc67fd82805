"""The simulated models: a real HTTP server on loopback that speaks OpenAI's wire and says that it is none.

POST /v1/chat/completions (streaming or not), GET /v1/models, GET /health. Every text begins with
"[simulated NAME]", every answer carries `x-parsimony-simulated: true`, and equal requests get equal answers.
A text that must be JSON holds the mark in its first free string.

Faults, for tests, are switches at the end of a model's name (`simulated_personas.FAULTS`):

    mistral-7b+error500   500 server_error
    mistral-7b+rate429    429 rate_limit_exceeded, Retry-After: 1
    mistral-7b+hang       no answer until the client goes away
    mistral-7b+cut        the connection closes halfway through the body or the stream
    mistral-7b+slow       two seconds to the first token, then ten times the delay; may stand beside +cut

A persona's delays (10 to 40 ms to the first token, about 1 ms a chunk) are multiplied by `delay_scale`, which
`run_simulated` takes from PARSIMONY_SIMULATED_DELAY_SCALE; 0 answers at once.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import uvicorn

from router.providers.simulated_answer import complete
from router.providers.simulated_personas import PERSONAS, SLOW_CHUNK_FACTOR, SLOW_FIRST_TOKEN_MS
from router.providers.simulated_wire import (
    Completion,
    SimulatedRequest,
    WireError,
    completion_body,
    completion_frames,
    parse_request,
)
from router.tokenizers import TokenCounter, load_encoding

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 16 * 1024 * 1024
DELAY_SCALE_VARIABLE = "PARSIMONY_SIMULATED_DELAY_SCALE"
ENCODING = "cl100k_base"
PARENT_POLL_S = 0.5
GRACE_S = 2
MARK = (b"x-parsimony-simulated", b"true")
JSON = (b"content-type", b"application/json")
EVENT_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


def create_simulated_app(*, delay_scale: float = 1.0, counter: TokenCounter | None = None) -> AsgiApp:
    """The server as a plain ASGI app. `delay_scale` multiplies every delay; tokens are counted with cl100k_base."""
    counts = counter or TokenCounter(ENCODING)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await _route(scope, receive, send, delay_scale, counts)
        except WireError as error:
            await _send_json(send, error.status, orjson.dumps(error.body), error.headers)
        except ClientGone:
            return

    return app


async def _route(scope: Scope, receive: Receive, send: Send, delay_scale: float, counter: TokenCounter) -> None:
    match scope["method"], scope["path"].rstrip("/"):
        case "POST", "/v1/chat/completions":
            await _chat(receive, send, delay_scale, counter)
        case "GET", "/v1/models":
            await _send_json(send, 200, _models())
        case "GET", "/health":
            await _send_json(send, 200, orjson.dumps({"status": "ok", "simulated": True}))
        case method, ("/v1/chat/completions" | "/v1/models" | "/health"):
            raise WireError(405, f"Not allowed to {method} on this URL.", code="method_not_allowed")
        case method, path:
            raise WireError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def _models() -> bytes:
    models = [{"id": p.family, "object": "model", "created": 0, "owned_by": p.owner} for p in PERSONAS]
    return orjson.dumps({"object": "list", "data": models})


async def _chat(receive: Receive, send: Send, delay_scale: float, counter: TokenCounter) -> None:
    request = parse_request(await _read_body(receive))
    if "hang" in request.faults:
        await _until_client_gone(receive)
        raise ClientGone
    _raise_faults(request)
    completion = complete(request, id=f"chatcmpl-{secrets.token_hex(12)}", created=int(time.time()), counter=counter)
    first_token_s, chunk_s = _pace(request, delay_scale)
    if request.stream:
        await _send_stream(send, request, completion, first_token_s, chunk_s)
    else:
        await _sleep(first_token_s + chunk_s * completion.output_tokens)
        await _send_whole(send, request, completion)


def _raise_faults(request: SimulatedRequest) -> None:
    if "error500" in request.faults:
        raise WireError(500, "The simulated server was asked to fail.", type="server_error")
    if "rate429" in request.faults:
        raise WireError(
            429,
            "The simulated server was asked to refuse: rate limit reached.",
            type="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"retry-after": "1"},
        )


def _pace(request: SimulatedRequest, delay_scale: float) -> tuple[float, float]:
    """Seconds to the first token, and for each chunk after it."""
    first_ms, chunk_ms = request.persona.first_token_ms, request.persona.chunk_ms
    if "slow" in request.faults:
        first_ms, chunk_ms = SLOW_FIRST_TOKEN_MS, chunk_ms * SLOW_CHUNK_FACTOR
    return first_ms * delay_scale / 1_000, chunk_ms * delay_scale / 1_000


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise WireError(413, f"The body exceeds {MAX_BODY_BYTES} bytes.", code="request_too_large")
        if not message.get("more_body"):
            return bytes(body)


async def _until_client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_head(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, MARK]})


async def _send_json(send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await _send_head(send, status, [JSON, (b"content-length", b"%d" % len(body)), *extra])
    await send({"type": "http.response.body", "body": body})


async def _send_whole(send: Send, request: SimulatedRequest, completion: Completion) -> None:
    body = completion_body(completion)
    if "cut" not in request.faults:
        await _send_json(send, 200, body)
        return
    await _send_head(send, 200, [JSON, (b"content-length", b"%d" % len(body))])
    # The app returns before the body is whole, on which the server closes the connection.
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _send_stream(
    send: Send, request: SimulatedRequest, completion: Completion, first_token_s: float, chunk_s: float
) -> None:
    frames = list(completion_frames(completion, request.include_usage))
    kept = frames[: len(frames) // 2] if "cut" in request.faults else frames
    await _sleep(first_token_s)
    await _send_head(send, 200, EVENT_STREAM)
    for frame in kept:
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        await _sleep(chunk_s)
    if kept is frames:
        await send({"type": "http.response.body", "body": b""})


def run_simulated(
    host: str = "127.0.0.1", port: int = 0, fd: int | None = None, *, parent_pid: int | None = None
) -> None:
    """Serves until SIGTERM or SIGINT on `host`:`port`, or on the listening socket `fd`; port 0 takes a free one.

    Prints the address once it is bound, unless whoever gave `fd` knows it. Given the `parent_pid` of the process
    that started it, it ends when that process has died, however it died. Raises OSError where the port is taken,
    ValueError where PARSIMONY_SIMULATED_DELAY_SCALE is no number.
    """
    app = create_simulated_app(delay_scale=float(os.environ.get(DELAY_SCALE_VARIABLE) or 1))
    listener = socket.socket(fileno=fd) if fd is not None else socket.create_server((host, port), backlog=2_048)
    # Now, so that the first request does not wait for it.
    load_encoding(ENCODING)
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        # Its only message below "critical" would be about the answers that +cut leaves unfinished.
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(config)
    if fd is None:
        print(f"simulated models on http://{_address(listener)}/v1", flush=True)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        try:
            runner.run(_serve(server, listener, parent_pid))
        except KeyboardInterrupt:
            # uvicorn raises it again after it has drained; there is nothing left to do.
            return


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _serve(server: uvicorn.Server, listener: socket.socket, parent_pid: int | None) -> None:
    watch = asyncio.create_task(_stop_when_orphaned(server, parent_pid)) if parent_pid is not None else None
    try:
        await server.serve(sockets=[listener])
    finally:
        if watch is not None:
            watch.cancel()


async def _stop_when_orphaned(server: uvicorn.Server, parent_pid: int) -> None:
    # Nothing wakes a process whose parent dies, short of Linux's own prctl; so it looks.
    while os.getppid() == parent_pid:  # noqa: ASYNC110
        await asyncio.sleep(PARENT_POLL_S)
    server.should_exit = True
