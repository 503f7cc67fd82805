"""Just enough HTTP/1.1 for both ends of the benchmark: message heads, lengths, and whether a stream is whole.

Only what the benchmark's own upstream and the proxies under test send is understood; everything else is an error
that the table shows. Format: RFC 9112.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
DONE_EVENT: Final = b"data: [DONE]"
CONTENT_KEY: Final = b'"content":"'
EMPTY_CONTENT: Final = b'"content":""'


@dataclass(frozen=True, slots=True)
class Head:
    """The part of a message before its body, lower-cased, with the two facts that say where the body ends."""

    first_line: bytes
    content_length: int | None
    chunked: bool
    closes: bool


def parse_head(head: bytes) -> Head:
    """Read the framing headers of one message; `head` ends before the blank line."""
    lowered = head.lower()
    first_line, _, fields = lowered.partition(b"\r\n")
    length = _field(fields, b"content-length")
    return Head(
        first_line=first_line,
        content_length=int(length) if length is not None else None,
        chunked=_field(fields, b"transfer-encoding") == b"chunked",
        closes=_field(fields, b"connection") == b"close",
    )


def _field(fields: bytes, name: bytes) -> bytes | None:
    """One header's value, or None where it is absent."""
    start = 0 if fields.startswith(name + b":") else fields.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    value_start = fields.index(b":", start) + 1
    value_end = fields.find(b"\r\n", value_start)
    return fields[value_start : value_end if value_end >= 0 else len(fields)].strip()


def status_of(head: Head) -> int:
    """The status code of a response's first line; 0 where there is none."""
    parts = head.first_line.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def content_chunks(body: bytes) -> int:
    """How many events of a streamed answer carry text: empty deltas (the role, the finish) do not count.

    Works on the framed bytes too, as long as each event's delta lies within one HTTP chunk.
    """
    compact = body.replace(b'"content": "', CONTENT_KEY)
    return compact.count(CONTENT_KEY) - compact.count(EMPTY_CONTENT)


def stream_is_whole(body: bytes, expected_chunks: int) -> bool:
    """Whether a streamed answer ended with [DONE] after all of its chunks, and with no error frame."""
    return DONE_EVENT in body and b'"error"' not in body and content_chunks(body) == expected_chunks
