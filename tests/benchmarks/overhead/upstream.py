"""A fast stand-in for a model's server: OpenAI's chat completions over HTTP/1.1, answered from memory.

One asyncio Protocol on uvloop; no framework, so that the upstream is never what the benchmark measures. Wire format:
OpenAI API reference, "Chat completions", and RFC 9112 for the framing.

Run: python -m tests.benchmarks.overhead.upstream --port 9000 [--gap-ms 0]. GET /pace/one-by-one and /pace/at-once
say how the events of streams leave from then on.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, cast

import orjson
import uvloop

from tests.benchmarks.overhead.wire import HEAD_END, LAST_CHUNK, Head, parse_head

CHUNKS_PER_STREAM: Final = 20
WORDS: Final = (
    "A cache keeps what was asked before, so that the same question need not be answered twice. It pays when "
    "questions repeat and when an old answer is still true; it costs memory, and the care of knowing when to forget. "
).split(" ")
ANSWER: Final = " ".join(WORDS * 4).strip()
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
CREATED: Final = 1_760_000_000


class Answers:
    """Renders answers; the identifiers differ from request to request, the texts do not."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def whole(self, model: str, prompt_bytes: int) -> bytes:
        """One non-streaming response with its head; the body is about 1 KB."""
        body = orjson.dumps(
            {
                "id": self._next_id(),
                "object": "chat.completion",
                "created": CREATED,
                "model": model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": usage(prompt_bytes),
                "service_tier": "default",
                "system_fingerprint": "fp_benchmark",
            }
        )
        return b"%b%d\r\n\r\n%b" % (JSON_HEAD, len(body), body)

    def stream(self, model: str, prompt_bytes: int, include_usage: bool) -> Iterator[bytes]:
        """The HTTP chunks of one streamed response, one an event: role, content, finish, usage where asked, [DONE]."""
        prefix = (
            orjson.dumps(
                {"id": self._next_id(), "object": "chat.completion.chunk", "created": CREATED, "model": model}
            )[:-1]
            + b',"service_tier":"default","system_fingerprint":"fp_benchmark","choices":['
        )
        tail = b'],"usage":null}' if include_usage else b"]}"
        yield framed(
            prefix + b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
            b'"logprobs":null,"finish_reason":null}' + tail
        )
        for number in range(CHUNKS_PER_STREAM):
            word = WORDS[number % len(WORDS)].encode()
            yield framed(
                prefix + b'{"index":0,"delta":{"content":"' + word + b' "},"logprobs":null,"finish_reason":null}' + tail
            )
        yield framed(prefix + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}' + tail)
        if include_usage:
            yield framed(prefix + b'],"usage":' + orjson.dumps(usage(prompt_bytes, CHUNKS_PER_STREAM)) + b"}")
        yield framed(b"[DONE]")

    def _next_id(self) -> str:
        return f"chatcmpl-{next(self._numbers):024x}"


def usage(prompt_bytes: int, output_tokens: int = 180) -> dict[str, object]:
    """A usage object whose input grows with the prompt (about eight bytes of request body a token)."""
    input_tokens = max(1, prompt_bytes // 8)
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def framed(event: bytes) -> bytes:
    """One server-sent event as one HTTP chunk."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(event) + 8, event)


@dataclass(slots=True)
class Pace:
    """How a stream leaves: in one system call, or each event in one of its own, `gap_s` apart."""

    one_by_one: bool = False
    gap_s: float = 0.0


class Upstream(asyncio.Protocol):
    """One client connection: requests are answered in order, each before the next is read."""

    def __init__(self, answers: Answers, pace: Pace) -> None:
        self._answers = answers
        self._pace = pace
        self._buffer = b""
        self._head: Head | None = None
        self._events: Iterator[bytes] | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of a new connection."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop a stream whose reader has gone."""
        self._events = None

    def data_received(self, data: bytes) -> None:
        """Collect bytes and answer every request that has become complete."""
        self._buffer += data
        self._serve_buffered()

    def _serve_buffered(self) -> None:
        while self._events is None and (request := self._next_request()) is not None:
            self._answer(*request)

    def _next_request(self) -> tuple[bytes, bytes] | None:
        """The first line and body of a complete request, taken out of the buffer."""
        if self._head is None:
            end = self._buffer.find(HEAD_END)
            if end < 0:
                return None
            self._head = parse_head(self._buffer[:end])
            self._buffer = self._buffer[end + 4 :]
        if self._head.chunked:
            body = self._take_chunked()
        else:
            body = self._take(self._head.content_length or 0)
        if body is None:
            return None
        first_line, self._head = self._head.first_line, None
        return first_line, body

    def _take(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _take_chunked(self) -> bytes | None:
        """A chunked body; it is cut at the last chunk, which a JSON text cannot contain."""
        end = self._buffer.find(b"\r\n" + LAST_CHUNK)
        if end < 0:
            return None
        framed_body, self._buffer = self._buffer[: end + 2], self._buffer[end + 7 :]
        parts, position = [], 0
        while position < len(framed_body):
            line_end = framed_body.index(b"\r\n", position)
            size = int(framed_body[position:line_end], 16)
            parts.append(framed_body[line_end + 2 : line_end + 2 + size])
            position = line_end + 4 + size
        return b"".join(parts)

    def _answer(self, first_line: bytes, body: bytes) -> None:
        method, path, _ = first_line.split(b" ", 2)
        if method == b"post" and path.endswith(b"/chat/completions"):
            self._complete(body)
        elif path.endswith(b"/models"):
            self._write_json(b'{"object":"list","data":[{"id":"benchmark","object":"model","owned_by":"tests"}]}')
        elif path.endswith(b"/health"):
            self._write_json(b'{"status":"ok"}')
        elif path.startswith(b"/pace/"):
            self._pace.one_by_one = path == b"/pace/one-by-one"
            self._write_json(b'{"status":"ok"}')
        else:
            self._write_json(b'{"error":{"message":"no such path"}}', b"404 Not Found")

    def _complete(self, body: bytes) -> None:
        request = orjson.loads(body)
        model = request.get("model", "benchmark")
        if not request.get("stream"):
            self._transport.write(self._answers.whole(model, len(body)))
            return
        include_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        events = self._answers.stream(model, len(body), include_usage)
        if self._pace.one_by_one or self._pace.gap_s:
            self._transport.write(STREAM_HEAD)
            self._events = events
            self._write_event()
        else:
            self._transport.write(b"".join((STREAM_HEAD, *events, LAST_CHUNK)))

    def _write_event(self) -> None:
        """Write one event a turn of the loop: its own system call, as tokens leave a real server."""
        if self._events is None or self._transport.is_closing():
            return
        event = next(self._events, None)
        if event is None:
            self._events = None
            self._transport.write(LAST_CHUNK)
            self._serve_buffered()
            return
        self._transport.write(event)
        if self._pace.gap_s:
            self._loop.call_later(self._pace.gap_s, self._write_event)
        else:
            self._loop.call_soon(self._write_event)

    def _write_json(self, body: bytes, status: bytes = b"200 OK") -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
        )


async def serve(port: int, pace: Pace) -> None:
    """Listen on loopback until cancelled."""
    answers = Answers()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(answers, pace), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gap-ms", type=float, default=0.0, help="time between the chunks of a stream")
    options = parser.parse_args()
    gc.disable()  # A collection would show up as the proxy's latency.
    uvloop.run(serve(options.port, Pace(gap_s=options.gap_ms / 1000)))


if __name__ == "__main__":
    main()
