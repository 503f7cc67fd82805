"""The elements of a JSON array, one by one, without holding the array: exports are written as one large value.

An array stands alone, or as a field of an object around it (`{"data": [...]}`), of which several may follow each other;
or there is none, and objects follow each other as elements would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from router.replay.rows import BadKind

_FIELD = rb'"(?:data|records|value|items|observations|generations|requests|logs)"\s*:\s*\['
ARRAY_AT = re.compile(rb'\{(?:\s*"\w+"\s*:\s*(?:"[^"\\]*"|[\w.+-]+)\s*,)*\s*' + _FIELD)
"""At the beginning of a file: an object whose array is its first field that is no plain value."""
_NEXT_ARRAY = re.compile(_FIELD)
_BARE_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)
"""A whole text, or what opens and closes; a quote by itself is a text that the piece at hand cuts off."""
_ELEMENT = re.compile(rb"[^\s,:}]")
_SCALAR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^\s,:"\[\]{}]+', re.DOTALL)

Elements = tuple[tuple[int, bytes], ...]
Wrong = tuple[int, BadKind, str]
Pieces = Iterator[tuple[tuple[int, int], tuple[int, int], Elements, tuple[Wrong, ...]]]


def array_blocks(read: Callable[[int], bytes], block_bytes: int, most_bytes: int, bare: bool = False) -> Pieces:
    """((offset, line) before, the same after, elements with their lines, what is wrong), about a block at a time.

    Whether an element is a record is for others to say. What never closes, and what is longer than `most_bytes`, ends
    the reading: where the next element begins can no longer be told. That counts as a byte, so that whoever goes on
    from behind it does not find it again. `bare`: elements without an array around them.
    """
    buffer, offset, line = read(block_bytes), 0, 1
    inside = bare
    while buffer:
        before = (offset, line)
        found, at, inside = _elements(buffer, inside)
        elements = tuple(_with_lines(buffer, found, line))
        line, offset, buffer = line + buffer.count(b"\n", 0, at), offset + at, buffer[at:]
        new = read(block_bytes)
        closed = bare and not buffer.strip()
        wrong = _wrong(buffer, new, inside and not closed, line, most_bytes)
        yield before, (offset + len(wrong), line), elements, wrong
        if wrong or not new:
            return
        buffer += new


def _with_lines(buffer: bytes, found: list[tuple[int, int]], line: int) -> Iterator[tuple[int, bytes]]:
    counted = 0
    for start, end in found:
        line += buffer.count(b"\n", counted, start)
        counted = start
        yield line, buffer[start:end]


def _elements(buffer: bytes, inside: bool) -> tuple[list[tuple[int, int]], int, bool]:
    """Where the whole elements of this piece begin and end, how far it was read, and whether that is in an array."""
    found: list[tuple[int, int]] = []
    at = 0
    while True:
        at, start, inside = _next(buffer, at, inside)
        end = None if start is None else _end(buffer, start)
        if start is None or end is None:
            return found, at, inside
        found.append((start, end))
        at = end


def _next(buffer: bytes, at: int, inside: bool) -> tuple[int, int | None, bool]:
    """Where the reading stands, where the next element begins (None: not in this piece), and whether in an array."""
    while True:
        if not inside:
            found = _BARE_ARRAY.match(buffer, at) or _NEXT_ARRAY.search(buffer, at)
            if found is None:
                return at, None, False
            at, inside = found.end(), True
        something = _ELEMENT.search(buffer, at)
        if something is None:
            return at, None, True
        mark = something.group()
        if mark == b"]":
            at, inside = something.end(), False
        else:
            return at, something.start(), True


def _end(buffer: bytes, start: int) -> int | None:
    """Behind the element that begins at `start`; None where it is cut off, as a number may be that ends the piece."""
    scalar = _SCALAR.match(buffer, start)
    if scalar is not None:
        return scalar.end() if scalar.end() < len(buffer) else None
    depth = 0
    for found in _STRUCTURE.finditer(buffer, start):
        mark = found.group()
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return found.end()
        elif mark == b'"':
            return None
    return None


def _wrong(rest: bytes, new: bytes, inside: bool, line: int, most_bytes: int) -> tuple[Wrong, ...]:
    if len(rest) > most_bytes:
        return ((line, "record too large", f"found more than {most_bytes} bytes; what follows was not read"),)
    if not new and inside:
        return ((line, "broken record", "what begins before never ends: the file is cut off"),)
    return ()
