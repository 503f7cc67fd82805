"""A small HTTP/1.1 client for one origin: keep-alive connections, answers whole or as they stream in.

Bytes are parsed by httptools (llhttp, Node.js' parser). Why not a library: measured on the hot path
and against misbehaving peers in tests/benchmarks/README.md. What it does not do: redirects, cookies,
compression, HTTP/2, proxies: HTTP_PROXY and the like in the environment are not looked at.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

MAX_HEAD_BYTES = 65_536
MAX_BUFFERED_BYTES = 1_048_576
"""Reading pauses while a slow client leaves this much unread."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one origin's connections."""

    idle_s: float = 55.0
    """Less than the minute after which common load balancers drop a silent connection."""
    max_idle: int = 256
    """Kept for the next requests: what is left of a burst beyond that is closed at once."""
    max_connections: int = 4_096
    """Under way at a time, being made included."""


class Http1Error(Exception):
    """The exchange failed: the peer cannot be reached, broke off, or does not speak HTTP/1.1."""


class ConnectFailed(Http1Error):
    """No connection came about; nothing was sent."""


class TooManyConnections(Http1Error):
    """`Limits.max_connections` requests are under way to this origin."""


class _Stale(Http1Error):
    """A kept-alive connection turned out to be closed before it answered anything."""


