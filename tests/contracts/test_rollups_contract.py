"""The hourly sums say what the records say, whatever came twice, late, or at once with others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select

from policies.budget import Budget
from policies.spend import SpendRecord
from router.stores.cells import HOUR_MS, Dimension
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import reading, writing
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_partitions import drop_rows_before
from router.stores.sql_rollups import rebuild_rollups
from router.stores.sql_rows import SUMS
from router.stores.sql_schema import HOURLY_SUMS, LEDGER_ROWS
from tests.support.spend import spend_record

EVER = (0, 2**53)
START_MS = 1_793_000_000_000 // HOUR_MS * HOUR_MS
GROUPS: tuple[tuple[Dimension, ...], ...] = (
    (),
    ("team_id",),
    ("hour_ms", "deployment"),
    ("team_id", "deployment", "status", "reason", "cache", "kind"),
)

moments = st.integers(0, 6).map(lambda part: START_MS + part * HOUR_MS // 2) | st.integers(
    START_MS, START_MS + 3 * HOUR_MS
)
amounts = st.integers(0, 10**12)


@st.composite
def batches(draw: st.DrawFn) -> list[list[SpendRecord]]:
    """Records of few ids and times, so that many come again: as a guess, as the truth, or as they were."""
    records = [
        spend_record(
            f"r{draw(st.integers(0, 12))}",
            started_at_ms=draw(moments),
            team_id=draw(st.sampled_from(["support", "sales"])),
            deployment=draw(st.sampled_from(["small", "large", None])),
            status=draw(st.sampled_from(["ok", "error", "abandoned"])),
            reason=draw(st.sampled_from(["simple", "cache"])),
            cache=draw(st.sampled_from(["hit", "miss"])),
            kind=draw(st.sampled_from(["request", "shadow"])),
            cost_nusd=draw(amounts),
            retries_nusd=draw(amounts),
            prompt_cache_nusd=draw(st.integers(-(10**12), 10**12)),
            baseline_cost_nusd=draw(amounts),
            observed_cost_nusd=draw(amounts),
            cached_input_tokens=draw(st.integers(0, 9)),
        )
        for _ in range(draw(st.integers(1, 25)))
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=4)))
    return [records[start:end] for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True)]


def booked(batches_: list[list[SpendRecord]]) -> list[SpendRecord]:
    """What a ledger holds after these batches, by the rule and no more."""
    known: dict[tuple[str, int], SpendRecord] = {}
    for batch in batches_:
        for record in sorted(batch, key=attrgetter("request_id")):
            key = record.request_id, record.started_at_ms
            before = known.get(key)
            if before is None:
                known[key] = record
            elif before.status == "abandoned" and record.status != "abandoned":
                known[key] = replace(record, abandoned_nusd=before.cost_nusd)
    return list(known.values())


def summed(records: list[SpendRecord], by: tuple[Dimension, ...]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for record in records:
        hour_ms = record.started_at_ms // HOUR_MS * HOUR_MS
        key = tuple(hour_ms if name == "hour_ms" else getattr(record, name) for name in by)
        more = (1, *(getattr(record, name) for name in SUMS))
        sums[key] = tuple(map(sum, zip(sums.get(key, (0,) * len(more)), more, strict=True)))
    return sums


def cells_of(engine: Engine, span: tuple[int, int], by: tuple[Dimension, ...]) -> dict[Any, Any]:
    return {
        tuple(cell.key.values()): (cell.request_count, *(getattr(cell, name) for name in SUMS))
        for cell in SqlBooks(engine).cells(*span, by)
    }


def emptied(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(delete(LEDGER_ROWS))
        connection.execute(delete(HOURLY_SUMS))


@given(batches_=batches(), span=st.tuples(moments, moments))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_those_of_the_records(
    engine: Engine, batches_: list[list[SpendRecord]], span: tuple[int, int]
) -> None:
    emptied(engine)
    ledger = SqlLedger(engine)
    for batch in [*batches_, *batches_[:1]]:
        ledger.append(batch)
    expected = [record for record in booked(batches_) if span[0] <= record.started_at_ms < span[1]]
    for by in GROUPS:
        assert cells_of(engine, span, by) == summed(expected, by)
    found = [record for part in ledger.records(*span, at_once=3) for record in part]
    assert sorted(found, key=_place) == sorted(expected, key=_place)
    assert [record.started_at_ms for record in found] == sorted(record.started_at_ms for record in expected)
    rebuild_rollups(engine)
    for by in GROUPS:
        assert cells_of(engine, span, by) == summed(expected, by)


def _place(record: SpendRecord) -> tuple[int, str]:
    return record.started_at_ms, record.request_id


def test_writers_of_the_same_records_add_them_to_the_sums_once(engine: Engine) -> None:
    """Guesses and truths in every order, by writers that each remember other ids of texts."""
    guesses = [
        spend_record(f"r{at}", started_at_ms=START_MS + at * HOUR_MS // 7, status="abandoned", cost_nusd=1000 + at)
        for at in range(60)
    ]
    truths = [replace(guess, status="ok", cost_nusd=at, team_id=f"t{at % 3}") for at, guess in enumerate(guesses)]
    parts = [guesses, truths[::-1], truths[:30], guesses[::-1]] * 2
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: SqlLedger(engine).append(part), parts))
    assert cells_of(engine, EVER, ()) == {(): (60, *[sum(getattr(record, name) for record in truths) for name in SUMS])}
    before = cells_of(engine, EVER, ("hour_ms", "team_id", "status"))
    rebuild_rollups(engine)
    assert cells_of(engine, EVER, ("hour_ms", "team_id", "status")) == before


def test_reports_of_whole_hours_read_no_record(engine: Engine) -> None:
    SqlLedger(engine).append([spend_record("a", started_at_ms=START_MS, cost_nusd=5)])
    with writing(engine) as connection:
        connection.execute(delete(LEDGER_ROWS))
    assert cells_of(engine, (START_MS, START_MS + HOUR_MS), ())[()][0] == 1
    assert cells_of(engine, (START_MS, START_MS + HOUR_MS - 1), ()) == {}
    budget = Budget(id="b", subject_kind="team", subject_id="support", limit=1)
    usage = SqlLedger(engine).usage
    assert usage(budget, START_MS, START_MS + HOUR_MS) == {("", 0): 5}
    assert usage(budget, START_MS, START_MS + HOUR_MS, HOUR_MS) == {("", START_MS // HOUR_MS): 5}
    assert usage(budget, START_MS, START_MS + HOUR_MS, HOUR_MS // 2) == {}


def test_texts_that_repeat_are_stored_once(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.append([spend_record(f"a{at}", started_at_ms=START_MS + at) for at in range(20)])
    SqlLedger(engine).append([spend_record("b", started_at_ms=START_MS)])
    with reading(engine) as connection:
        counts = select(func.count(), func.count(LEDGER_ROWS.c.dimension_id.distinct())).select_from(LEDGER_ROWS)
        assert connection.execute(counts).one() == (21, 1)


def test_ids_of_texts_that_were_undone_are_not_remembered(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    bad = spend_record("bad", team_id="undone", reserved_nusd=2**70)
    with pytest.raises(ValueError, match="refuses"):
        ledger.append([bad])
    SqlLedger(engine).append([spend_record("other", team_id="other")])
    ledger.append([replace(bad, reserved_nusd=1)])
    kept = ledger.get("bad")
    assert kept is not None
    assert kept.team_id == "undone"


def test_a_day_without_records_is_not_looked_at_but_one_with_sums_alone_is(engine: Engine) -> None:
    """Between 1970 and now there are twenty thousand days."""
    SqlLedger(engine).append([spend_record("odd", started_at_ms=7), spend_record("a", started_at_ms=START_MS)])
    SqlLedger(engine).append([spend_record("lost", started_at_ms=START_MS + 48 * HOUR_MS)])
    with writing(engine) as connection:
        connection.execute(delete(LEDGER_ROWS).where(LEDGER_ROWS.c.started_at_ms > START_MS))
    told: list[tuple[int, int]] = []
    assert rebuild_rollups(engine, lambda done, total: told.append((done, total))) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [cell.key["hour_ms"] for cell in SqlBooks(engine).cells(*EVER, ("hour_ms",))] == [0, START_MS]


def test_sums_of_records_that_are_let_go_while_they_are_summed_up_stay(engine: Engine) -> None:
    days = [START_MS + day * 24 * HOUR_MS for day in range(3)]
    SqlLedger(engine).append([spend_record(f"r{at_ms}", started_at_ms=at_ms, cost_nusd=5) for at_ms in days])
    before = cells_of(engine, EVER, ("hour_ms",))

    def let_go(done: int, _total: int) -> None:
        if done == 1:
            drop_rows_before(engine, days[1] + HOUR_MS // 2)

    rebuild_rollups(engine, let_go)
    assert cells_of(engine, EVER, ("hour_ms",)) == before
