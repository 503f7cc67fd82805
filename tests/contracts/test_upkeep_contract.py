"""Rebuilding the sums and telling what is held, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from policies.spend import SpendRecord
from router.stores.cells import HOUR_MS, HourCost
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import writing
from router.stores.sql_holdings import holdings
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_partitions import drop_rows_before, months_before
from router.stores.sql_rollups import rebuild_rollups
from tests.support.spend import spend_record

START = 1_793_000_000_000 // HOUR_MS * HOUR_MS
DAY_MS = 24 * HOUR_MS
EVER = (0, START + 1000 * DAY_MS)
BY = ("hour_ms", "team_id", "alias")


def records() -> list[SpendRecord]:
    """Over eleven days, the last of them in the next month."""
    times = (0, 10, HOUR_MS, 2 * DAY_MS, 10 * DAY_MS)
    return [
        spend_record(f"r{at}", started_at_ms=START + time, team_id=f"t{at % 2}", retries_nusd=at, cost_nusd=10 + at)
        for at, time in enumerate(times)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM hourly_sums",
        "UPDATE hourly_sums SET cost_nusd = cost_nusd + 1, request_count = 7",
        "UPDATE hourly_sums SET hour_ms = hour_ms + 36000000",
        "SELECT 1",
    ],
)
def test_sums_are_the_same_however_they_were_damaged(engine: Engine, damage: str) -> None:
    SqlLedger(engine).append(records())
    before = SqlBooks(engine).cells(*EVER, BY)
    with writing(engine) as connection:
        connection.execute(text(damage))
    told: list[tuple[int, int]] = []
    assert rebuild_rollups(engine, lambda done, total: told.append((done, total))) == 3
    assert SqlBooks(engine).cells(*EVER, BY) == before
    assert told == [(1, 3), (2, 3), (3, 3)], "nothing is looked at where there is nothing"


def test_records_are_let_go_a_few_thousand_at_a_time_where_nobody_can_wait_for_all(engine: Engine) -> None:
    hour_ms = 36 * HOUR_MS  # of no month that has a partition
    SqlLedger(engine).append([spend_record(f"r{at}", started_at_ms=hour_ms + at) for at in range(5_001)])
    assert [drop_rows_before(engine, hour_ms + HOUR_MS, at_most=1) for _ in range(3)] == [5_000, 1, 0]


def test_sums_of_records_that_were_let_go_stay(engine: Engine) -> None:
    SqlLedger(engine).append(records())
    before = SqlBooks(engine).cells(*EVER, BY)
    drop_rows_before(engine, months_before(START + 10 * DAY_MS, 0))
    rebuild_rollups(engine)
    assert SqlBooks(engine).cells(*EVER, BY) == before


def test_nothing_is_rebuilt_of_nothing(engine: Engine) -> None:
    assert rebuild_rollups(engine) == 0


def test_what_is_held_is_told(engine: Engine) -> None:
    SqlLedger(engine).append(records())
    hours = [HourCost(START + at * HOUR_MS, "local", "A100", 1, 4) for at in range(3)]
    SqlBooks(engine).close_hours([*hours, HourCost(START, "(router)", "m5", 1, 4)])
    found = holdings(engine)
    assert (found.database, found.request_count, found.rollup_count) == (engine.dialect.name, 5, 5)
    assert (found.oldest_ms, found.newest_ms) == (START, START + 10 * DAY_MS)
    assert (found.kept_from_ms, found.rolled_up_until_ms) == (0, START + 10 * DAY_MS + HOUR_MS)
    assert found.closed_until_ms == {"(router)": START + HOUR_MS, "local": START + 3 * HOUR_MS}
    assert found.database_bytes > 10_000
    assert ("ledger_rows_2026_10" in found.partitions) == (engine.dialect.name == "postgresql")


def test_an_empty_ledger_is_told_too(engine: Engine) -> None:
    found = holdings(engine)
    assert (found.request_count, found.newest_ms, found.rolled_up_until_ms) == (0, None, None)
