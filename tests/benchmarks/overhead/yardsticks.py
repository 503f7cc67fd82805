"""Bare pass-through proxies: what a proxy costs that does nothing but pass on.

They run under uvicorn as Parsimony's workers do (uvloop, httptools, one worker, no access log). UPSTREAM_URL names
where requests go.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
from pyreqwest.client import Client, ClientBuilder

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
STREAMS = b'"stream":true'


class PassThrough:
    """A bare ASGI application; the subclass says how a body reaches the upstream."""

    def __init__(self) -> None:
        self._url = os.environ["UPSTREAM_URL"] + "/chat/completions"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] == "GET":
            await answer(send, 200, b"application/json", b'{"status":"ok"}')
        else:
            body = await whole_body(receive)
            headers = {"content-type": "application/json", "authorization": authorization(scope)}
            await self.relay(body, headers, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def open(self) -> None:
        """Make the HTTP client."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the HTTP client."""
        raise NotImplementedError

    async def relay(self, body: bytes, headers: dict[str, str], send: Send) -> None:
        """Pass one request on and its answer back."""
        raise NotImplementedError


class AiohttpPassThrough(PassThrough):
    """Passes on with aiohttp."""

    async def open(self) -> None:
        """See PassThrough."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """See PassThrough."""
        await self._session.close()

    async def relay(self, body: bytes, headers: dict[str, str], send: Send) -> None:
        """See PassThrough."""
        async with self._session.post(self._url, data=body, headers=headers) as response:
            content_type = response.headers["content-type"].encode()
            if STREAMS not in body:
                await answer(send, response.status, content_type, await response.read())
                return
            await send(response_start(response.status, content_type))
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})


class PyreqwestPassThrough(PassThrough):
    """Passes on with pyreqwest."""

    _client: Client

    async def open(self) -> None:
        """See PassThrough."""
        builder = ClientBuilder().follow_redirects(False).no_proxy()
        self._client = builder.gzip(False).brotli(False).zstd(False).deflate(False).build()

    async def close(self) -> None:
        """See PassThrough."""
        await self._client.close()

    async def relay(self, body: bytes, headers: dict[str, str], send: Send) -> None:
        """See PassThrough."""
        request = self._client.post(self._url).headers(headers).body_bytes(body)
        if STREAMS not in body:
            response = await request.build().send()
            content_type = (response.get_header("content-type") or "").encode()
            await answer(send, response.status, content_type, bytes(await response.bytes()))
            return
        async with request.streamed_read_buffer_limit(0).build_streamed() as streamed:
            await send(response_start(streamed.status, (streamed.get_header("content-type") or "").encode()))
            while (piece := await streamed.body_reader.read_chunk()) is not None:
                await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
            await send({"type": "http.response.body"})


async def whole_body(receive: Receive) -> bytes:
    """A request's body."""
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


def authorization(scope: Scope) -> str:
    """The request's authorization header, passed on as it is."""
    return next((value.decode() for name, value in scope["headers"] if name == b"authorization"), "")


def response_start(status: int, content_type: bytes, length: int | None = None) -> dict[str, Any]:
    """The ASGI message that begins a response."""
    headers = [(b"content-type", content_type)]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    """A whole response."""
    await send(response_start(status, content_type, len(body)))
    await send({"type": "http.response.body", "body": body})
