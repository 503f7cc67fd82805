"""The HTTP client against peers that behave, and peers that do not, over real sockets on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from router.providers.http1 import (
    MAX_BUFFERED_BYTES,
    MAX_HEAD_BYTES,
    ConnectFailed,
    Http1Answer,
    Http1Client,
    Http1Error,
    Limits,
    TooManyConnections,
)

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Handler = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server that hands each request's connection to `handler`; `open` is how many connections it holds."""

    def __init__(self) -> None:
        self.handler: Handler = sends(OK)
        self.requests: list[bytes] = []
        self.accepted = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.closed = asyncio.Event()
        self.asked = asyncio.Event()
        self.port = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open += 1
        self.writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.rpartition(b"content-length: ")[2])
                self.requests.append(head + await reader.readexactly(length))
                self.asked.set()
                await self.handler(writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.open -= 1
            self.closed.set()
            writer.transport.abort()

    def client(self, limits: Limits | None = None) -> Http1Client:
        return Http1Client(f"http://127.0.0.1:{self.port}/v1/x?y=1", {"x-a": "b"}, connect_s=2.0, limits=limits)

    async def comes_down_to(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.open != count:
                await asyncio.sleep(0.005)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    yield peer
    server.close()
    for writer in peer.writers:
        writer.transport.abort()
    await peer.comes_down_to(0)


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Http1Client]:
    client = peer.client()
    yield client
    await client.close()


def sends(*pieces: bytes, pause_s: float = 0.0) -> Handler:
    """Sends the pieces, apart from each other, and waits for the next request."""

    async def handler(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)

    return handler


def sends_and_closes(*pieces: bytes) -> Handler:
    async def handler(writer: asyncio.StreamWriter) -> None:
        await sends(*pieces, pause_s=0.005)(writer)
        writer.close()

    return handler


async def whole(client: Http1Client, body: bytes = b"{}") -> bytes:
    answer = await client.post(body)
    try:
        return await answer.read(10_000_000)
    finally:
        answer.release()


async def test_a_request_is_written_as_http(peer: Peer, client: Http1Client) -> None:
    answer = await client.post(b"hello")
    assert (answer.status, answer.headers) == (200, {b"content-length": b"2"})
    assert await answer.read(2) == b"ok"
    assert await answer.next_chunk() is None
    answer.release()
    lines = b"POST /v1/x?y=1 HTTP/1.1|host: 127.0.0.1:%d|accept-encoding: identity|x-a: b|content-length: 5||hello"
    assert peer.requests == [(lines % peer.port).replace(b"|", b"\r\n")]


@pytest.mark.parametrize("answer", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])
async def test_a_connection_read_to_its_end_is_used_again(peer: Peer, client: Http1Client, answer: bytes) -> None:
    peer.handler = sends(answer)
    assert [await whole(client) for _ in range(3)] == [b"ok"] * 3
    assert peer.accepted == 1


@pytest.mark.parametrize("header", [b"HTTP/1.1 200 OK\r\nconnection: close", b"HTTP/1.0 200 OK"])
async def test_a_connection_that_is_to_close_is_not(peer: Peer, client: Http1Client, header: bytes) -> None:
    peer.handler = sends(header + b"\r\ncontent-length: 2\r\n\r\nok")
    assert [await whole(client) for _ in range(2)] == [b"ok"] * 2
    assert peer.accepted == 2


async def test_an_answer_left_unread_takes_its_connection_along(peer: Peer, client: Http1Client) -> None:
    (await client.post(b"")).release()
    await peer.comes_down_to(0)
    assert await whole(client) == b"ok"
    assert peer.accepted == 2


async def test_a_connection_closed_while_idle_is_not_tried(peer: Peer, client: Http1Client) -> None:
    peer.handler = sends_and_closes(OK)
    assert await whole(client) == b"ok"
    await peer.comes_down_to(0)
    assert await whole(client) == b"ok"
    assert len(peer.requests) == 2


async def test_a_connection_closed_as_the_request_arrives_is_replaced_once(peer: Peer, client: Http1Client) -> None:
    assert await whole(client) == b"ok"

    async def goes(writer: asyncio.StreamWriter) -> None:
        peer.handler = sends(OK)
        writer.transport.abort()

    peer.handler = goes
    assert await whole(client) == b"ok"
    assert (peer.accepted, len(peer.requests)) == (2, 3)


async def test_a_fresh_connection_that_closes_is_not_replaced(peer: Peer, client: Http1Client) -> None:
    peer.handler = sends_and_closes()
    with pytest.raises(Http1Error):
        await whole(client)
    assert len(peer.requests) == 1


