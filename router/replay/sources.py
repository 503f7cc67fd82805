"""Files of logs -> blocks of whole records, in order and in constant memory.

A block knows where the next one begins, so that reading can go on from there after an interruption. Its borders
depend on the files alone, never on how many processes judge.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from router.errors import ConfigError
from router.replay.content import STDIN, Content
from router.replay.json_arrays import ARRAY_AT, array_blocks
from router.replay.rows import BadKind

Shape = Literal["lines", "csv", "array", "objects"]
"""`objects`: one after the other, each over several lines."""
DELIMITERS = ",;\t"
"""One of these parts the columns of CSV."""

BLOCK_BYTES = 1 << 20
"""How much is read at a time: some hundreds of requests, a fraction of a second's work."""
MAX_RECORD_BYTES = 32 << 20
"""A longer record is reported and passed over: prompt and answer of the largest windows have a tenth of that."""
_HEAD_BYTES = 65_536
_LOG_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".log", ".txt")
_UTF8_MARK = codecs.BOM_UTF8
_FOREIGN = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a ZIP archive or a workbook",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
}
"""How files begin that are logs in no form that is read here."""


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
    if len({Path(name).resolve() for name in found}) < len(found):
        raise LogError("a log is named twice: its requests would count as twice as many")
    return tuple(found)


