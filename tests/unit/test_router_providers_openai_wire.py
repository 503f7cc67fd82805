"""What an upstream on OpenAI's wire does, and what becomes of it: answers relayed, refusals as our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import (
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.providers.openai_wire import MAX_ANSWER_BYTES, Endpoint, OpenAIWireProvider, error_of_status, retry_after_s
from tests.support.upstream import (
    Upstream,
    answer,
    close,
    hang,
    page,
    raw,
    reply,
    reset,
    status,
    stream,
    upstream_server,
    wrong_length,
)

MESSAGE = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
TOO_LONG: list[dict[str, Any]] = [
    {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    {"error": {"message": MESSAGE, "type": "BadRequestError", "param": None, "code": 400}},
    {"object": "error", "message": MESSAGE, "type": "BadRequestError", "param": None, "code": 400},
    {"error": {"code": 400, "message": "exceeds the available size", "type": "exceed_context_size_error"}},
    {"object": "error", "message": "Prompt too large for model with 32768 maximum context length", "code": "3051"},
]
OTHER_FAULTS: list[tuple[int, bytes]] = [
    (400, b'{"error": {"message": "no such voice", "code": "invalid_value"}}'),
    (400, b'{"error": "plain words"}'),
    (400, b"{}"),
    (400, b"<html>maximum context length</html>"),
    (400, b""),
    (422, orjson.dumps(TOO_LONG[0])),
]


@pytest.mark.parametrize("body", TOO_LONG)
def test_a_prompt_that_is_too_long_there_is_told_apart(body: dict[str, Any]) -> None:
    error = error_of_status("small", 400, orjson.dumps(body), None)
    assert type(error) is UpstreamContextExceeded
    assert (error.status, orjson.loads(error.body), error.retryable) == (400, body, False)


@pytest.mark.parametrize(("status", "body"), OTHER_FAULTS)
def test_another_fault_of_the_request_is_none_of_length(status: int, body: bytes) -> None:
    assert type(error_of_status("small", status, body, None)) is UpstreamRejected


STATUSES: list[tuple[int, type[UpstreamError], bool]] = [
    (302, UpstreamUnavailable, False),
    (307, UpstreamUnavailable, False),
    (400, UpstreamRejected, False),
    (401, UpstreamUnavailable, False),
    (402, UpstreamUnavailable, False),
    (403, UpstreamUnavailable, False),
    (404, UpstreamRejected, False),
    (408, UpstreamTimeout, True),
    (422, UpstreamRejected, False),
    (429, UpstreamRateLimited, True),
    (500, UpstreamUnavailable, True),
    (503, UpstreamUnavailable, True),
    (504, UpstreamTimeout, True),
]


@pytest.mark.parametrize(("code", "kind", "retryable"), STATUSES)
def test_a_status_says_what_went_wrong_and_whether_to_ask_again(
    code: int, kind: type[UpstreamError], retryable: bool
) -> None:
    error = error_of_status("small", code, b"", None)
    assert (type(error), error.retryable) == (kind, retryable)
    assert str(code) in str(error) or code == 429


NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("²", None),
        ("٣", None),
        ("-3", None),
        ("1.2.3", None),
        (".", None),
        ("soon", None),
        ("", None),
        ("9" * 400, 86_400.0),
        ("9" * 5_000, 86_400.0),
        (formatdate(NOW_S + 30, usegmt=True), 30.0),
        (formatdate(NOW_S - 30, usegmt=True), 0.0),
        (formatdate(NOW_S + 1e9, usegmt=True), 86_400.0),
        ("Mon, 01 Jan 2024 00:00:00 +" + "9" * 20, None),
    ],
)
def test_retry_after_is_a_number_a_date_or_nothing(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_S) == seconds


@given(st.text(st.characters(max_codepoint=255)))
def test_no_retry_after_is_an_accident(value: str) -> None:
    seconds = retry_after_s(value, NOW_S)
    assert seconds is None or 0.0 <= seconds <= 86_400.0


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream_server() as upstream:
        yield upstream


@pytest.fixture
async def provider(server: Upstream) -> AsyncIterator[OpenAIWireProvider]:
    server.reset()
    made = OpenAIWireProvider(Endpoint("small", server.base_url + "/", "sk-test", connect_s=2.0))
    yield made
    await made.close()


def request(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "你好"}], **more}


async def refused(provider: OpenAIWireProvider, **more: Any) -> UpstreamError:
    """The error that a whole request comes to, be it at the head or in the body."""
    with pytest.raises(UpstreamError) as caught:
        await (await provider.open(request(**more), stream=False)).read()
    return caught.value


async def test_a_request_goes_out_as_it_is(server: Upstream, provider: OpenAIWireProvider) -> None:
    opened = await provider.open(request(seed=3), stream=False)
    assert orjson.loads(await opened.read())["choices"][0]["message"]["content"] == "Hello!"
    sent = server.received[0]
    assert (sent.method, sent.path, sent.body) == ("POST", "/v1/chat/completions", request(seed=3))
    assert sent.headers["authorization"] == "Bearer sk-test"
    assert sent.headers["accept-encoding"] == "identity"


async def test_without_a_key_no_credential_is_sent(server: Upstream) -> None:
    server.reset()
    keyless = OpenAIWireProvider(Endpoint("small", server.base_url, None, connect_s=2.0))
    await (await keyless.open(request(), stream=False)).read()
    await keyless.close()
    assert "authorization" not in server.received[0].headers


async def test_a_stream_is_relayed_byte_for_byte(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = stream(["He", "llo"], pause_s=0.01)
    opened = await provider.open(request(stream=True), stream=True)
    pieces = []
    while (piece := await opened.next_chunk()) is not None:
        pieces.append(piece)
    await opened.close()
    events = b"".join(pieces).split(b"\n\n")
    assert len(pieces) > 1
    assert events[-2:] == [b"data: [DONE]", b""]
    assert [orjson.loads(event[6:])["choices"][0]["delta"].get("content") for event in events[:2]] == ["He", "llo"]


async def test_two_answers_read_to_their_end_share_a_connection(server: Upstream, provider: OpenAIWireProvider) -> None:
    before = server.accepted
    for _ in range(3):
        await (await provider.open(request(), stream=False)).read()
    assert server.accepted - before == 1


async def test_closing_a_stream_hangs_up(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = stream(["x"] * 1_000, pause_s=0.05)
    opened = await provider.open(request(stream=True), stream=True)
    assert await opened.next_chunk()
    await opened.close()
    assert await asyncio.to_thread(server.received[0].gone.wait, 5)
    assert await opened.next_chunk() is None


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "deflate, gzip"])
async def test_a_compressed_answer_is_refused(server: Upstream, provider: OpenAIWireProvider, coding: str) -> None:
    server.default = answer(headers={"content-encoding": coding})
    error = await refused(provider)
    assert (type(error), error.retryable, error.may_be_billed) == (UpstreamUnavailable, False, True)
    assert f"answers compressed ({coding.lower()}) although not asked" in str(error)


async def test_identity_is_no_compression(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = answer(headers={"content-encoding": "identity"})
    assert await (await provider.open(request(), stream=False)).read()


async def test_a_refusal_keeps_body_and_status(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = status(422, "no such voice", code="odd")
    error = await refused(provider)
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.may_be_billed) == (422, False)
    assert orjson.loads(error.body)["error"]["code"] == "odd"


async def test_an_error_page_is_not_relayed(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = page(404)
    error = await refused(provider)
    assert isinstance(error, UpstreamRejected)
    assert error.body == b""


async def test_a_refusal_names_when_to_come_back(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = status(429, headers={"retry-after": "9" * 400})
    assert (await refused(provider)).retry_after_s == 86_400.0
    server.default = status(503, headers={"retry-after": "\u00b2".encode().decode("latin-1")})
    assert (await refused(provider)).retry_after_s is None


async def test_a_refusal_whose_body_never_comes_is_still_one(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = raw(b"HTTP/1.1 404 Nope\r\ncontent-length: 9\r\n\r\n{", "close")
    error = await refused(provider)
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.body) == (404, b"")


@pytest.mark.parametrize("behaviour", [close(), reset(), wrong_length(), raw(b"nonsense\r\n\r\n", "hang")])
async def test_an_upstream_that_breaks_off_is_unavailable(
    server: Upstream, provider: OpenAIWireProvider, behaviour: Any
) -> None:
    server.default = behaviour
    error = await refused(provider)
    assert (type(error), error.retryable) == (UpstreamUnavailable, True)
    assert error.may_be_billed


async def test_an_answer_without_end_is_given_up(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = lambda _: [reply(200, b"x" * (MAX_ANSWER_BYTES + 1))]
    assert "more than" in str(await refused(provider))


async def test_nobody_listening_is_unavailable() -> None:
    nobody = OpenAIWireProvider(Endpoint("small", "http://127.0.0.1:9/v1", None, connect_s=2.0))
    error = await refused(nobody)
    assert (type(error), error.may_be_billed) == (UpstreamUnavailable, False)


async def test_who_leaves_early_hangs_up(server: Upstream, provider: OpenAIWireProvider) -> None:
    server.default = hang()
    asked = asyncio.ensure_future(provider.open(request(), stream=False))
    await asyncio.to_thread(server.wait_for_call)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await asyncio.to_thread(server.received[0].gone.wait, 5)
