"""Batches, whose requests lie in one file and whose answers in another, in an order of their own.

Only where each request lies is remembered, about 200 bytes for each; a batch holds at most 50,000 (OpenAI API
reference, "Create batch"). The request itself is read when its answer comes along.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from router.replay.content import STDIN
from router.replay.sources import LogError

_FIRST_LINE_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_AMBIGUOUS = (-1, 0, 0)


@dataclass(frozen=True, slots=True)
class BatchInputs:
    """`places` tells of each custom id in which of the `paths` its line begins, and how long it is."""

    paths: tuple[str, ...] = ()
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def body_of(self, custom_id: object) -> dict[str, Any] | None:
        """The request of that id; None where there is none, or where two batches call different requests so."""
        file, offset, size = self.places.get(str(custom_id), _AMBIGUOUS)
        if file < 0:
            return None
        with open(self.paths[file], "rb") as lines:
            found = orjson.loads(os.pread(lines.fileno(), size, offset))
        body = found.get("body")
        return body if isinstance(body, dict) else None


def part_batches(paths: Sequence[str]) -> tuple[tuple[str, ...], BatchInputs]:
    """The logs without the inputs of batches, and those. Raises LogError where they are all that there is."""
    places: dict[str, tuple[int, int, int]] = {}
    inputs: list[str] = []
    for name in paths:
        try:
            if _is_input(name):
                _index(Path(name), len(inputs), places)
                inputs.append(name)
        except OSError as error:
            raise LogError(f"{name}: cannot be read ({error.strerror or error})") from error
    logs = tuple([name for name in paths if name not in inputs])
    if not logs:
        raise LogError("found the requests of batches alone; name the files with their answers, too")
    return logs, BatchInputs(tuple(inputs), places)


def _is_input(name: str) -> bool:
    """By its first line, which holds a request and no response."""
    path = Path(name)
    if name == STDIN or not path.is_file():
        return False
    with path.open("rb") as lines:
        if lines.read(2) == _GZIP_MAGIC:
            return False
        lines.seek(0)
        record = _parsed(lines.readline(_FIRST_LINE_BYTES))
    return "custom_id" in record and "body" in record and "response" not in record


def _index(path: Path, index: int, places: dict[str, tuple[int, int, int]]) -> None:
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            custom_id = _parsed(line).get("custom_id")
            if custom_id is not None:
                key = str(custom_id)
                places[key] = _AMBIGUOUS if key in places else (index, offset, len(line))
            offset += len(line)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
