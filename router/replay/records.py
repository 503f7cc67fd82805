"""A block of a log -> its records, each with its line: objects, or what is wrong in their place."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from router.replay.rows import BadRow
from router.replay.sources import MAX_RECORD_BYTES, Block, delimiter_of

Record = dict[str, Any]


def records_of(block: Block, columns: Mapping[str, str]) -> Iterator[tuple[int, Record | BadRow]]:
    """Of every row that is not empty. `columns`: what is read -> the name that it goes by in this log."""
    for broken in block.broken:
        yield broken.line, BadRow(broken.kind, broken.sentence)
    if block.shape == "csv":
        rows = _csv_records(block, columns)
    elif block.shape in ("array", "objects"):
        rows = ((line, _object(element)) for line, element in block.elements)
    else:
        rows = _line_records(block)
    for line, record in rows:
        if columns and isinstance(record, dict):
            record = {**record, **{name: record.get(column) for name, column in columns.items()}}
        yield line, record


def _line_records(block: Block) -> Iterator[tuple[int, Record | BadRow]]:
    for line, text in enumerate(block.data.split(b"\n"), start=block.start.line):
        if text and not text.isspace():
            yield line, _object(text)


def _object(text: bytes) -> Record | BadRow:
    if len(text) > MAX_RECORD_BYTES:
        return BadRow("record too large", f"found {len(text)} bytes; at most {MAX_RECORD_BYTES} are read")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return BadRow("broken record", f"is no JSON: {error.msg} at character {error.pos}")
    if not isinstance(value, dict):
        return BadRow("broken record", f"found a {type(value).__name__}; a record must be a JSON object")
    return value


def _csv_records(block: Block, columns: Mapping[str, str]) -> Iterator[tuple[int, Record | BadRow]]:
    """Fields that are empty are left out; a row of another length than the header is broken."""
    csv.field_size_limit(MAX_RECORD_BYTES)
    delimiter = delimiter_of(block.header)
    try:
        names = next(csv.reader(_lines(block.header), delimiter=delimiter), [])
    except csv.Error as error:
        yield (
            block.start.line,
            BadRow("broken record", f"the first line, which must name the columns, is no CSV: {error}"),
        )
        return
    absent = [repr(column) for column in columns.values() if column not in names]
    reader = csv.reader(_lines(block.data), delimiter=delimiter)
    while True:
        line = block.start.line + reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, BadRow("broken record", f"is no CSV: {error}")
            continue
        if absent and row:
            yield line, BadRow("unknown format", f"--column: the first line names no column {', '.join(absent)}")
        elif len(row) == len(names):
            yield line, {name: value for name, value in zip(names, row, strict=True) if value}
        elif row:
            yield line, BadRow("broken record", f"found {len(row)} columns; the first line names {len(names)}")


def _lines(data: bytes) -> Iterator[str]:
    """One line after the other, as the reader wants them, so that it can count them; NUL is no text."""
    for line in data.split(b"\n"):
        yield line.decode("utf-8", "replace").replace("\x00", "�") + "\n"
