"""The months of the ledger: made ahead on PostgreSQL, let go when they are old, on every database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, func, inspect, select

from router.stores.cells import HOUR_MS
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import reading
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_partitions import drop_rows_before, month_of, months_before
from router.stores.sql_rollups import rebuild_rollups
from router.stores.sql_schema import LEDGER_ROWS
from tests.support.spend import spend_record

EVER = (0, 2**53)


def ms(*day: int) -> int:
    return int(datetime(*day, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("at_ms", "month"),
    [
        (ms(2026, 10, 1), (2026, 10)),
        (ms(2026, 11, 1) - 1, (2026, 10)),
        (ms(2020, 1, 1) - 1, None),
        (ms(2099, 12, 31), (2099, 12)),
        (ms(2100, 1, 1), None),
        (2**53, None),
    ],
)
def test_a_record_belongs_to_its_month_in_utc(at_ms: int, month: tuple[int, int] | None) -> None:
    assert month_of(at_ms) == month


def test_months_are_counted_back_over_the_years() -> None:
    now_ms = ms(2026, 3, 31) + 5
    assert [months_before(now_ms, months) for months in (0, 3, 15)] == [
        ms(2026, 3, 1),
        ms(2025, 12, 1),
        ms(2024, 12, 1),
    ]


def partitions(engine: Engine) -> list[str]:
    prefix = "ledger_rows_"
    return sorted(name[len(prefix) :] for name in inspect(engine).get_table_names() if name.startswith(prefix))


def test_partitions_are_made_ahead_and_for_late_records(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.append([spend_record("a", started_at_ms=ms(2026, 11, 22))])
    ledger.append([spend_record("late", started_at_ms=ms(2025, 2, 1)), spend_record("odd", started_at_ms=7)])
    found = partitions(engine)
    ahead = ["2026_11", "2026_12", "2027_01"]
    expected = [] if engine.dialect.name == "sqlite" else ["2025_02", "2025_03", "2025_04", *ahead, "other"]
    assert found == expected
    assert all(ledger.get(name) for name in ("a", "late", "odd"))


def test_old_records_are_let_go_and_their_sums_stay(engine: Engine) -> None:
    ledger, books = SqlLedger(engine), SqlBooks(engine)
    days = [ms(2026, 8, 31), ms(2026, 9, 1) - 1, ms(2026, 9, 1), ms(2026, 11, 2), 7]
    ledger.append([spend_record(f"r{at}", started_at_ms=day, cost_nusd=2**at) for at, day in enumerate(days)])
    before = books.cells(*EVER, ("hour_ms", "team_id"))
    assert drop_rows_before(engine, months_before(ms(2026, 11, 22), 2)) == 3
    assert [ledger.get(f"r{at}") is not None for at in range(5)] == [False, False, True, True, False]
    assert "2026_08" not in partitions(engine)
    assert books.cells(*EVER, ("hour_ms", "team_id")) == before
    rebuild_rollups(engine)
    assert books.cells(*EVER, ("hour_ms", "team_id")) == before
    assert drop_rows_before(engine, months_before(ms(2026, 11, 22), 2)) == 0


def test_samples_stay_when_their_records_are_let_go(engine: Engine) -> None:
    ledger, books = SqlLedger(engine), SqlBooks(engine)
    asked = [
        spend_record(f"asked{hour}", started_at_ms=ms(2026, 8, 31) + hour * HOUR_MS, task="code", end_user="ann")
        for hour in (1, 2)
    ]
    shadows = [
        spend_record(
            f"shadow{day}",
            started_at_ms=ms(2026, 9, 1) + day,
            kind="shadow",
            parent_id=f"asked{day}",
            sample_share=0.05,
            baseline_cost_nusd=0,
            prompt_cache_nusd=-day,
        )
        for day in (1, 2)
    ]
    ledger.append([*asked, *shadows])
    before = books.samples(*EVER)
    assert len(before) == 2
    for _ in range(2):
        drop_rows_before(engine, ms(2026, 9, 1))
        assert books.samples(*EVER) == before
    assert books.samples(ms(2026, 8, 31) + 2 * HOUR_MS, ms(2026, 9, 1)) == before[1:]
    assert books.samples(*EVER, {"task": ["code"]}) == before
    assert books.samples(*EVER, {"task": ["prose"]}) == books.samples(*EVER, {"end_user": ["ann"]}) == ()


def test_a_record_from_before_what_was_let_go_is_booked_and_let_go_again(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    ledger.append([spend_record("old", started_at_ms=ms(2026, 8, 5))])
    drop_rows_before(engine, ms(2026, 9, 1))
    assert ledger.append([spend_record("later", started_at_ms=ms(2026, 8, 6))]) == 1
    assert ledger.get("later") is not None
    assert drop_rows_before(engine, ms(2026, 9, 1)) == 1
    (cell,) = SqlBooks(engine).cells(*EVER, ())
    assert cell.request_count == 2


def test_many_records_are_let_go_in_parts(engine: Engine) -> None:
    ledger = SqlLedger(engine)
    hour_ms = ms(2019, 5, 5)  # of no month that has a partition
    ledger.append([spend_record(f"r{at}", started_at_ms=hour_ms + at) for at in range(6_000)])
    ledger.append([spend_record("kept", started_at_ms=hour_ms + HOUR_MS)])
    assert drop_rows_before(engine, hour_ms + HOUR_MS) == 6_000
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(LEDGER_ROWS)).scalar() == 1
