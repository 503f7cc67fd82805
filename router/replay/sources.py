"""Files of logs -> blocks of whole records, in order and in constant memory.

A block knows where the next one begins, so that reading can go on from there after an interruption. Its borders
depend on the files alone, never on how many processes judge.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from router.errors import ConfigError
from router.replay.json_arrays import ARRAY_AT, array_blocks
from router.replay.rows import BadKind

Shape = Literal["lines", "csv", "array"]

BLOCK_BYTES = 1 << 20
"""How much is read at a time: some hundreds of requests, a fraction of a second's work."""
MAX_RECORD_BYTES = 32 << 20
"""A longer record is reported and passed over: prompt and answer of the largest windows have a tenth of that."""
STDIN = "-"
_HEAD_BYTES = 65_536
_LOG_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".log", ".txt")
_GZIP_MAGIC = b"\x1f\x8b"


class LogError(ConfigError, ValueError):
    """A log that cannot be read at all, or options that do not fit it."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a block begins: which file, how many (unpacked) bytes and lines precede it."""

    file: int = 0
    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class Broken:
    """A piece of a file that holds no record."""

    line: int
    kind: BadKind
    sentence: str


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records: `data` for lines and CSV, whose `header` is its first record; `elements` of an array, each with
    its line. `next` is where the following block begins; `read_bytes` is how far the file was read, packed as it is.
    """

    start: Position
    next: Position
    shape: Shape
    data: bytes = b""
    header: bytes = b""
    elements: tuple[tuple[int, bytes], ...] = ()
    broken: tuple[Broken, ...] = ()
    read_bytes: int = 0


def find_logs(paths: Iterable[str]) -> tuple[str, ...]:
    """The files that are named, and those in the folders that are; sorted within a folder. Raises LogError."""
    found: list[str] = []
    for name in paths:
        path = Path(name)
        if name == STDIN or path.is_file() or path.is_fifo():
            found.append(name)
        elif path.is_dir():
            inside = sorted(str(file) for file in path.rglob("*") if file.is_file() and _is_log(file))
            if not inside:
                raise LogError(f"{name}: holds no logs; they end in {', '.join(_LOG_SUFFIXES)}, with or without .gz")
            found.extend(inside)
        else:
            raise LogError(f"{name}: there is no such file or folder")
    if found.count(STDIN) > 1 or len(set(found)) < len(found):
        raise LogError("a log is named twice: its requests would count as twice as many")
    return tuple(found)


def _is_log(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(_LOG_SUFFIXES)


def size_of(paths: Sequence[str]) -> int | None:
    """Bytes of all files as they lie on the disk; None where one of them is a stream."""
    if any(name == STDIN or not Path(name).is_file() for name in paths):
        return None
    return sum(Path(name).stat().st_size for name in paths)


def blocks(paths: Sequence[str], start: Position = Position(), block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The records of all files from `start` on. Raises LogError for a file that cannot be read."""
    for index in range(start.file, len(paths)):
        begin = start if index == start.file else Position(index)
        try:
            with _opened(paths[index]) as (raw, stream):
                yield from _file_blocks(raw, stream, begin, block_bytes)
        except (OSError, EOFError, zlib.error) as error:
            raise LogError(f"{paths[index]}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


class _opened:
    """The file as it lies on the disk, whose position tells progress, and its content, unpacked where it is packed."""

    def __init__(self, name: str) -> None:
        self._raw: BinaryIO = sys.stdin.buffer if name == STDIN else open(name, "rb")  # noqa: SIM115 - closed below
        # A buffer around a buffer loses Ctrl-C; what stands in for stdin in a program may have none.
        peeks = isinstance(self._raw, io.BufferedReader)
        ahead = cast("io.BufferedReader", self._raw) if peeks else io.BufferedReader(cast("io.RawIOBase", self._raw))
        packed = ahead.peek(2)[:2] == _GZIP_MAGIC
        self._stream: IO[bytes] = cast("IO[bytes]", gzip.GzipFile(fileobj=ahead)) if packed else ahead

    def __enter__(self) -> tuple[IO[bytes], IO[bytes]]:
        return self._raw, self._stream

    def __exit__(self, *_: object) -> None:
        if self._raw is not sys.stdin.buffer:
            self._raw.close()


def _file_blocks(raw: IO[bytes], stream: IO[bytes], start: Position, block_bytes: int) -> Iterator[Block]:
    head = stream.read(_HEAD_BYTES)
    shape = _shape(head)
    if shape == "array":
        yield from _arrays(raw, head, stream, start, block_bytes)
        return
    header, begin = b"", Position(start.file, 0, 1)
    if head.startswith(b"\xef\xbb\xbf"):
        begin = Position(start.file, 3, 1)
    if shape == "csv":
        header = head[begin.offset : _end_of_records(head, first=True)]
        begin = Position(start.file, begin.offset + len(header), 1 + header.count(b"\n"))
    if start.offset > begin.offset:
        begin = start
    yield from _line_blocks(raw, _Ahead(head, stream, begin.offset), begin, shape, header, block_bytes)


def _shape(head: bytes) -> Shape:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"[" or ARRAY_AT.match(text):
        return "array"
    # A line that begins otherwise is a broken record among lines, or else the names of columns.
    return "lines" if text[:1] == b"{" or b"," not in text.split(b"\n", 1)[0] else "csv"


class _Ahead:
    """A stream of which the head was read already, from `offset` on. What cannot be sought is read and dropped."""

    def __init__(self, head: bytes, stream: IO[bytes], offset: int) -> None:
        self._head, self._stream = head[offset:], stream
        beyond = offset - len(head)
        while beyond > 0:
            dropped = len(stream.read(min(beyond, BLOCK_BYTES)))
            if not dropped:
                break
            beyond -= dropped

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head if len(head) == size else head + self._stream.read(size - len(head))


def _line_blocks(
    raw: IO[bytes], stream: _Ahead, at: Position, shape: Shape, header: bytes, block_bytes: int
) -> Iterator[Block]:
    rest = b""
    while True:
        new = stream.read(block_bytes)
        data = rest + new
        if not data:
            return
        end = len(data) if not new else _end_of_records(data) if shape == "csv" else data.rfind(b"\n") + 1
        if end == 0 and len(data) <= MAX_RECORD_BYTES:
            rest = data
            continue
        if end == 0:
            skipped, rest = _skip_record(data, stream, block_bytes)
            yield _too_large(at, skipped, shape, raw)
            at = Position(at.file, at.offset + skipped[0], at.line + skipped[1])
            continue
        rest, whole = data[end:], data[:end]
        following = Position(at.file, at.offset + end, at.line + whole.count(b"\n"))
        yield Block(at, following, shape, whole, header, read_bytes=_told(raw))
        at = following


def _end_of_records(data: bytes, first: bool = False) -> int:
    """Behind the last line feed (or the first) that ends a record of CSV: outside of quotes, of which an even number
    precede it, for a quote within quotes is written twice. 0 where there is none."""
    if first:
        end = data.find(b"\n") + 1
        while end and data.count(b'"', 0, end) % 2:
            end = data.find(b"\n", end) + 1
        return end or len(data)
    end, quotes = len(data), data.count(b'"')
    while True:
        feed = data.rfind(b"\n", 0, end)
        if feed < 0:
            return 0
        quotes -= data.count(b'"', feed, end)
        if quotes % 2 == 0:
            return feed + 1
        end = feed


def _skip_record(data: bytes, stream: _Ahead, block_bytes: int) -> tuple[tuple[int, int], bytes]:
    """Passes over a record that is too large, to the next line feed: (bytes, lines), and what was read beyond."""
    size, lines = 0, 0
    while data:
        end = data.find(b"\n", max(MAX_RECORD_BYTES - size, 0)) + 1
        if end:
            return (size + end, lines + data.count(b"\n", 0, end)), data[end:]
        size, lines = size + len(data), lines + data.count(b"\n")
        data = stream.read(block_bytes)
    return (size, lines), b""


def _too_large(at: Position, skipped: tuple[int, int], shape: Shape, raw: IO[bytes]) -> Block:
    following = Position(at.file, at.offset + skipped[0], at.line + skipped[1])
    why = Broken(at.line, "record too large", f"found {skipped[0]} bytes; at most {MAX_RECORD_BYTES} are read")
    return Block(at, following, shape, broken=(why,), read_bytes=_told(raw))


def _arrays(raw: IO[bytes], head: bytes, stream: IO[bytes], start: Position, block_bytes: int) -> Iterator[Block]:
    """Elements of arrays; read from the beginning each time, since an element is known by those before it."""
    ahead = _Ahead(head, stream, 0)
    for first, after, elements, broken in array_blocks(ahead.read, block_bytes, MAX_RECORD_BYTES):
        at, following = Position(start.file, *first), Position(start.file, *after)
        if at.offset < start.offset:
            continue
        told = tuple(Broken(line, kind, sentence) for line, kind, sentence in broken)
        yield Block(at, following, "array", elements=elements, broken=told, read_bytes=_told(raw))


def _told(raw: IO[bytes]) -> int:
    try:
        return os.lseek(raw.fileno(), 0, os.SEEK_CUR)
    except (OSError, ValueError):
        return 0