class Http1Client:
    """Sends POST requests to `url`. Cancelling a call closes its connection at once."""

    def __init__(self, url: str, headers: dict[str, str], *, connect_s: float, limits: Limits | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http(s) URL")
        tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port or (443 if tls else 80)
        self._tls = ssl.create_default_context() if tls else None
        self._connect_s = connect_s
        self._limits = limits or Limits()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._head = _head(target, parts.netloc.rpartition("@")[2], headers)
        self._idle: deque[_Connection] = deque()  # longest idle first
        self._busy: set[_Connection] = set()
        self._connecting = 0

    async def post(self, body: bytes) -> Http1Answer:
        """Returns once the head of the answer is there. Raises Http1Error."""
        if len(self._busy) + self._connecting >= self._limits.max_connections:
            raise TooManyConnections(f"{self._limits.max_connections} requests are under way")
        connection = self._take_idle()
        if connection is not None:
            try:
                return await self._exchange(connection, body)
            except _Stale:
                pass  # closed while idle, as its peer was free to do
        # Not the next idle one: a request that kills its server would be sent over each of them.
        return await self._exchange(await self._connect(), body)

    async def close(self) -> None:
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()

    async def _exchange(self, connection: _Connection, body: bytes) -> Http1Answer:
        self._busy.add(connection)
        try:
            await connection.send(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        except BaseException:
            self._discard(connection)
            raise
        return Http1Answer(self, connection)

    def _take_idle(self) -> _Connection | None:
        """The one that was used last: so the others may grow old, and be closed, after a burst."""
        self._close_old()
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def _close_old(self) -> None:
        """Costs nothing but for the connections it closes, and each is closed once."""
        oldest_s = time.monotonic() - self._limits.idle_s
        while self._idle and self._idle[0].idle_since_s <= oldest_s:
            self._idle.popleft().abort()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        self._connecting += 1
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectFailed(f"no connection within {self._connect_s:g} s") from error
        except OSError as error:
            raise ConnectFailed(str(error)) from error
        finally:
            self._connecting -= 1
        return connection

    def _discard(self, connection: _Connection) -> None:
        self._busy.discard(connection)
        connection.abort()

    def release(self, connection: _Connection) -> None:
        """Takes a connection back: for the next request, or to be closed."""
        self._busy.discard(connection)
        self._close_old()
        if not connection.reusable:
            connection.abort()
            return
        connection.rest()
        self._idle.append(connection)
        if len(self._idle) > self._limits.max_idle:
            self._idle.popleft().abort()


class Http1Answer:
    """An answer whose head has come. `release` it when done; unread, its connection is closed."""

    __slots__ = ("_client", "_connection", "headers", "status")

    def __init__(self, client: Http1Client, connection: _Connection) -> None:
        self._client = client
        self._connection: _Connection | None = connection
        self.status = connection.status
        self.headers = connection.headers

    async def read(self, limit_bytes: int) -> bytes:
        """The rest of the body. Raises Http1Error, also for one of more than `limit_bytes`."""
        parts: list[bytes] = []
        size = 0
        while (part := await self.next_chunk()) is not None:
            parts.append(part)
            size += len(part)
            if size > limit_bytes:
                raise Http1Error(f"an answer of more than {limit_bytes} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next_chunk(self) -> bytes | None:
        """What has come since the last call, or will come next; None at the end. Raises Http1Error."""
        return None if self._connection is None else await self._connection.next_chunk()

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.release(connection)


class _Connection(asyncio.Protocol):
    """One connection; at most one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._error: Http1Error | None = None
        self._used = False
        self._resting = False
        self.idle_since_s = 0.0
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._bytes_since_body = 0
        self._head_complete = False
        self._complete = False
        self._received = False
        self._parts: list[bytes] = []
        self._buffered = 0
        self._paused = False

    @property
    def open(self) -> bool:
        return self._transport is not None and self._error is None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        return self.open and self._complete and not self._parts and self._keep_alive

    _keep_alive = False

    def rest(self) -> None:
        """Until the next exchange the peer has nothing to say, but may close."""
        self.idle_since_s = time.monotonic()
        self._used = self._resting = True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def send(self, request: bytes) -> None:
        """Sends and waits for the head of the answer."""
        if self._transport is None:
            raise _Stale("closed while idle")
        self._begin()
        self._resting = False
        self._transport.write(request)
        while not self._head_complete:
            await self._progress()
            if self._error is not None and not self._head_complete:
                if self._used and not self._received:
                    raise _Stale(str(self._error))
                raise self._error

    async def next_chunk(self) -> bytes | None:
        while not self._parts:
            if self._complete:
                return None
            if self._error is not None:
                raise self._error
            await self._progress()
        parts, self._parts = self._parts, []
        self._buffered = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _progress(self) -> None:
        if self._error is not None:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Http1Error) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._resting:
            self.abort()
            return
        self._received = True
        self._bytes_since_body += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What a callback of ours raised comes wrapped in the parser's own error.
            ours = isinstance(error.__context__, Http1Error)
            self._fail(Http1Error(str(error.__context__) if ours else f"not HTTP/1.1: {error}"))
            return
        except httptools.HttpParserUpgrade:
            self._fail(Http1Error("the peer wants another protocol"))
            return
        if self._bytes_since_body > MAX_HEAD_BYTES:  # the parser keeps a line, or a trailer, until it ends
            self._fail(Http1Error(f"a head of more than {MAX_HEAD_BYTES} bytes"))
        elif self._head_complete:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._head_complete and not self._complete and exc is None and self._until_eof:
            self._complete = True
            self._keep_alive = False
        elif self._error is None:
            self._error = Http1Error(str(exc) if exc else "the peer closed the connection")
        self._wake()

    @property
    def _until_eof(self) -> bool:
        """A body without length or chunks ends with the connection (RFC 9112, 6.3)."""
        return b"content-length" not in self.headers and b"transfer-encoding" not in self.headers

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:  # it would otherwise become part of the answer that is being read
            raise Http1Error("the peer answers what was not asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES:
            raise Http1Error(f"a head of more than {MAX_HEAD_BYTES} bytes")
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            self._head_complete = True
            self._keep_alive = self._parser.should_keep_alive()
        else:
            self.headers = {}

    def on_body(self, body: bytes) -> None:
        self._bytes_since_body = 0
        self._parts.append(body)
        self._buffered += len(body)
        if self._buffered > MAX_BUFFERED_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._head_complete:
            self._complete = True


def _head(target: str, host: str, headers: dict[str, str]) -> bytes:
    """The request's head up to the value of content-length."""
    lines = [f"POST {target} HTTP/1.1", f"host: {host}", "accept-encoding: identity"]
    for name, value in headers.items():
        if any(character in name + value for character in "\r\n"):
            raise ValueError(f"header {name!r} must not contain a line break")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "content-length: "]).encode("latin-1")
