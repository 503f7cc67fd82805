"""A provider that does as it is told, call by call, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson


class Hangs:
    """In a script: nothing comes any more."""


Piece = bytes | BaseException | asyncio.Event | type[Hangs]
"""Bytes that arrive, a failure, or something to wait for."""

Script = bytes | BaseException | type[Hangs] | Sequence[Piece]
"""A whole answer, a failure of the call, an answer that never begins, or a stream's pieces."""


class ScriptedAnswer:
    def __init__(self, script: bytes | Sequence[Piece]) -> None:
        self._script = script
        self._pieces = iter(() if isinstance(script, bytes) else script)
        self.closed = False

    async def read(self) -> bytes:
        assert isinstance(self._script, bytes), "a stream was read as a whole"
        self.closed = True
        return self._script

    async def next_chunk(self) -> bytes | None:
        assert not self.closed, "read after close"
        for piece in self._pieces:
            await asyncio.sleep(0)
            if isinstance(piece, bytes):
                return piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif isinstance(piece, BaseException):
                raise piece
            else:
                await asyncio.Event().wait()
        return None

    async def close(self) -> None:
        self.closed = True


class ScriptedProvider:
    """Follows `scripts`, one a call; the last one for all calls that come after."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[ScriptedAnswer] = []

    async def open(self, body: dict[str, Any], *, stream: bool) -> ScriptedAnswer:
        orjson.dumps(body)  # it goes on the wire
        self.bodies.append(body)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        await asyncio.sleep(0)
        if isinstance(script, BaseException):
            raise script
        if isinstance(script, type):
            await asyncio.Event().wait()
        answer = ScriptedAnswer(script)  # type: ignore[arg-type]
        self.answers.append(answer)
        return answer

    async def close(self) -> None:
        pass


def completion(text: str = "Hello.", **changes: Any) -> bytes:
    """A whole answer of 10 input and 2 output tokens, unless `changes` says otherwise."""
    values: dict[str, Any] = {
        "id": "chatcmpl-theirs",
        "object": "chat.completion",
        "model": "wire-model-0613",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
        "vendor_extension": [1, None],
    }
    return orjson.dumps(values | changes)


def stream_of(*texts: str, usage: bool = True, finish_reason: str | None = "stop", done: bool = True) -> list[bytes]:
    """A stream's pieces, an event each: `texts`, the finish reason, usage of 10 + 2 tokens, [DONE]."""
    events = [_chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in texts]
    if finish_reason:
        events.append(_chunk([{"index": 0, "delta": {}, "finish_reason": finish_reason}]))
    if usage:
        events.append(_chunk([], usage={"prompt_tokens": 10, "completion_tokens": 2}))
    return [*events, b"data: [DONE]\n\n"] if done else events


def _chunk(choices: list[Any], **more: Any) -> bytes:
    head = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "model": "wire-model-0613"}
    return b"data: " + orjson.dumps(head | {"choices": choices} | more) + b"\n\n"
