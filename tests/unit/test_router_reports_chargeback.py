"""Who is charged what: all that a period cost, and not a nano-dollar more."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.reports.account import Question, take_account
from router.reports.basis import provenance
from router.reports.chargeback import CHARGEABLE, chargeback_table
from router.reports.periods import HOUR_MS, ReportPeriod
from router.reports.tables import ReportTable
from router.stores.cells import ROUTER, HourCost
from tests.support.books import RecordBooks
from tests.support.ledgers import FROM_MS, HOURS, SOME_LEDGERS, books
from tests.support.spend import spend_record

PERIOD = ReportPeriod(FROM_MS, FROM_MS + HOURS * HOUR_MS)


def table_of(ledger: RecordBooks, *by: str, **terms: Any) -> ReportTable:
    account = take_account(ledger, Question(PERIOD, by, spread=True, **terms))
    return chargeback_table(account, by, provenance(ledger, account), FROM_MS)


@SOME_LEDGERS
@given(books(), st.lists(st.sampled_from(CHARGEABLE), min_size=1, max_size=2, unique=True))
def test_all_that_a_period_cost_is_charged(ledger: RecordBooks, by: list[str]) -> None:
    machines = sum(hour.idle_nusd for hour in ledger.hour_costs(PERIOD.from_ms, PERIOD.to_ms))
    total = table_of(ledger, *by).total_record()
    assert total["charged"] == sum(record.cost_nusd for record in ledger.records) + machines


@SOME_LEDGERS
@given(books())
def test_each_line_is_the_sum_of_its_parts(ledger: RecordBooks) -> None:
    for row in table_of(ledger, "team", "project").records():
        parts = (row[name] for name in ("list_cost", "measuring_cost", "idle_cost", "router_cost"))
        assert sum(int(part or 0) for part in parts) == row["charged"]


def test_who_used_a_machine_pays_for_the_hours_in_which_nobody_did() -> None:
    ledger = RecordBooks(
        [
            spend_record("a", team_id="sales", started_at_ms=FROM_MS, cost_nusd=100),
            spend_record("b", team_id="support", started_at_ms=FROM_MS, cost_nusd=300),
            spend_record("c", kind="shadow", deployment="gpt-4", started_at_ms=FROM_MS, cost_nusd=7),
        ],
        [HourCost(FROM_MS + at * HOUR_MS, "mistral-7b", "a100-40gb", 1, 1_000) for at in range(2)]
        + [HourCost(FROM_MS, ROUTER, "m5", 1, 70)],
    )
    rows = {row["team"]: row for row in table_of(ledger, "team").records()}
    assert {team: row["charged"] for team, row in rows.items()} == {
        "support": 300 + 7 + 1_200 + 35, "sales": 100 + 400 + 35,
    }  # fmt: skip
    parts = ("list_cost", "measuring_cost", "idle_cost", "router_cost")
    assert tuple(rows["support"][name] for name in parts) == (300, 7, 1_200, 35)
    own = table_of(ledger, "team", where={"team": ["sales"]}).total_record()
    assert own["charged"] == rows["sales"]["charged"]


def test_its_basis_says_by_what_costs_are_shared() -> None:
    basis = " ".join(table_of(RecordBooks([spend_record(started_at_ms=FROM_MS)]), "team").basis)
    assert "No machine has hours in the ledger" in basis
    assert "the router's machine by requests" in basis
    assert "counterfactual" not in basis
    restricted = table_of(RecordBooks([spend_record(started_at_ms=FROM_MS)]), "team", where={"team": ["support"]})
    assert "The report is restricted: machines that nobody used at all are in the report of all." in restricted.basis
