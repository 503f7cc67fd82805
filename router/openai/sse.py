"""Server-sent events of a chat stream: whole events out of arbitrary pieces, and what they said."""

from __future__ import annotations

import re
from typing import Any

import orjson

from policies.usage import TokenUsage
from router.openai.responses import AnswerFacts, dicts, id_fragment, message_texts, our_id_fragment, usage_of

DONE = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 4_194_304
_BLANK_LINES = re.compile(rb"\n{3,}")


_FIELDS = (b"data", b"event", b"id", b"retry", b":")


def begins_like_events(data: bytes) -> bool:
    """Whether the first bytes of an answer may be those of an event stream (WHATWG HTML, 9.2.5)."""
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    return any(data.startswith(name) or name.startswith(data) for name in _FIELDS)


class EventTooLarge(Exception):
    """One event exceeds MAX_EVENT_BYTES: the peer speaks something else."""


class EventSplitter:
    """Collects bytes until events are whole. Line ends become plain line feeds, blank lines one."""

    __slots__ = ("_more", "_rest", "_waiting_bytes")

    def __init__(self) -> None:
        self._rest = b""
        self._more: list[bytes] = []
        """What came after `_rest` without a line end; joined once one comes, lest long lines cost their square."""
        self._waiting_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """All events completed by `data`, each ending in a blank line; b"" if there is none."""
        if self._rest:
            if b"\n" not in data and b"\r" not in data and not self._rest.endswith(b"\r"):
                self._more.append(data)
                self._wait(self._waiting_bytes + len(data))
                return b""
            data = self._taken() + data
        held = b""
        if b"\r" in data:
            if data.endswith(b"\r"):  # the first half of a \r\n, perhaps
                data, held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n\n\n" in data:
            data = _BLANK_LINES.sub(b"\n\n", data)
        if data[:1] == b"\n":
            data = data.lstrip(b"\n")
        end = data.rfind(b"\n\n") + 2
        if end == len(data) > 1 and not held:
            return data
        if end == 1:
            end = 0
        self._rest = data[end:] + held
        self._wait(len(self._rest))
        return data[:end]

    def rest(self) -> bytes:
        """What a stream that ended without a blank line left behind."""
        return self._taken().replace(b"\r", b"\n")

    def _taken(self) -> bytes:
        rest = b"".join([self._rest, *self._more]) if self._more else self._rest
        self._rest = b""
        self._more = []
        self._waiting_bytes = 0
        return rest

    def _wait(self, size_bytes: int) -> None:
        self._waiting_bytes = size_bytes
        if size_bytes > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")


class StreamRelay:
    """Passes a provider's stream on under our id, and reads along.

    `drop_usage` leaves out the final usage-only event, for clients that did not ask for it.
    """

    def __init__(self, request_id: str, *, drop_usage: bool) -> None:
        self._splitter = EventSplitter()
        self._ours = our_id_fragment(request_id)
        self._theirs: bytes | None = None
        self._drop_usage = drop_usage
        self._texts: list[str] = []
        self._reasons: list[str] = []
        self._usage: TokenUsage | None = None
        self._model: str | None = None
        self.done = False
        """`data: [DONE]` has come: the answer is whole."""
        self.error: dict[str, Any] | None = None
        """The error that the provider sent in mid-stream, if any."""

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on for `data`; b"" while no event is whole. Raises EventTooLarge."""
        block = self._splitter.feed(data)
        return self._relay(block) if block else b""

    def finish(self) -> bytes:
        """The bytes to pass on at the end of the provider's stream."""
        rest = self._splitter.rest()
        return self._relay(rest.rstrip(b"\n") + b"\n\n") if rest.strip() else b""

    def facts(self) -> AnswerFacts:
        return AnswerFacts(self._usage, self._model, ",".join(self._reasons), "".join(self._texts))

    def _relay(self, block: bytes) -> bytes:
        dropped = None
        for event in block.split(b"\n\n"):
            if event and self._read(event):
                dropped = [event] if dropped is None else [*dropped, event]
        if dropped is not None:
            block = b"\n\n".join([event for event in block.split(b"\n\n") if event not in dropped])
        return block.replace(self._theirs, self._ours) if self._theirs is not None else block

    def _read(self, event: bytes) -> bool:
        """Takes note of one event; True where it is not to be passed on."""
        payload = event[6:] if event.startswith(b"data: {") else _data_of(event)
        if not payload:
            return False
        if payload == b"[DONE]":
            self.done = True
            return False
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        return isinstance(chunk, dict) and self._note(event, chunk)

    def _note(self, event: bytes, chunk: dict[str, Any]) -> bool:
        if self._theirs is None or not self._model:
            self._begin(event, chunk)
        choices = dicts(chunk.get("choices"))
        for choice in choices:
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._texts.extend(message_texts(delta))
            reason = choice.get("finish_reason")
            if isinstance(reason, str):
                self._reasons.append(reason)
        usage = chunk.get("usage")
        if usage:
            self._usage = usage_of(usage) or self._usage
        if "error" in chunk and not choices and chunk["error"]:
            self.error = chunk["error"] if isinstance(chunk["error"], dict) else {"message": str(chunk["error"])}
        return self._drop_usage and not choices and bool(usage)

    def _begin(self, event: bytes, chunk: dict[str, Any]) -> None:
        """Takes the model and the id from the first chunk that has them: a first one may come without."""
        model = chunk.get("model")
        if not self._model and model and isinstance(model, str):
            self._model = model
        if self._theirs is None:
            self._theirs = id_fragment(event, chunk.get("id"))


def _data_of(event: bytes) -> bytes:
    """The data of one event: its `data` lines, joined (WHATWG HTML, 9.2.6)."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def error_event(body: bytes) -> bytes:
    """An error that comes once a stream has begun: one `data:` frame with the error object in it."""
    return b"data: " + body + b"\n\n"
