"""The savings table: what its columns hold, and on what basis it says it stands."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.drivers import DRIVERS
from router.reports.account import Question, take_account
from router.reports.basis import provenance
from router.reports.dimensions import DIMENSIONS
from router.reports.periods import HOUR_MS, ReportPeriod
from router.reports.savings import savings_table
from router.reports.tables import ReportTable
from router.stores.cells import ROUTER, HourCost
from tests.support.books import RecordBooks
from tests.support.ledgers import FROM_MS, HOURS, SOME_LEDGERS, books
from tests.support.spend import spend_record

PERIOD = ReportPeriod(FROM_MS, FROM_MS + HOURS * HOUR_MS)


def table_of(ledger: RecordBooks, *by: str, **terms: Any) -> ReportTable:
    account = take_account(ledger, Question(PERIOD, by, **terms))
    return savings_table(account, by, provenance(ledger, account, "5ha"), FROM_MS + 1)


def record(request_id: str, **changes: Any) -> Any:
    return spend_record(request_id, **{"started_at_ms": FROM_MS, **changes})


LEDGER = RecordBooks(
    [
        record("a", cost_nusd=100, baseline_cost_nusd=1_000, retries_nusd=10, estimator="v1", task="chat"),
        record("b", cost_nusd=0, baseline_cost_nusd=500, cache="hit", request_model=None, reason="cache"),
        record("c", team_id="sales", deployment="gpt-4", cost_nusd=700, baseline_cost_nusd=700),
        record("d", team_id="sales", deployment=None, status="refused", cost_nusd=0, baseline_cost_nusd=0),
        record("e", kind="shadow", parent_id="a", sample_share=0.5, deployment="gpt-4", cost_nusd=1_000,
               baseline_cost_nusd=0),
    ],
    [HourCost(FROM_MS, "mistral-7b", "a100-40gb", 1, 160), HourCost(FROM_MS, ROUTER, "m5", 1, 30)],
)  # fmt: skip


def test_a_small_months_report() -> None:
    table = table_of(LEDGER, "team", machines=["mistral-7b", "phi"])
    rows = {str(row["team"]): row for row in table.records()}
    assert {team: row["savings"] for team, row in rows.items()} == {
        "support": 1_500 - 100 - 1_000 - 60, "sales": 0, "(router)": -30,
    }  # fmt: skip
    support = rows["support"]
    assert (support["request_count"], support["measuring_count"]) == (2, 1)
    assert (support["list_cost"], support["idle_cost"], support["effective_cost"]) == (1_100, 60, 1_160)
    assert {name: support[f"driver_{name}"] for name in DRIVERS if support[f"driver_{name}"]} == {
        "smaller_model": 910, "response_cache": 500, "idle_gpu": -60, "measuring": -1_000, "retries": -10,
    }  # fmt: skip
    assert table.total_record()["savings_percent"] == Decimal("14.1")


def test_drivers_are_lines_of_their_own() -> None:
    table = table_of(LEDGER, "driver")
    saved = {row["driver"]: row["savings"] for row in table.records()}
    assert saved == {
        "smaller model": 910, "response cache": 500, "idle GPU": -60, "shadow and judge calls": -1_000,
        "classifier": -30, "retries": -10, "no difference": 0,
    }  # fmt: skip
    assert table.total_record()["savings"] == 310


def test_what_the_baseline_itself_answered_is_no_drivers() -> None:
    rows = {row["driver"]: row for row in table_of(LEDGER, "driver").records()}
    named = ("smaller model", "no difference")
    assert [(rows[name]["request_count"], rows[name]["effective_cost"]) for name in named] == [(1, 90), (2, 700)]


def test_the_report_says_on_what_it_rests() -> None:
    basis = " ".join(table_of(LEDGER, "team", machines=["mistral-7b", "phi", ROUTER]).basis)
    assert "what gpt-4 would have charged" in basis
    assert "$0.0000 of it (31.8 %) is exact" in basis
    assert "(estimator v1)" in basis
    assert "1 shadow samples" in basis
    assert "Hours of machines are closed for the router until 2026-10-31T23:00+00:00, mistral-7b until" in basis
    assert "No hour is closed yet for phi" in basis
    assert "SIMULATED" not in basis


def test_without_samples_it_says_so() -> None:
    assert "No shadow samples were taken" in " ".join(table_of(RecordBooks([record("a")]), "team").basis)


def test_what_was_simulated_and_what_was_only_observed_is_told() -> None:
    observed = record("b", observed_deployment="phi", observed_cost_nusd=10**9, deployment="gpt-4", cost_nusd=10**10)
    basis = " ".join(table_of(RecordBooks([record("a", simulated=True), observed]), "team").basis)
    assert "SIMULATED: 1 of 2 were" in basis
    assert "1 requests were only observed" in basis
    assert "routing would have booked 1.0000 USD for them in place of 10.0000 USD" in basis


def test_a_restricted_report_says_what_is_left_out_of_it() -> None:
    ledger = RecordBooks([spend_record(started_at_ms=FROM_MS)])
    for where, left_out in (
        ({"team": ["support"]}, "hours of machines that nobody used, and the machine of the router, are"),
        ({"model": ["mistral-7b"]}, "the machine of the router is"),
    ):
        restricted = table_of(ledger, "team", where=where)
        assert f"The report is restricted: {left_out} in the report of all." in restricted.basis


def test_idle_hours_of_simulated_machines_are_told_where_nothing_was_asked() -> None:
    idle = HourCost(FROM_MS, "mistral-7b", "a100-40gb (simulated)", 1, 160)
    table = table_of(RecordBooks([], [idle]), "team")
    assert table.simulated
    assert "SIMULATED: some of the hours of machines" in " ".join(table.basis)


def test_of_what_was_observed_only_what_went_to_the_baseline_is_counted() -> None:
    observed = {"observed_deployment": "phi", "deployment": "gpt-4"}
    repeat = {"cache": "hit", "request_model": None, "reason": "cache", "cost_nusd": 0}
    refused = {"deployment": None, "status": "refused", "cost_nusd": 0, "baseline_cost_nusd": 0}
    ledger = RecordBooks(
        [record("a", **observed), record("b", **(observed | repeat)), record("c", **(observed | refused))]
    )
    assert "1 requests were only observed" in " ".join(table_of(ledger, "team").basis)
    only_repeats = RecordBooks([record("b", **(observed | repeat))])
    assert "only observed" not in " ".join(table_of(only_repeats, "team").basis)


def test_nothing_at_all() -> None:
    table = table_of(RecordBooks(), "team")
    assert (table.rows, table.total_record()["savings_percent"], table.total_record()["request_count"]) == ((), None, 0)


def test_it_says_from_what_it_was_made() -> None:
    made = table_of(LEDGER, "team", machines=["phi"]).provenance
    assert (made.prices_sha256, made.estimators[0], made.ledger_until_ms) == ("5ha", "v1", FROM_MS + HOUR_MS)
    assert made.closed_until_ms == {"(router)": FROM_MS + HOUR_MS, "mistral-7b": FROM_MS + HOUR_MS, "phi": None}


@SOME_LEDGERS
@given(books(), st.lists(st.sampled_from(DIMENSIONS), min_size=1, max_size=2, unique=True))
def test_any_ledger_by_any_dimensions_makes_a_table(ledger: RecordBooks, by: list[str]) -> None:
    """One that does not add up cannot be made."""
    table = table_of(ledger, *by)
    for row in (*table.records(), table.total_record()):
        assert sum(int(row[f"driver_{driver}"] or 0) for driver in DRIVERS) == row["savings"]
        assert int(row["counterfactual_low"] or 0) <= int(row["counterfactual"] or 0)
        assert int(row["counterfactual"] or 0) <= int(row["counterfactual_high"] or 0)
