"""What is kept takes the memory of its bytes."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from router.stores.counters import counters_of
from router.stores.kept_json import kept_json
from tests.support.spend import spend_record
from tests.unit.test_router_stores_counters import counter


def kept_bytes(value: object) -> tuple[bytes, int]:
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        kept = kept_json(value)
        after_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return kept, after_bytes - before_bytes


@pytest.mark.parametrize("value", [spend_record().to_json(), ["e" * 5_000], {}])
def test_it_is_as_large_as_it_is_long(value: object) -> None:
    kept, taken_bytes = kept_bytes(value)
    assert kept == orjson.dumps(value)
    assert taken_bytes < len(kept) + 200


def test_so_are_the_counters_that_are_remembered_for_each_end_user() -> None:
    wanted = [counter(id=f"b{number}") for number in range(10)]
    counters_of(wanted)
    tracemalloc.start()
    try:
        found = counters_of(wanted)
        sizes = [trace.size for trace in tracemalloc.take_snapshot().traces]
    finally:
        tracemalloc.stop()
    assert max(sizes) < len(found.described) + 200
