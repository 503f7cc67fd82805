"""What machines cost beside what was booked for them, and how busy they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from policies.amortization import Hardware, HardwarePrice, MachineUse, Throughput
from policies.money import NUSD_PER_USD
from policies.schedules import Schedule
from policies.spend import SpendRecord
from router.reports.utilization import utilization_report, utilization_table
from router.stores.cells import HOUR_MS, ROUTER, HourCost
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

START = 1_767_600_000_000 // HOUR_MS * HOUR_MS
FOUR_DOLLARS = 4 * NUSD_PER_USD
BOX = Hardware("box", (HardwarePrice(date(2026, 1, 1), Fraction(FOUR_DOLLARS)),))
# A request of 500 tokens that takes 6 minutes: an hour takes 20 of them, 2 at a time.
MEASURED = MachineUse(BOX, throughput=Throughput(tokens_per_second=Fraction(10_000, 3_600), parallel_requests=2))


def request(at_ms: int, **changes: Any) -> SpendRecord:
    values: dict[str, Any] = {
        "deployment": "small", "started_at_ms": START + at_ms, "duration_ms": 360_000,
        "input_tokens": 400, "output_tokens": 100, "cost_nusd": NUSD_PER_USD // 5,
    }  # fmt: skip
    return spend_record(f"r{at_ms}", **{**values, **changes})


def hour(at: int, source: str = "small", **changes: Any) -> HourCost:
    values = {"hardware": "box", "unit_count": 1, "cost_nusd": FOUR_DOLLARS, **changes}
    return HourCost(hour_ms=START + at * HOUR_MS, source=source, **values)


def test_a_machine_in_use_for_a_quarter_of_its_time() -> None:
    books = RecordBooks([request(at) for at in range(10)], [hour(0), hour(1)])
    (line,) = utilization_report(books, START, START + 2 * HOUR_MS, {"small": MEASURED}).machines
    assert (line.source, line.hardware, line.hour_count, line.machine_ms) == ("small", ("box",), 2, 2 * HOUR_MS)
    assert (line.cost_nusd, line.booked_nusd, line.idle_nusd) == (8 * NUSD_PER_USD, 2 * NUSD_PER_USD, 6 * NUSD_PER_USD)
    assert (line.request_count, line.input_tokens, line.output_tokens) == (10, 4_000, 1_000)
    assert (line.capacity_share, line.busy_share) == (Fraction(1, 4), Fraction(1, 4))
    assert line.effective_nusd_per_mtok == 1_600 * NUSD_PER_USD
    assert line.list_nusd_per_mtok == 400 * NUSD_PER_USD
    assert line.requests_per_hour == 5
    assert line.closed_until_ms == START + 2 * HOUR_MS


def test_an_idle_machine_has_no_price_by_the_token() -> None:
    report = utilization_report(RecordBooks([], [hour(0)]), START, START + HOUR_MS, {"small": MEASURED})
    (line,) = report.machines
    assert (line.capacity_share, line.effective_nusd_per_mtok, line.idle_nusd) == (0, None, FOUR_DOLLARS)


def test_only_what_was_sent_to_the_machine_in_closed_hours_is_its_work() -> None:
    records = [request(0), request(1, cache="hit"), request(2, deployment="large"), request(HOUR_MS)]
    (line,) = utilization_report(RecordBooks(records, [hour(0)]), 0, 2**53, {"small": MEASURED}).machines
    assert line.request_count == 1


def test_the_routers_own_machine_works_for_all_requests() -> None:
    records = [request(0), request(1, cache="hit"), request(2, kind="shadow"), request(3, deployment="large")]
    books = RecordBooks(records, [hour(0, ROUTER), hour(0)])
    report = utilization_report(books, 0, 2**53, {ROUTER: MEASURED, "small": MEASURED})
    assert {line.source: line.request_count for line in report.machines} == {ROUTER: 3, "small": 2}
    assert {line.source: line.booked_nusd for line in report.machines}[ROUTER] == 0


def test_the_dearest_machine_comes_first() -> None:
    hours = [hour(0, "a"), hour(0, "c", cost_nusd=2 * FOUR_DOLLARS), hour(0, "b")]
    report = utilization_report(RecordBooks([], hours), 0, 2**53, {})
    assert [line.source for line in report.machines] == ["c", "a", "b"]


def test_machines_by_schedule_are_measured_by_the_time_that_they_ran() -> None:
    half = replace(MEASURED, count=2, schedule=Schedule(start_minute=30, end_minute=60))
    midnight = START // (24 * HOUR_MS) * 24 * HOUR_MS
    record = request(0, started_at_ms=midnight)
    books = RecordBooks([record], [replace(hour(0, unit_count=2), hour_ms=midnight)])
    (line,) = utilization_report(books, 0, 2**53, {"small": half}).machines
    assert (line.machine_ms, line.capacity_share) == (HOUR_MS, Fraction(1, 20))


def test_a_machine_that_is_no_longer_configured_keeps_its_costs() -> None:
    (line,) = utilization_report(RecordBooks([request(0)], [hour(0)]), 0, 2**53, {}).machines
    assert (line.cost_nusd, line.request_count, line.machine_ms) == (FOUR_DOLLARS, 1, HOUR_MS)
    assert (line.capacity_share, line.busy_share, line.list_nusd_per_mtok) == (None, None, None)


def test_nothing_closed_is_nothing_reported() -> None:
    report = utilization_report(RecordBooks([request(0)]), 0, 2**53, {"small": MEASURED})
    assert report.machines == ()
    assert utilization_table(report, 7).total_record()["cost"] == 0


def test_hours_of_simulated_machines_are_told_apart() -> None:
    books = RecordBooks([], [hour(0), hour(1, hardware="box (simulated)")])
    assert utilization_report(books, START, START + 1, {}).simulated is False
    assert utilization_report(books, 0, 2**53, {}).simulated is True
    assert utilization_report(books, 0, 2**53, {}).machines[0].hardware == ("box", "box (simulated)")
    real, both = (utilization_table(utilization_report(books, START, end, {}), 7) for end in (START + 1, 2**53))
    assert "SIMULATED" not in " ".join(real.basis) and "SIMULATED: hardware" in " ".join(both.basis)


def test_the_table_adds_up_and_says_what_it_rests_on() -> None:
    books = RecordBooks([request(at) for at in range(3)], [hour(0), hour(0, ROUTER), hour(1)])
    table = utilization_table(utilization_report(books, START, START + HOUR_MS, {"small": MEASURED}), 7)
    router, small = table.records()
    assert (router["machine"], small["machine"], small["utilization"]) == (ROUTER, "small", Decimal("15.0"))
    assert (small["requests_per_hour"], small["machine_hours"]) == (Decimal("3.0"), Decimal("1.0"))
    total = table.total_record()
    assert (total["cost"], total["list_cost"]) == (8 * NUSD_PER_USD, 3 * NUSD_PER_USD // 5)
    assert total["idle_cost"] == 8 * NUSD_PER_USD - 3 * NUSD_PER_USD // 5
    assert table.basis and table.generated_at_ms == 7
    assert table.provenance.closed_until_ms == {"small": START + 2 * HOUR_MS, ROUTER: START + HOUR_MS}
