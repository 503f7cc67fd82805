"""Writes of one turn leave together, in order, and none is lost on closing; heads are bounded in size and age."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from router.api.asgi import Receive, Scope, Send, read_body
from router.api.coalescing import LARGE_BYTES, CoalescingProtocol, CoalescingTransport


class Transport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.lost = False

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return self.lost

    def get_extra_info(self, name: str) -> str:
        return f"info on {name}"


def coalescing(transport: Transport) -> CoalescingTransport:
    return CoalescingTransport(transport, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_writes_of_one_turn_leave_as_one() -> None:
    below = Transport()
    transport = coalescing(below)
    transport.write(b"head ")
    transport.write(b"body")
    assert below.calls == []
    await asyncio.sleep(0)
    assert below.calls == [b"head body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert below.calls == [b"head body", b"more"]


async def test_nothing_is_written_to_a_client_that_left_meanwhile() -> None:
    below = Transport()
    coalescing(below).write(b"last words")
    below.lost = True
    await asyncio.sleep(0)
    assert below.calls == []


async def test_a_large_piece_goes_out_at_once_behind_what_waits() -> None:
    below = Transport()
    transport = coalescing(below)
    large = b"x" * (LARGE_BYTES + 1)
    transport.write(b"head")
    transport.write(large)
    assert below.calls == [b"head", large]
    await asyncio.sleep(0)
    assert below.calls == [b"head", large]


async def test_closing_sends_what_waits_first() -> None:
    below = Transport()
    transport = coalescing(below)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert below.calls == [b"last words", "close"]


async def test_everything_else_is_the_transports_own() -> None:
    assert coalescing(Transport()).get_extra_info("socket") == "info on socket"


# heads


class Hasty(CoalescingProtocol):
    head_seconds = 0.15


GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = b"x" * 40_000


async def _sized(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length, to /slow later than a hasty head may last; /early reads no body."""
    body = b"" if scope["path"] == "/early" else await read_body(receive, 10_000_000)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.4)
    text = b"<%d>" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def connected(
    protocol: type[CoalescingProtocol] = CoalescingProtocol,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(_sized, lifespan="off", log_config=None, http=protocol, ws="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve(sockets=[listener]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                yield reader, writer
            finally:
                writer.close()
                server.should_exit = True
                await task


async def pour(writer: asyncio.StreamWriter, *pieces: bytes) -> None:
    """Each piece arrives on its own; what the other side no longer takes is left."""
    for piece in pieces:
        try:
            writer.write(piece)
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0.02)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, which it does with a reset where the other side left something unread."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "pieces",
    [
        [GET + b"A: " + BIG + BIG],
        [GET + b"A: ", BIG, BIG],
        [b"GET /", BIG, BIG],
        [GET + b"A: " + BIG + BIG + b"\r\n\r\n"],
    ],
)
async def test_a_head_that_is_too_large_is_refused(pieces: list[bytes]) -> None:
    for before in ([], [GET + b"\r\n"]):
        async with connected() as (reader, writer):
            await pour(writer, *before, *pieces)
            answer = await rest(reader)
            assert answer.count(b"HTTP/1.1") == 1 + len(before)
            assert b"HTTP/1.1 431 " in answer
            assert answer.endswith(b"64 KiB.\r\n")


async def test_a_head_may_be_large_and_come_in_pieces_and_so_may_many() -> None:
    async with connected() as (reader, writer):
        for _ in range(4):
            await pour(writer, GET + b"A: ", BIG, b"\r\n\r\n")
            assert (await reader.readuntil(b"<0>")).startswith(b"HTTP/1.1 200")


async def test_bodies_are_no_heads() -> None:
    body = BIG * 50
    async with connected() as (reader, writer):
        writer.write(POST % (b"", len(body)) + body + GET[:9])
        assert b"<2000000>" in await reader.readuntil(b">")
        await pour(writer, GET[9:] + b"\r\n")
        await reader.readuntil(b"<0>")
        writer.write(POST % (b"early", len(body)) + body + GET + b"\r\n")
        await reader.readuntil(b"<0>")
        await reader.readuntil(b"<0>")


async def test_a_chunked_body_may_be_long_and_its_trailers_not() -> None:
    chunks = b"9c40\r\n" + BIG + b"\r\n"
    async with connected() as (reader, writer):
        await pour(writer, CHUNKED % b"", *[chunks] * 10, *[b"1\r\nx\r\n" * 20_000] * 3, b"0\r\nA: b\r\n\r\n")
        assert b"<460000>" in await reader.readuntil(b">")
        await pour(writer, GET + b"\r\n")
        await reader.readuntil(b"<0>")


@pytest.mark.parametrize("path", [b"", b"early"])
async def test_trailers_are_bounded(path: bytes) -> None:
    async with connected() as (reader, writer):
        await pour(writer, CHUNKED % path + b"1\r\nx\r\n0\r\n", b"A: ", *[BIG] * 20)
        async with asyncio.timeout(4):
            await rest(reader)


@pytest.mark.parametrize("pieces", [[], [b"G"], [b"\r\n"], [GET], [GET + b"\r\n" + GET], [POST % (b"early", 9), b"x"]])
async def test_silent_and_slow_heads_are_closed(pieces: list[bytes]) -> None:
    async with connected(Hasty) as (reader, writer):
        await pour(writer, *pieces)
        async with asyncio.timeout(4):  # uvicorn itself closes after 5 s, and only where nothing comes
            await rest(reader)


async def test_a_head_that_drips_is_closed_too() -> None:
    async with connected(Hasty) as (reader, writer):
        await pour(writer, GET, *[b"A: b\r\n"] * 15)
        async with asyncio.timeout(4):
            assert await rest(reader) == b""


async def test_a_slow_answer_is_no_slow_head() -> None:
    async with connected(Hasty) as (reader, writer):
        await pour(writer, GET.replace(b"/", b"/slow", 1) + b"\r\n" + GET[:7])
        assert b"<0>" in await reader.readuntil(b">")
