"""The HTTP clients under comparison behind one small shape: whole answers, and answers as they arrive.

Each is set up as a relay would want it: no redirects, no decompression, no cookies, no proxy from the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Protocol

import aiohttp
import httpx
from pyreqwest.client import ClientBuilder

from router.providers.http1 import Http1Answer, Http1Client

HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-benchmark"}


class HttpClient(Protocol):
    """What the comparison asks of a client."""

    name: str

    async def call(self, url: str, body: bytes) -> tuple[int, bytes]:
        """POST and read the whole answer: status and body."""
        ...

    def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """POST and yield the body's pieces as they arrive; leaving the iterator drops the answer."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class Http1:
    """router/providers/http1.py, with the deadline before each read that its provider sets."""

    name = "http1"

    def __init__(self, connect_s: float = 5.0, read_s: float = 30.0) -> None:
        self._connect_s = connect_s
        self._read_s = read_s
        self._clients: dict[str, Http1Client] = {}

    async def _post(self, url: str, body: bytes) -> Http1Answer:
        if url not in self._clients:
            self._clients[url] = Http1Client(url, HEADERS, connect_s=self._connect_s)
        async with asyncio.timeout(self._read_s):
            return await self._clients[url].post(body)

    async def call(self, url: str, body: bytes) -> tuple[int, bytes]:
        """See HttpClient."""
        answer = await self._post(url, body)
        try:
            async with asyncio.timeout(self._read_s):
                return answer.status, await answer.read(1 << 24)
        finally:
            answer.release()

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """See HttpClient."""
        answer = await self._post(url, body)
        try:
            while True:
                async with asyncio.timeout(self._read_s):
                    piece = await answer.next_chunk()
                if piece is None:
                    return
                yield piece
        finally:
            answer.release()

    async def close(self) -> None:
        """See HttpClient."""
        for client in self._clients.values():
            await client.close()


class Pyreqwest:
    """pyreqwest: Rust's reqwest and hyper on a Tokio thread of their own."""

    name = "pyreqwest"

    def __init__(self, connect_s: float = 5.0, read_s: float = 30.0) -> None:
        self._client = (
            ClientBuilder()
            .connect_timeout(timedelta(seconds=connect_s))
            .read_timeout(timedelta(seconds=read_s))
            .follow_redirects(False)
            .referer(False)
            .gzip(False).brotli(False).zstd(False).deflate(False)
            .no_proxy()
            .build()
        )  # fmt: skip

    async def call(self, url: str, body: bytes) -> tuple[int, bytes]:
        """See HttpClient."""
        response = await self._client.post(url).headers(HEADERS).body_bytes(body).build().send()
        return response.status, bytes(await response.bytes())

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """See HttpClient."""
        request = self._client.post(url).headers(HEADERS).body_bytes(body)
        # The default, 64 KB, is read before the head is handed over: a short stream would arrive only when complete.
        async with request.streamed_read_buffer_limit(0).build_streamed() as response:
            while (piece := await response.body_reader.read_chunk()) is not None:
                yield bytes(piece)

    async def close(self) -> None:
        """See HttpClient."""
        await self._client.close()


class Aiohttp:
    """aiohttp with its C parser; automatic decompression off."""

    name = "aiohttp"

    def __init__(self, connect_s: float = 5.0, read_s: float = 30.0) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=90),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def call(self, url: str, body: bytes) -> tuple[int, bytes]:
        """See HttpClient."""
        async with self._session.post(url, data=body, headers=HEADERS, allow_redirects=False) as response:
            return response.status, await response.read()

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """See HttpClient."""
        async with self._session.post(url, data=body, headers=HEADERS, allow_redirects=False) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def close(self) -> None:
        """See HttpClient."""
        await self._session.close()


class Httpx:
    """httpx over httpcore, for scale."""

    name = "httpx"

    def __init__(self, connect_s: float = 5.0, read_s: float = 30.0) -> None:
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(read_s, connect=connect_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=90),
            trust_env=False,
        )

    async def call(self, url: str, body: bytes) -> tuple[int, bytes]:
        """See HttpClient."""
        response = await self._client.post(url, content=body, headers=HEADERS)
        return response.status_code, response.content

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """See HttpClient."""
        async with self._client.stream("POST", url, content=body, headers=HEADERS) as response:
            async for piece in response.aiter_raw():
                yield piece

    async def close(self) -> None:
        """See HttpClient."""
        await self._client.aclose()


CLIENTS: dict[str, Callable[[float, float], HttpClient]] = {
    "http1": Http1,
    "pyreqwest": Pyreqwest,
    "aiohttp": Aiohttp,
    "httpx": Httpx,
}
