"""What a correction of the ledger must do on every database: change rows and sums at once, and keep both versions."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import Engine, select

from policies.repricing import Amounts, booked
from policies.spend import SpendRecord
from router.stores.cells import HOUR_MS
from router.stores.sql_audit import entries
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import reading
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_repricing import Replaced, Repricing, SqlRepricings
from router.stores.sql_schema import LEDGER
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

START = 1_793_000_000_000 // HOUR_MS * HOUR_MS
SPAN = (START, START + 2 * HOUR_MS)
BY = ("hour_ms", "team_id", "price_effective_from", "status")


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    return SqlLedger(engine)


@pytest.fixture
def repricings(engine: Engine) -> SqlRepricings:
    return SqlRepricings(engine)


def record(request_id: str, minute: int = 0, **changes: Any) -> SpendRecord:
    return spend_record(request_id, started_at_ms=START + minute * 60_000, **changes)


def cheaper(record: SpendRecord) -> Amounts:
    """Half of it, by a price of another day."""
    return replace(booked(record), cost_nusd=record.cost_nusd // 2, price_effective_from="2026-10-01")


def corrected(record: SpendRecord) -> SpendRecord:
    return replace(record, **asdict(cheaper(record)))


def assert_sums_are_those_of_the_rows(engine: Engine, ledger: SqlLedger) -> None:
    rows = [record for chunk in ledger.records(*SPAN) for record in chunk]
    assert SqlBooks(engine).cells(*SPAN, BY) == RecordBooks(rows).cells(*SPAN, BY)


def test_rows_and_sums_change_together_and_what_was_there_is_kept(
    engine: Engine, ledger: SqlLedger, repricings: SqlRepricings
) -> None:
    right, first, second = record("right"), record("chatcmpl-" + 24 * "a", 10), record("second", 70, team_id="ops")
    ledger.append([right, first, second])
    begun = repricings.begin(7, "cli:me", "a typing error", {"model": "mistral-7b"})
    assert repricings.apply(begun, [(first, cheaper(first)), (second, cheaper(second))]) == 2
    assert [ledger.get(each.request_id) for each in (right, first, second)] == [
        right, corrected(first), corrected(second),
    ]  # fmt: skip
    assert_sums_are_those_of_the_rows(engine, ledger)
    done = Repricing(begun, 7, "cli:me", "a typing error", row_count=2)
    assert repricings.all() == (done,)
    assert repricings.of_request(first.request_id) == (Replaced(done, booked(first)),)
    assert repricings.of_request("right") == ()
    with reading(engine) as connection:
        (entry,) = entries(connection, "repricing:", None, 9)
    assert (entry.actor, entry.action, entry.target) == ("cli:me", "ledger.reprice", f"repricing:{begun}")
    assert entry.after == {"reason": "a typing error", "model": "mistral-7b"}


@pytest.mark.parametrize("detail", [{}, {"chain": [["small", 200, 900]]}])
def test_every_amount_changes_also_from_and_to_nothing_and_nothing_else_does(
    engine: Engine, ledger: SqlLedger, repricings: SqlRepricings, detail: dict[str, Any]
) -> None:
    dear = record("dear", cost_nusd=900, retries_nusd=300, prompt_cache_nusd=-7, end_user="ann", detail=detail)
    free = record("free", 10, cost_nusd=0, retries_nusd=0, prompt_cache_nusd=0, baseline_cost_nusd=0, detail=detail)
    ledger.append([dear, free])
    to_nothing, from_nothing = Amounts(0, 0, 0, 0, None, None), Amounts(7, 3, -2, 10**15, "2026-10-01", "2026-10-02")
    begun = repricings.begin(7, "cli:me", "late", {})
    assert repricings.apply(begun, [(dear, to_nothing), (free, from_nothing)]) == 2
    assert ledger.get("dear") == replace(dear, **asdict(to_nothing))
    assert ledger.get("free") == replace(free, **asdict(from_nothing))
    assert [each.amounts for each in repricings.of_request("dear")] == [booked(dear)]
    assert_sums_are_those_of_the_rows(engine, ledger)


def test_what_changed_meanwhile_stays_as_it_is(engine: Engine, ledger: SqlLedger, repricings: SqlRepricings) -> None:
    guess = record("r", status="abandoned", usage_source="reserved", cost_nusd=999)
    truth = record("r", cost_nusd=10)
    ledger.append([guess])
    ledger.append([truth])
    begun = repricings.begin(7, "cli:me", "late", {})
    assert repricings.apply(begun, [(guess, cheaper(guess)), (record("unknown"), cheaper(guess))]) == 0
    assert ledger.get("r") == replace(truth, abandoned_nusd=999)
    assert repricings.all()[0].row_count == 0
    assert_sums_are_those_of_the_rows(engine, ledger)


def test_a_repricing_upon_another_keeps_all_versions(ledger: SqlLedger, repricings: SqlRepricings) -> None:
    first = record("r", cost_nusd=1_000)
    ledger.append([first])
    for reason in ("once", "again"):
        current = ledger.get("r")
        assert current is not None
        repricings.apply(repricings.begin(7, "cli:me", reason, {}), [(current, cheaper(current))])
    assert [(each.repricing.reason, each.amounts.cost_nusd) for each in repricings.of_request("r")] == [
        ("once", 1_000),
        ("again", 500),
    ]
    assert [each.reason for each in repricings.all()] == ["again", "once"]
    assert [each.reason for each in repricings.all(limit=1)] == ["again"]


def test_a_record_that_comes_again_after_its_repricing_changes_nothing(
    engine: Engine, ledger: SqlLedger, repricings: SqlRepricings
) -> None:
    first = record("r")
    ledger.append([first])
    repricings.apply(repricings.begin(7, "cli:me", "late", {}), [(first, cheaper(first))])
    assert ledger.append([first]) == 0
    assert ledger.get("r") == corrected(first)
    with reading(engine) as connection:
        assert len(connection.execute(select(LEDGER.c.request_id)).all()) == 1
