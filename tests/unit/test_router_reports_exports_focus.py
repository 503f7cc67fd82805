"""Line items conform to FOCUS 1.2, lose nothing of the ledger, and say the same as CSV and as Parquet."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schedules import DAY_MS
from policies.spend import SpendRecord
from router.reports.exports.charges import charges
from router.reports.exports.focus import COLUMNS, Account, focus_csv, focus_parquet, focus_rows
from router.stores.cells import ROUTER, Cell, HourCost
from tests.support.books import RecordBooks
from tests.support.focus_validator import findings
from tests.support.spend import spend_record

FROM_MS = int(datetime(2026, 10, 30, tzinfo=UTC).timestamp() * 1000)
TO_MS = FROM_MS + 4 * DAY_MS
HOUR_MS = 3_600_000
EVIL = 'süp"port,\r\n=1+1'


def record(request_id: str, at_ms: int = FROM_MS, **values: Any) -> SpendRecord:
    return spend_record(request_id, **{"started_at_ms": at_ms, "team_id": "support", **values})


def books() -> RecordBooks:
    day = DAY_MS
    return RecordBooks(
        [
            record("r1", input_tokens=100, output_tokens=50, cost_nusd=1, baseline_cost_nusd=9),
            record("r2", FROM_MS + day - 1, cost_nusd=2, baseline_cost_nusd=9),
            record("r3", FROM_MS + day, team_id=EVIL, project_id="chat", cost_nusd=4, baseline_cost_nusd=9),
            record("r4", FROM_MS + 2 * day, cache="hit", cost_nusd=0, baseline_cost_nusd=9),
            record("r5", FROM_MS + 3 * day, kind="shadow", parent_id="r1", cost_nusd=16, baseline_cost_nusd=0),
            record("r6", FROM_MS, status="refused", deployment=None, provider_name=None, request_model=None,
                   input_tokens=0, output_tokens=0, cost_nusd=0, baseline_cost_nusd=0),
            record("r7", FROM_MS, status="abandoned", input_tokens=0, output_tokens=0, cost_nusd=32,
                   baseline_cost_nusd=0, simulated=True),
        ],
        [
            HourCost(FROM_MS, "mistral-7b", "a100", 2, 1_000),
            HourCost(FROM_MS + HOUR_MS, "mistral-7b", "a100", 2, 1_000),
            HourCost(FROM_MS + 2 * day, ROUTER, "m5", 1, 64),
        ],
    )  # fmt: skip


def as_dicts(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def written(account: Account | None = None) -> bytes:
    return focus_csv(focus_rows(books(), FROM_MS, TO_MS, account or Account()))


def test_the_file_conforms() -> None:
    assert findings(written()) == []
    assert findings(focus_csv(())) == []


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        (b"EffectiveCost", b"Effectivecost", "EffectiveCost is missing"),
        (b",USD,", b",Dollars,", "BillingCurrency is 'Dollars'"),
        (b"2026-11-01T00:00:00Z", b"2026-11-01", "BillingPeriodEnd is '2026-11-01'"),
        (b",Usage,", b",Consumption,", "ChargeCategory is 'Consumption'"),
        (b"AI and Machine Learning", b"AI", "ServiceCategory is 'AI'"),
        (b",350.00,Tokens,Standard", b",,,Standard", "ConsumedQuantity of usage is null"),
        (b",Generative AI,", b",Virtual Machines,", "ServiceSubcategory is of another category"),
        (b",deployments/mistral-7b,", b",mistral-7b,", "a name of a resource repeats its id"),
        (
            b"machines/mistral-7b/a100,a100",
            b"machines/(router)/m5,a100",
            "ResourceId 'machines/(router)/m5' is several",
        ),
        (b"x_Kind,x_RequestCount", b"x_Kind,Requests", "columns of our own stand among those of FOCUS"),
        (b"support,support,Team", b",support,Team", "SubAccountName and SubAccountType without SubAccountId"),
    ],
)
def test_the_validator_can_find_fault(before: bytes, after: bytes, finding: str) -> None:
    content = written()
    assert before in content
    assert any(finding in line for line in findings(content.replace(before, after)))


def test_nothing_of_the_ledger_is_lost() -> None:
    rows = as_dicts(written())
    effective = sum(Decimal(row["EffectiveCost"]) for row in rows)
    # Requests of 1, 2, 4, 16 and 32; of the machines what their requests were not booked at; the router's machine.
    hours = books().hour_costs(FROM_MS, TO_MS)
    assert int(effective * 10**9) == 55 + sum(hour.idle_nusd for hour in hours)
    assert sum(Decimal(row["x_BookedCounterfactualCost"]) for row in rows) == Decimal(36) / 10**9
    assert sum(int(row["x_RequestCount"]) for row in rows) == 6, "a refusal is no charge"


def test_a_line_is_a_day_of_a_team_and_a_model() -> None:
    first, *_ = (row for row in as_dicts(written()) if row["x_InputTokens"] == "100" or row["x_RequestCount"] == "2")
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == ("2026-10-30T00:00:00Z", "2026-10-31T00:00:00Z")
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
    assert (first["SubAccountId"], first["x_Kind"], first["BilledCost"]) == ("support", "request", "0.000000003")


def test_who_is_called_what_is_written_as_it_is() -> None:
    row = next(
        row for row in as_dicts(written(Account("acme", "ACME", {EVIL: "Sales"}))) if row["SubAccountId"] == EVIL
    )
    assert (row["SubAccountName"], row["BillingAccountId"], row["BillingAccountName"]) == ("Sales", "acme", "ACME")
    assert json.loads(row["Tags"])["parsimony/project"] == "chat"


def test_a_repeat_from_the_cache_costs_nothing_and_saves_all() -> None:
    row = next(row for row in as_dicts(written()) if row["SkuId"] == "(response cache)")
    assert (row["BilledCost"], row["x_BookedSavings"], row["ProviderName"]) == ("0.00", "0.000000009", "Parsimony")
    assert (row["ResourceId"], row["ChargeCategory"]) == ("", "Usage")


def test_a_machine_is_charged_what_its_requests_were_not() -> None:
    row = next(row for row in as_dicts(written()) if row["SkuId"] == "a100")
    booked = sum(hour.booked_nusd for hour in books().hour_costs(FROM_MS, FROM_MS + DAY_MS))
    assert int(Decimal(row["EffectiveCost"]) * 10**9) == 2_000 - booked
    assert (row["ChargeCategory"], row["x_MachineHours"], row["ResourceType"]) == ("Adjustment", "4", "Machine")
    assert (row["SubAccountId"], row["ConsumedQuantity"], row["ChargeFrequency"]) == ("", "", "Recurring")
    assert (row["ServiceCategory"], row["x_Simulated"]) == ("Compute", "false")


def test_machines_of_one_kind_are_told_apart_by_what_they_serve() -> None:
    hours = [HourCost(FROM_MS, source, "a100", 1, 1) for source in ("mistral-7b", "phi", ROUTER)]
    rows = as_dicts(focus_csv(focus_rows(RecordBooks([], hours), FROM_MS, TO_MS)))
    ids = {row["ResourceId"]: row["ResourceName"] for row in rows}
    assert ids == dict.fromkeys(("machines/mistral-7b/a100", "machines/phi/a100", "machines/(router)/a100"), "a100")


def test_a_machine_that_nobody_paid_for_says_so_in_every_way() -> None:
    hours = [HourCost(FROM_MS, "mistral-7b", "a100 (simulated)", 1, 64)]
    (row,) = as_dicts(focus_csv(focus_rows(RecordBooks([], hours), FROM_MS, TO_MS)))
    assert (row["x_Simulated"], json.loads(row["Tags"])["parsimony/simulated"]) == ("true", True)
    assert row["ChargeDescription"].endswith("; simulated, paid to nobody")


def test_what_was_never_sent_to_a_model_has_no_sku() -> None:
    lost = record("r1", status="abandoned", deployment=None, request_model=None, input_tokens=0, output_tokens=0)
    content = focus_csv(focus_rows(RecordBooks([replace(lost, cost_nusd=5)]), FROM_MS, TO_MS))
    (row,) = as_dicts(content)
    assert findings(content) == []
    assert (row["ChargeCategory"], row["SkuId"], row["EffectiveCost"]) == ("Adjustment", "", "0.000000005")
    assert row["ChargeDescription"].startswith("no model, 1 requests")


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    rows = list(focus_rows(books(), FROM_MS, TO_MS))
    (tmp_path / "f.parquet").write_bytes(focus_parquet(rows))
    costs = [row["EffectiveCost"] for row in as_dicts(focus_csv(rows))]
    with duckdb.connect() as connection:
        source = f"FROM '{tmp_path / 'f.parquet'}'"
        assert connection.sql(f'SELECT "EffectiveCost" {source}').fetchall() == [(Decimal(cost),) for cost in costs]
        types = {row[0]: row[1] for row in connection.sql(f"DESCRIBE {source}").fetchall()}
    assert [types[column.name] for column in COLUMNS if column.type == "amount"].count("DECIMAL(38,9)") == 8
    assert types["ChargePeriodStart"] == "TIMESTAMP WITH TIME ZONE"
    assert focus_parquet(()) != b""


class Asked(RecordBooks):
    """Counts how often it is asked."""

    count = 0

    def cells(self, *asked: Any, **more: Any) -> tuple[Cell, ...]:
        self.count += 1
        return super().cells(*asked, **more)


def test_of_all_of_time_only_days_that_hold_something_are_looked_at() -> None:
    one_day = Asked([record("r1", cost_nusd=1)], [HourCost(FROM_MS + DAY_MS, ROUTER, "m5", 1, 64)])
    found = list(charges(one_day, 0, FROM_MS + 3_000_000 * DAY_MS))
    assert [charge.cost_nusd for charge in found] == [1, 64]
    assert one_day.count == 3  # once for the days, and once for each of two


@given(st.integers(0, 4 * DAY_MS), st.integers(0, 4 * DAY_MS))
def test_machines_of_times_that_meet_within_an_hour_add_up(one: int, other: int) -> None:
    first, second = FROM_MS + min(one, other), FROM_MS + max(one, other)
    ends = ((FROM_MS, first), (first, second), (second, TO_MS))
    hours = RecordBooks([], [HourCost(FROM_MS + at * HOUR_MS, "mistral-7b", "a100", 1, 1_001) for at in range(96)])
    found = [list(charges(hours, *span)) for span in ends]
    assert sum(charge.cost_nusd for each in found for charge in each) == 96 * 1_001
    for (start_ms, end_ms), each in zip(ends, found, strict=True):
        exact = (end_ms - start_ms) * 1_001 / HOUR_MS
        assert abs(sum(charge.cost_nusd for charge in each) - exact) <= 1


MOMENTS = st.integers(FROM_MS, TO_MS - 1)


@given(
    st.lists(st.tuples(MOMENTS, st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 99)), max_size=20),
    MOMENTS,
    MOMENTS,
)
def test_any_time_is_cut_into_days_that_add_up(
    requests: list[tuple[int, int, int, int]], one_ms: int, other_ms: int
) -> None:
    from_ms, to_ms = min(one_ms, other_ms), max(one_ms, other_ms)
    records = [
        record(f"r{at}", started_ms, cost_nusd=cost, baseline_cost_nusd=baseline, input_tokens=tokens)
        for at, (started_ms, cost, baseline, tokens) in enumerate(requests)
    ]
    found = list(charges(RecordBooks(records), from_ms, to_ms))
    inside = [each for each in records if from_ms <= each.started_at_ms < to_ms]
    assert sum(charge.cost_nusd for charge in found) == sum(each.cost_nusd for each in inside)
    assert sum(charge.counterfactual_nusd for charge in found) == sum(each.baseline_cost_nusd for each in inside)
    assert all(charge.end_ms - charge.start_ms <= DAY_MS for charge in found)
    assert findings(focus_csv(focus_rows(RecordBooks(records), from_ms, to_ms))) == []
