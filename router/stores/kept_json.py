"""JSON that is kept in memory: records of the last seconds, of what waits for Redis, counters of a window."""

from __future__ import annotations

from typing import Any

import orjson


def kept_json(value: Any) -> bytes:
    """`value` as JSON, in no more memory than it has bytes.

    orjson hands out its whole buffer, ten times as much and more: kept for each request of five seconds, that was
    most of what a busy worker took.
    """
    return bytes(memoryview(orjson.dumps(value)))