async def test_an_interim_answer_is_passed_over(peer: Peer, client: Http1Client) -> None:
    peer.handler = sends(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n", OK)
    answer = await client.post(b"")
    assert (answer.status, answer.headers) == (200, {b"content-length": b"2"})
    assert await answer.read(2) == b"ok"
    answer.release()
    assert await whole(client) == b"ok"
    assert peer.accepted == 1


async def test_another_protocol_is_declined(peer: Peer, client: Http1Client) -> None:
    peer.handler = sends(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
    with pytest.raises(Http1Error, match="another protocol"):
        await whole(client)


async def test_chunks_come_as_they_are_sent(peer: Peer, client: Http1Client) -> None:
    go_on = asyncio.Event()

    async def handler(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\nx-trailer: 1\r\n\r\n")

    peer.handler = handler
    answer = await client.post(b"")
    assert await answer.next_chunk() == b"one"
    go_on.set()
    assert [await answer.next_chunk(), await answer.next_chunk()] == [b"two", None]
    answer.release()


async def test_a_body_split_anywhere_is_the_same(peer: Peer, client: Http1Client) -> None:
    wire = CHUNKED + b"2\r\n\xe4\xbd\r\n1\r\n\xa0\r\n0\r\n\r\n"
    peer.handler = sends(*[wire[index : index + 1] for index in range(len(wire))])
    assert (await whole(client)).decode() == "你"


async def test_a_body_without_length_ends_with_the_connection(peer: Peer, client: Http1Client) -> None:
    peer.handler = sends_and_closes(b"HTTP/1.1 200 OK\r\n\r\nthis ", b"and that")
    assert [await whole(client) for _ in range(2)] == [b"this and that"] * 2
    assert peer.accepted == 2


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_body_has_none(peer: Peer, client: Http1Client, status: bytes) -> None:
    peer.handler = sends(b"HTTP/1.1 " + status + b"\r\n\r\n")
    assert [await whole(client) for _ in range(2)] == [b"", b""]
    assert peer.accepted == 1


TRUNCATED = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
    CHUNKED + b"9\r\nok",
    CHUNKED + b"2\r\nok\r\n",
    CHUNKED + b"2\r\nok\r\n0\r\n",
]


@pytest.mark.parametrize("wire", TRUNCATED)
async def test_a_body_cut_short_is_an_error_after_what_came(peer: Peer, client: Http1Client, wire: bytes) -> None:
    peer.handler = sends_and_closes(wire)
    answer = await client.post(b"")
    assert await answer.next_chunk() == b"ok"
    with pytest.raises(Http1Error):
        await answer.next_chunk()
    answer.release()


GARBAGE = [
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
    CHUNKED + b"zz\r\nok\r\n",
    b"\x16\x03\x01\x00\x05hello",
]


@pytest.mark.parametrize("wire", GARBAGE)
async def test_garbage_is_an_error_and_ends_the_connection(peer: Peer, client: Http1Client, wire: bytes) -> None:
    peer.handler = sends(wire)
    with pytest.raises(Http1Error):
        await asyncio.wait_for(whole(client), 5)
    await peer.comes_down_to(0)


@pytest.mark.parametrize("more", [OK, b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nevil", b"\x00garbage"])
async def test_what_follows_an_answer_belongs_to_none(peer: Peer, client: Http1Client, more: bytes) -> None:
    peer.handler = sends(OK + more)
    answer = await client.post(b"")
    assert (answer.status, await answer.read(100)) == (200, b"ok")
    answer.release()
    await peer.comes_down_to(0)


async def test_what_comes_to_an_idle_connection_closes_it(peer: Peer, client: Http1Client) -> None:
    assert await whole(client) == b"ok"
    peer.writers[0].write(OK)
    await peer.comes_down_to(0)
    assert await whole(client) == b"ok"


LINE = b"x-%d: " + b"x" * 1_000 + b"\r\n"
TOO_MUCH_HEAD = [
    b"".join([b"HTTP/1.1 200 OK\r\n", *[LINE % index for index in range(70)], b"\r\n"]),
    b"HTTP/1.1 200 OK\r\nx: " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\ncontent-length: 2\r\n\r\nok",
]
ENDLESS = [
    (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 4_096),
    (b"HTTP/1.1 200 O", b"K" * 4_096),
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    (b"HTTP/1.1 200 OK\r\n", LINE % 1),
    (CHUNKED + b"2\r\nok\r\n0\r\nx: ", b"x" * 4_096),
]


@pytest.mark.parametrize("wire", TOO_MUCH_HEAD, ids=["many headers", "one large"])
async def test_a_large_head_is_refused(peer: Peer, client: Http1Client, wire: bytes) -> None:
    peer.handler = sends(wire)
    with pytest.raises(Http1Error, match="a head of more than"):
        await whole(client)
    await peer.comes_down_to(0)


@pytest.mark.parametrize(("start", "piece"), ENDLESS, ids=["value", "reason", "interim", "headers", "trailer"])
async def test_a_head_without_end_is_given_up(peer: Peer, client: Http1Client, start: bytes, piece: bytes) -> None:
    sent = 0

    async def handler(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(start)
        while not writer.transport.is_closing() and sent < 8_000_000:
            writer.write(piece)
            sent += len(piece)
            await asyncio.sleep(0)

    peer.handler = handler
    with pytest.raises(Http1Error, match="a head of more than"):
        await asyncio.wait_for(whole(client), 10)
    await peer.comes_down_to(0)
    assert sent < 2_000_000


async def test_a_large_head_within_the_limit_is_read(peer: Peer, client: Http1Client) -> None:
    head = b"".join([b"HTTP/1.1 200 OK\r\n", *[LINE % index for index in range(60)], b"content-length: 2\r\n\r\nok"])
    peer.handler = sends(head)
    assert [await whole(client) for _ in range(3)] == [b"ok"] * 3
    assert peer.accepted == 1


async def test_a_body_over_the_callers_limit_is_an_error(peer: Peer, client: Http1Client) -> None:
    answer = await client.post(b"")
    with pytest.raises(Http1Error, match="more than 1 bytes"):
        await answer.read(1)
    answer.release()


async def test_reading_pauses_while_nobody_reads(peer: Peer, client: Http1Client) -> None:
    """The peer is held back by the sockets' buffers, and all arrives in the end."""
    total, sent = 64_000_000, 0

    async def handler(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 64_000)
            sent += 64_000
            await writer.drain()

    peer.handler = handler
    answer = await client.post(b"")
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.1)
    assert MAX_BUFFERED_BYTES < sent < total // 2
    size = 0
    while (part := await answer.next_chunk()) is not None:
        size += len(part)
    assert size == total
    answer.release()
    peer.handler = sends(OK)
    assert await whole(client) == b"ok"
    assert peer.accepted == 1


@pytest.mark.parametrize("moment", ["before the head", "within the body"])
async def test_cancelling_closes_within_100_ms(peer: Peer, client: Http1Client, moment: str) -> None:
    peer.handler = sends() if moment == "before the head" else sends(CHUNKED)
    asking = asyncio.ensure_future(whole(client))
    await peer.asked.wait()
    await asyncio.sleep(0.02)
    asking.cancel()
    await asyncio.wait_for(peer.closed.wait(), 0.1)
    with pytest.raises(asyncio.CancelledError):
        await asking


async def burst(client: Http1Client, count: int) -> None:
    """`count` requests at once, each on a connection of its own."""
    answers: list[Http1Answer] = await asyncio.gather(*[client.post(b"") for _ in range(count)])
    for answer in answers:
        await answer.read(10)
        answer.release()


async def test_after_a_burst_only_a_few_connections_stay(peer: Peer) -> None:
    client = peer.client(Limits(max_idle=3))
    await burst(client, 10)
    await peer.comes_down_to(3)
    await burst(client, 3)
    assert peer.accepted == 10
    await client.close()
    await peer.comes_down_to(0)


async def test_what_a_burst_leaves_is_closed_though_the_newest_is_in_use(peer: Peer) -> None:
    client = peer.client(Limits(idle_s=0.3))
    await burst(client, 10)
    async with asyncio.timeout(10):
        while peer.open > 1:
            assert await whole(client) == b"ok"
            await asyncio.sleep(0.05)
    assert peer.accepted == 10
    await client.close()


async def test_the_one_idle_connection_is_not_used_when_old(peer: Peer) -> None:
    client = peer.client(Limits(idle_s=0.0))
    assert [await whole(client) for _ in range(2)] == [b"ok"] * 2
    assert peer.accepted == 2
    await client.close()


async def test_connections_being_made_count_as_such(peer: Peer) -> None:
    client = peer.client(Limits(max_connections=4))
    peer.handler = sends(CHUNKED)
    asked = await asyncio.gather(*[client.post(b"") for _ in range(10)], return_exceptions=True)
    answers = [answer for answer in asked if isinstance(answer, Http1Answer)]
    assert len(answers) == 4
    assert all(isinstance(other, TooManyConnections) for other in asked if other not in answers)
    answers[0].release()
    (await client.post(b"")).release()
    await client.close()


async def test_idle_connections_give_no_way_round_the_limit(peer: Peer) -> None:
    client = peer.client(Limits(max_connections=2))
    await burst(client, 2)
    answers = [await client.post(b""), await client.post(b"")]
    with pytest.raises(TooManyConnections):
        await client.post(b"")
    for answer in answers:
        answer.release()
    await client.close()


async def test_a_connection_that_failed_no_longer_counts() -> None:
    client = Http1Client("http://127.0.0.1:9/", {}, connect_s=2.0, limits=Limits(max_connections=1))
    for _ in range(3):
        with pytest.raises(ConnectFailed):
            await client.post(b"")


async def test_proxies_of_the_environment_are_not_used(
    peer: Peer, client: Http1Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await whole(client) == b"ok"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1", "http:///x"])
def test_a_url_must_be_one_of_http(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http"):
        Http1Client(url, {}, connect_s=1.0)


def test_a_header_must_not_hold_a_line_break() -> None:
    with pytest.raises(ValueError, match="line break"):
        Http1Client("http://127.0.0.1/", {"authorization": "Bearer x\r\nevil: 1"}, connect_s=1.0)
