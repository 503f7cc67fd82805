"""uvicorn's HTTP protocol with two changes: writes are gathered, and what comes before a body is bounded.

uvicorn writes the head and the body of a response apart, and uvloop makes a system call of each
write; on loopback one costs as much as parsing the request. What one turn of the event loop writes
leaves in one. And uvicorn bounds neither the size nor the age of a request's head.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGE_BYTES = 65_536
"""Copying a larger piece would cost more than its system call."""
HEAD_BYTES = 65_536
"""The largest head of a request; trailers, too."""
HEAD_SECONDS = 30.0
"""From a connection's beginning, or a head's first byte, to the head's end."""
TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 32\r\nconnection: close\r\n\r\nThe head has more than 64 KiB.\r\n"
)


class CoalescingTransport:
    """Passes everything on to `transport`, writes at the end of the turn. Closing flushes first."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        if len(data) > LARGE_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        pending = self._pending
        if pending:
            self._pending = []
            # A client that has left closed it meanwhile, and uvloop raises where asyncio says nothing.
            if not self._transport.is_closing():
                self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))


class CoalescingProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a CoalescingTransport, for heads of bounded size and age.

    A head that comes whole, as nearly all do, sets no timer: there is one for the connection's
    beginning, and one where a piece of data leaves a head incomplete.
    """

    # Slots: a few attributes more, and uvicorn's own would fall out of CPython's fast layout.
    __slots__ = (
        "_chunk_began",
        "_chunked_scope",
        "_framing_bytes",
        "_head_bytes",
        "_plain_bytes",
        "_timer",
        "_waits_since_s",
    )
    head_seconds = HEAD_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, CoalescingTransport(transport, asyncio.get_running_loop())))
        self._plain_bytes = -1  # data no longer than this needs no look before it is parsed
        self._head_bytes = 0
        self._framing_bytes = 0
        self._chunk_began = False
        self._chunked_scope: object = self
        self._waits_since_s: float | None = self.loop.time()
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if len(data) > self._plain_bytes:
            self._receive_carefully(data)
            return
        HttpToolsProtocol.data_received(self, data)
        if self.cycle.response_complete or "method" not in self.scope:
            self._wait(len(data))

    def on_chunk_header(self) -> None:
        """The parser calls it for chunked bodies only."""
        self._chunked_scope = self.scope
        self._chunk_began = True
        self._plain_bytes = -1

    def _receive_carefully(self, data: bytes) -> None:
        expects_head = self._in_head() or self.cycle.response_complete
        if expects_head and self._head_bytes + len(data) > HEAD_BYTES:
            room = HEAD_BYTES - self._head_bytes
            self._feed(data[:room])
            if self._in_head():
                self._refuse()
                return
            data = data[room:]
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        cycle = self.cycle
        body_bytes = len(cycle.body) if cycle is not None else 0
        HttpToolsProtocol.data_received(self, data)
        is_chunked = self._chunked_scope is self.scope
        if is_chunked:
            self._count_framing(len(data), body_grew=self.cycle is cycle and len(cycle.body) > body_bytes)
        if self._in_head() or self.cycle.response_complete:
            self._wait(len(data))
        else:
            self._head_bytes = 0
            self._waits_since_s = None
            self._plain_bytes = -1 if is_chunked else HEAD_BYTES

    def _in_head(self) -> bool:
        return self.cycle is None or "method" not in self.scope  # which uvicorn enters at the head's end

    def _wait(self, size: int) -> None:
        """Notes that a head is incomplete, or that a request still comes that is answered already."""
        if self.transport.is_closing():
            return
        self._plain_bytes = -1
        is_first = self._waits_since_s is None
        if is_first:
            self._waits_since_s = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(self.head_seconds, self._look)
        # Behind a request that is being answered, most of this piece may have been its body.
        if self._in_head() and not (is_first and self._is_answering()):
            self._head_bytes = min(self._head_bytes + size, HEAD_BYTES)

    def _count_framing(self, size: int, *, body_grew: bool) -> None:
        """What comes after a chunk's header and is no body are trailers: the parser keeps them."""
        if self._chunk_began:
            self._chunk_began = False
            self._framing_bytes = 0
        elif not body_grew:
            self._framing_bytes += size
        if self._framing_bytes > HEAD_BYTES:
            self._refuse()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Closes the connection where it has waited for `head_seconds`."""
        self._timer = None
        if self._waits_since_s is None:
            return
        left_s = self._waits_since_s + self.head_seconds - self.loop.time()
        if left_s <= 0 and not self._is_answering():
            self.transport.close()
        else:
            self._timer = self.loop.call_later(left_s if left_s > 0 else self.head_seconds, self._look)

    def _refuse(self) -> None:
        if self._in_head() and not self._is_answering():
            self.transport.write(TOO_LARGE)
        self.transport.close()