def _is_log(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(_LOG_SUFFIXES)


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
            with Content(paths[index]) as content:
                yield from _file_blocks(content, begin, block_bytes)
        except OSError as error:
            raise LogError(f"{paths[index]}: cannot be read ({error.strerror or error})") from error


def _file_blocks(content: Content, start: Position, block_bytes: int) -> Iterator[Block]:
    head = content.read(_HEAD_BYTES)
    foreign = next((what for mark, what in _FOREIGN.items() if head.startswith(mark)), None)
    if foreign is not None:
        why = f"is {foreign}; allowed are JSON, JSON lines and CSV, plain or packed with gzip"
        yield from _broken_once(Position(start.file), start, Broken(1, "unknown format", why), content)
        return
    shape = _shape(head)
    at = start
    records = _arrays if shape in ("array", "objects") else _lines
    for block in records(content, head, shape, start, block_bytes):
        at = block.next
        yield block
    if content.damage:
        why = f"the archive is damaged, and what follows lost: {content.damage}"
        end = Position(start.file, content.size, at.line)
        yield from _broken_once(end, start, Broken(at.line, "broken record", why), content)


def _broken_once(at: Position, start: Position, why: Broken, content: Content) -> Iterator[Block]:
    """Counts as a byte, so that whoever goes on from behind it does not find it again."""
    if start.offset <= at.offset:
        following = Position(at.file, at.offset + 1, at.line)
        yield Block(at, following, "lines", broken=(why,), read_bytes=content.told())


def _lines(content: Content, head: bytes, shape: Shape, start: Position, block_bytes: int) -> Iterator[Block]:
    header, begin = b"", Position(start.file, 0, 1)
    if head.startswith(_UTF8_MARK):
        begin = Position(start.file, len(_UTF8_MARK), 1)
    if shape == "csv":
        header = head[begin.offset : _end_of_records(head, first=True)]
        begin = Position(start.file, begin.offset + len(header), 1 + header.count(b"\n"))
    if start.offset > begin.offset:
        begin = start
    yield from _line_blocks(_Ahead(head, content, begin.offset), begin, shape, header, block_bytes)


def _shape(head: bytes) -> Shape:
    text = head.removeprefix(_UTF8_MARK).lstrip()
    if text[:1] == b"[" or ARRAY_AT.match(text):
        return "array"
    line = text.split(b"\n", 1)[0]
    if text[:1] == b"{":
        return "objects" if line.rstrip() == b"{" else "lines"
    # A line that begins otherwise is a broken record among lines, or else the names of columns.
    return "csv" if any(delimiter.encode() in line for delimiter in DELIMITERS) else "lines"


class _Ahead:
    """A stream of which the head was read already, from `offset` on. What cannot be sought is read and dropped."""

    def __init__(self, head: bytes, content: Content, offset: int) -> None:
        self._head, self._content = head[offset:], content
        beyond = offset - len(head)
        while beyond > 0:
            dropped = len(content.read(min(beyond, BLOCK_BYTES)))
            if not dropped:
                break
            beyond -= dropped

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head if len(head) == size else head + self._content.read(size - len(head))

    def told(self) -> int:
        return self._content.told()


def _line_blocks(stream: _Ahead, at: Position, shape: Shape, header: bytes, block_bytes: int) -> Iterator[Block]:
    rest = b""
    while True:
        new = stream.read(block_bytes)
        data = rest + new
        if not data:
            return
        closed = shape != "csv" or data.count(b'"') % 2 == 0
        end = len(data) if not new and closed else _end_of_records(data) if shape == "csv" else data.rfind(b"\n") + 1
        if end == 0 and new and len(data) <= MAX_RECORD_BYTES:
            rest = data
            continue
        if end == 0:
            block, rest = (
                _line_alone(data, at, header, stream)
                if shape == "csv"
                else _pass_over_record(data, stream, at, block_bytes)
            )
            yield block
            at = block.next
            continue
        rest, whole = data[end:], data[:end]
        following = Position(at.file, at.offset + end, at.line + whole.count(b"\n"))
        yield Block(at, following, shape, whole, header, read_bytes=stream.told())
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


def _pass_over_record(data: bytes, stream: _Ahead, at: Position, block_bytes: int) -> tuple[Block, bytes]:
    """To the line feed behind a record that is too large; and what was read beyond."""
    size, rest = 0, b""
    while data:
        end = data.find(b"\n", max(MAX_RECORD_BYTES - size, 0)) + 1
        if end:
            size, rest = size + end, data[end:]
            break
        size += len(data)
        data = stream.read(block_bytes)
    why = Broken(at.line, "record too large", f"found {size} bytes; at most {MAX_RECORD_BYTES} are read")
    following = Position(at.file, at.offset + size, at.line + 1)
    return Block(at, following, "lines", broken=(why,), read_bytes=stream.told()), rest


def _line_alone(data: bytes, at: Position, header: bytes, stream: _Ahead) -> tuple[Block, bytes]:
    """Of CSV the first line, which has a quote that nothing closes; rather than a record of such a size. Else it would
    take all rows behind it along. Amid a field it means nothing, and the line is a record."""
    end = data.find(b"\n") + 1 or len(data)
    following = Position(at.file, at.offset + end, at.line + 1)
    try:
        next(csv.reader([data[:end].decode("utf-8", "replace")], delimiter=delimiter_of(header), strict=True))
    except csv.Error:
        why = Broken(
            at.line, "broken record", f"a quote that opens here does not close within {MAX_RECORD_BYTES} bytes"
        )
        return Block(at, following, "csv", header=header, broken=(why,), read_bytes=stream.told()), data[end:]
    return Block(at, following, "csv", data[:end], header, read_bytes=stream.told()), data[end:]


def delimiter_of(header: bytes) -> str:
    """What parts the columns that the first line of CSV names."""
    return max(DELIMITERS, key=header.decode("utf-8", "replace").count)


def _arrays(content: Content, head: bytes, shape: Shape, start: Position, block_bytes: int) -> Iterator[Block]:
    """Elements of arrays; read from the beginning each time, since an element is known by those before it."""
    ahead = _Ahead(head, content, 0)
    for first, after, elements, broken in array_blocks(ahead.read, block_bytes, MAX_RECORD_BYTES, shape == "objects"):
        at, following = Position(start.file, *first), Position(start.file, *after)
        if at.offset < start.offset:
            continue
        told = tuple(Broken(line, kind, sentence) for line, kind, sentence in broken)
        yield Block(at, following, shape, elements=elements, broken=told, read_bytes=content.told())
