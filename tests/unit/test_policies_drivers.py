"""Drivers add up, whatever the record; and a sum of records has the sum of their drivers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.drivers import DRIVERS, drivers, model_driver
from policies.routing import REASONS
from tests.support.spend import spend_record

AMOUNTS = st.tuples(*[st.integers(-(10**12), 10**12)] * 4)
NAMES = ("cost_nusd", "baseline_cost_nusd", "retries_nusd", "prompt_cache_nusd")


@given(
    rows=st.lists(AMOUNTS, min_size=1, max_size=5),
    kind=st.sampled_from(["request", "shadow", "judge"]),
    status=st.sampled_from(["ok", "error", "cancelled", "refused", "abandoned"]),
    cache=st.sampled_from(["hit", "miss", "off"]),
    reason=st.sampled_from(sorted(REASONS)),
)
def test_they_add_up_in_each_record_and_in_every_sum(
    rows: list[tuple[int, ...]], kind: str, status: str, cache: str, reason: str
) -> None:
    like = replace(spend_record(), kind=kind, status=status, cache=cache, reason=reason)  # type: ignore[arg-type]
    records = [replace(like, **dict(zip(NAMES, row, strict=True))) for row in rows]  # type: ignore[arg-type]
    total = replace(like, **{name: sum(getattr(record, name) for record in records) for name in NAMES})  # type: ignore[arg-type]
    parts: Counter[str] = Counter()
    for record in records:
        assert sum(drivers(record).values()) == record.savings_nusd
        parts.update(drivers(record))
    assert {driver: nusd for driver, nusd in parts.items() if nusd} == drivers(total)
    assert drivers(total).keys() <= DRIVERS.keys()


@pytest.mark.parametrize(
    ("kind", "status", "cache", "reason", "driver"),
    [
        ("request", "ok", "miss", "simple", "smaller_model"),
        ("request", "ok", "miss", "observed", "smaller_model"),
        ("request", "ok", "miss", "budget", "budget"),
        ("request", "ok", "miss", "paced", "budget"),
        ("request", "ok", "miss", "pinned", "pinned"),
        ("request", "ok", "hit", "cache", "response_cache"),
        ("request", "abandoned", "miss", "pinned", "abandoned"),
        ("shadow", "ok", "off", "shadow", "measuring"),
        ("shadow", "abandoned", "off", "shadow", "measuring"),
        ("judge", "ok", "off", "shadow", "measuring"),
    ],
)
def test_each_difference_has_one_cause(kind: str, status: str, cache: str, reason: str, driver: str) -> None:
    assert model_driver(kind, status, cache, reason) == driver
