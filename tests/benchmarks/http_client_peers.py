"""Peers that misbehave, one function each, and what an HTTP client makes of them.

Every peer is a real listener on loopback. Timeouts of the client under test: 1 s to connect, 0.3 s between reads.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.benchmarks.http_client_adapters import HttpClient
from tests.benchmarks.overhead.processes import free_port
from tests.benchmarks.overhead.wire import HEAD_END

Handler = Callable[["Peer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
OK = OK_HEAD + b"content-length: 2\r\n\r\n{}"
BODY = b'{"model":"m","messages":[]}'
PATIENCE_S = 6.0


@dataclass(slots=True)
class Peer:
    """A listener that treats every connection with one handler, and notes what it saw."""

    handler: Handler
    port: int = 0
    connections: int = 0
    requests: int = 0
    written: int = 0
    head: bytes = b""
    closed_at: float | None = None
    _server: asyncio.Server | None = field(default=None)

    async def __aenter__(self) -> Peer:
        """Start listening."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening; connections end with their handlers."""
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        """Where the client should send its request."""
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handler(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed_at = time.perf_counter()
        except asyncio.CancelledError:
            pass  # The case is over and the loop is closing; StreamReaderProtocol would print a traceback.
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        """Read one whole request."""
        self.head = await reader.readuntil(HEAD_END)
        await reader.readexactly(len(BODY))
        self.requests += 1


def reset(writer: asyncio.StreamWriter) -> None:
    """Abort the connection with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def says(*pieces: bytes | float | None) -> Handler:
    """A peer that reads a request, then writes the pieces; a float is a pause in seconds, None a reset."""

    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        for piece in pieces:
            if writer.is_closing():
                return
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece is None:
                await writer.drain()
                await asyncio.sleep(0.02)
                reset(writer)
                return
            else:
                writer.write(piece)
        await writer.drain()

    return handler


def header_flood(count: int, length: int) -> Handler:
    """A peer whose answer has `count` headers of `length` bytes each."""
    flood = b"".join(b"x-flood-%d: %b\r\n" % (number, b"a" * length) for number in range(count))
    return says(OK_HEAD + flood + b"content-length: 2\r\n\r\n{}", 0.05)


async def closes_idle(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request, then close the idle connection a little later."""
    await peer.request(reader)
    writer.write(OK)
    await writer.drain()
    await asyncio.sleep(0.05)


def closes_on_second(with_reset: bool) -> Handler:
    """Answer a first request; as a second arrives on the same connection, close it: the race with an idle timeout."""

    async def handler(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.request(reader)
        writer.write(OK)
        if peer.connections > 1:
            await asyncio.sleep(0.05)
            return
        await reader.read(1)
        if with_reset:
            reset(writer)

    return handler


async def endless(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stream until the client goes away; notes how much went out and when the connection ended."""
    await peer.request(reader)
    writer.write(CHUNKED_HEAD)
    watch = asyncio.ensure_future(_note_close(peer, reader))
    piece = b"4000\r\n" + b"d" * 0x4000 + b"\r\n"
    while not watch.done():
        writer.write(piece)
        try:
            async with asyncio.timeout(0.5):
                await writer.drain()
        except TimeoutError:
            break
        peer.written += 0x4000
        await asyncio.sleep(0)
    await watch


async def trickle(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a chunk each 20 ms until the client goes away."""
    await peer.request(reader)
    writer.write(CHUNKED_HEAD)
    watch = asyncio.ensure_future(_note_close(peer, reader))
    while not watch.done() and not writer.is_closing():
        writer.write(b"8\r\ndata: x\n\r\n")
        await asyncio.sleep(0.02)


async def silent(peer: Peer, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answer; notes when the client hangs up."""
    await peer.request(reader)
    await _note_close(peer, reader)


async def _note_close(peer: Peer, reader: asyncio.StreamReader) -> None:
    try:
        await reader.read()
    except ConnectionError:
        pass
    peer.closed_at = time.perf_counter()


# What the client does ------------------------------------------------------------------------------------------


async def fetch(client: HttpClient, url: str) -> str:
    """Read a stream to its end, so that errors before and after the head can be told apart."""
    pieces = 0
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in client.stream(url, BODY):
                pieces += 1
    except Exception as error:  # noqa: BLE001 - which exception comes is what is being found out
        return f"{describe(error)}\nafter {pieces} pieces, {elapsed_ms(started)}"
    return f"no error: {pieces} pieces, {elapsed_ms(started)}"


def elapsed_ms(started: float) -> str:
    """Milliseconds since `started`, to read."""
    return f"{(time.perf_counter() - started) * 1000:.0f} ms"


def describe(error: BaseException) -> str:
    """The exception's class, its bases short of Exception, and its words."""
    bases = [base.__name__ for base in type(error).__mro__[1:] if base not in (object, BaseException, Exception)]
    causes = [cause["message"] for cause in (getattr(error, "details", None) or {}).get("causes") or []]
    return f"{type(error).__name__} ({', '.join(bases[:3])}): {error.args[0] if error.args else error}"[:160] + (
        f" [{'; '.join(causes)}]"[:160] if causes else ""
    )


async def one_request(client: HttpClient, handler: Handler) -> str:
    """A single request to the peer."""
    async with Peer(handler) as peer:
        return await fetch(client, peer.url)


async def two_requests(client: HttpClient, handler: Handler, pause_s: float) -> str:
    """Two requests with a pause: does the second meet the closed connection, and who repairs it?"""
    async with Peer(handler) as peer:
        await client.call(peer.url, BODY)
        await asyncio.sleep(pause_s)
        outcome = await fetch(client, peer.url)
        return f"{outcome}\n{peer.connections} connections"


async def cancelled(client: HttpClient, handler: Handler, pieces_first: int) -> str:
    """Cancel the task that reads, or waits for the head; how long until the peer sees the connection close?"""
    async with Peer(handler) as peer:
        arrived = asyncio.Event()

        async def read() -> None:
            seen = 0
            async for _ in client.stream(peer.url, BODY):
                seen += 1
                if seen >= pieces_first:
                    arrived.set()

        task = asyncio.ensure_future(read())
        await (arrived.wait() if pieces_first else asyncio.sleep(0.1))
        started = time.perf_counter()
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        return await _closed_after(peer, started, type(result).__name__)


async def abandoned(client: HttpClient) -> str:
    """Leave the stream's iterator after a piece, without cancelling."""
    async with Peer(trickle) as peer:
        stream = client.stream(peer.url, BODY)
        await anext(stream)
        started = time.perf_counter()
        await stream.aclose()  # type: ignore[attr-defined]
        return await _closed_after(peer, started, "aclose")


async def _closed_after(peer: Peer, started: float, what: str) -> str:
    while peer.closed_at is None and time.perf_counter() - started < 2:
        await asyncio.sleep(0.001)
    if peer.closed_at is None:
        return f"{what}; still open after 2 s"
    return f"{what}; closed after {(peer.closed_at - started) * 1000:.1f} ms"


async def backpressure(client: HttpClient) -> str:
    """Read one piece of an endless answer, then stop reading: how much does the client take in?"""
    async with Peer(endless) as peer:
        stream = client.stream(peer.url, BODY)
        await anext(stream)
        await asyncio.sleep(1.0)
        taken = peer.written
        await stream.aclose()  # type: ignore[attr-defined]
        return f"{taken / 1e6:.1f} MB accepted (socket buffers included)"


async def refused(client: HttpClient) -> str:
    """Nobody listens."""
    return await fetch(client, f"http://127.0.0.1:{free_port()}/v1/chat/completions")


async def unroutable(client: HttpClient) -> str:
    """A listener whose queue is full: the connection is never made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        outcome = await fetch(client, f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions")
        for filler in fillers:
            filler.close()
        return outcome


async def sent_head(client: HttpClient) -> str:
    """What the client adds to the headers it was given."""
    async with Peer(says(OK)) as peer:
        await client.call(peer.url, BODY)
        return peer.head.decode().strip()


LATIN_1_HEADER = OK_HEAD + b"x-name: caf\xe9\r\ncontent-length: 2\r\n\r\n{}"
REDIRECT = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\n{}"
GZIP = OK_HEAD + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"
CASES: dict[str, Callable[[HttpClient], Awaitable[str]]] = {
    "connection refused": refused,
    "connection never made (full queue)": unroutable,
    "no such host": lambda client: fetch(client, "http://no-such-host.invalid/"),
    "closed before any answer": lambda client: one_request(client, says()),
    "reset before any answer": lambda client: one_request(client, says(None)),
    "closed within the head": lambda client: one_request(client, says(OK_HEAD)),
    "no HTTP at all": lambda client: one_request(client, says(b"SSH-2.0-OpenSSH_9.2\r\n", 0.05)),
    "slow head (silent)": lambda client: one_request(client, says(3.0, OK)),
    "slow head (a byte each 0.2 s)": lambda client: one_request(
        client, says(*[p for b in OK for p in (bytes([b]), 0.2)])
    ),
    "slow body (silent)": lambda client: one_request(client, says(CHUNKED_HEAD + b"2\r\n{}\r\n", 3.0)),
    "content-length body cut by close": lambda client: one_request(
        client, says(OK_HEAD + b"content-length: 9\r\n\r\n{}")
    ),
    "content-length body cut by reset": lambda client: one_request(
        client, says(OK_HEAD + b"content-length: 9\r\n\r\n{}", None)
    ),
    "chunked body cut by close": lambda client: one_request(client, says(CHUNKED_HEAD + b"2\r\n{}\r\n")),
    "chunked body cut within a chunk": lambda client: one_request(client, says(CHUNKED_HEAD + b"9\r\n{}")),
    "chunked body cut by reset": lambda client: one_request(client, says(CHUNKED_HEAD + b"2\r\n{}\r\n", None)),
    "chunk size is no number": lambda client: one_request(client, says(CHUNKED_HEAD + b"zz\r\n{}\r\n")),
    "two different content-lengths": lambda client: one_request(
        client, says(OK_HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 0.05)
    ),
    "200 headers of 100 bytes": lambda client: one_request(client, header_flood(200, 100)),
    "2,000 headers of 500 bytes (1 MB)": lambda client: one_request(client, header_flood(2_000, 500)),
    "one header of 100 KB": lambda client: one_request(client, header_flood(1, 100_000)),
    "a header in Latin-1": lambda client: one_request(client, says(LATIN_1_HEADER)),
    "gzip announced, not gzip": lambda client: one_request(client, says(GZIP)),
    "redirect elsewhere": lambda client: one_request(client, says(REDIRECT)),
    "idle connection closed by the peer": lambda client: two_requests(client, closes_idle, 0.2),
    "closed as the second request arrives": lambda client: two_requests(client, closes_on_second(False), 0.05),
    "reset as the second request arrives": lambda client: two_requests(client, closes_on_second(True), 0.05),
    "cancelled mid-stream": lambda client: cancelled(client, trickle, 3),
    "cancelled before the head": lambda client: cancelled(client, silent, 0),
    "iterator left mid-stream": abandoned,
    "reader stops reading": backpressure,
    "headers sent": sent_head,
}


async def outcomes(make_client: Callable[[float, float], HttpClient]) -> dict[str, str]:
    """Every case's outcome for one client; a fresh client each, so that no pool carries over."""
    results = {}
    for name, case in CASES.items():
        client = make_client(1.0, 30.0 if "cancelled" in name else 0.3)  # a timeout would close the connection too
        async with asyncio.timeout(2 * PATIENCE_S):
            results[name] = await case(client)
        await client.close()
    return results
