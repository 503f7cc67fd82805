"""From how many requests a day on local deployments pay, by the traffic in the books."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from policies.amortization import Hardware, HardwarePrice, MachineUse, Throughput
from policies.break_even import Mix
from policies.catalog import Price
from policies.money import NUSD_PER_USD
from policies.schedules import DAY_MS, HOUR_MS
from policies.spend import SpendRecord
from router.config import load_config
from router.config_hardware import HardwareUse
from router.prices import load_prices
from router.reports.break_even import apis_of, break_even_report, break_even_table
from router.stores.cells import ROUTER
from tests.support.administration import PRICES, write_config
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

MIDNIGHT = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
SPAN = (MIDNIGHT, MIDNIGHT + 2 * DAY_MS)
BOX = Hardware(
    "box",
    (
        HardwarePrice(date(2026, 1, 1), Fraction(NUSD_PER_USD)),
        HardwarePrice(date(2026, 1, 7), Fraction(2 * NUSD_PER_USD)),
    ),
)
USE = MachineUse(BOX, throughput=Throughput(tokens_per_second=Fraction(1_000)))
# At 100 + 100 tokens a request: $0.003 and $0.0003.
APIS = {
    "dear": Price(date(2026, 1, 1), input_nusd_per_mtok=10 * NUSD_PER_USD, output_nusd_per_mtok=20 * NUSD_PER_USD),
    "cheap": Price(date(2026, 1, 1), input_nusd_per_mtok=1 * NUSD_PER_USD, output_nusd_per_mtok=2 * NUSD_PER_USD),
}


def request(id_: str, **changes: Any) -> SpendRecord:
    values: dict[str, Any] = {
        "deployment": "small", "started_at_ms": MIDNIGHT, "input_tokens": 100, "output_tokens": 100,
    }  # fmt: skip
    return spend_record(id_, **{**values, **changes})


def test_the_break_even_is_that_of_the_mix_in_the_books() -> None:
    books = RecordBooks(
        [request("a", input_tokens=50, output_tokens=150), request("b", input_tokens=150, output_tokens=50)]
    )
    (outlook,) = break_even_report(books, *SPAN, {"small": USE}, APIS).outlooks
    assert outlook.mix == Mix(Fraction(100), Fraction(100))
    assert [(found.api.name, found.cheaper_from) for found in outlook.break_evens] == [
        ("cheap", 80_001),
        ("dear", 8_001),
    ]
    assert (outlook.own_traffic, outlook.requests_per_day, outlook.hardware) == (True, 2, "box")
    assert outlook.hosted.requests_per_day == 432_000


def test_a_deployment_without_traffic_is_looked_at_with_that_of_all() -> None:
    records = [request("a"), request("b", deployment="large", input_tokens=300)]
    new, known = break_even_report(RecordBooks(records), *SPAN, {"new": USE, "small": USE}, APIS).outlooks
    assert (new.own_traffic, new.mix.input_tokens, new.requests_per_day) == (False, 200, 2)
    assert (known.own_traffic, known.mix.input_tokens, known.requests_per_day) == (True, 100, 1)


def test_only_requests_that_a_model_answered_make_the_mix() -> None:
    others: list[dict[str, Any]] = [{"cache": "hit"}, {"kind": "shadow"}, {"status": "error"}]
    records = [request(f"o{at}", input_tokens=9_000, **changes) for at, changes in enumerate(others)]
    books = RecordBooks([request("a"), *records])
    (outlook,) = break_even_report(books, *SPAN, {"small": USE}, APIS).outlooks
    assert (outlook.mix.input_tokens, outlook.requests_per_day) == (100, 1)


def test_the_present_traffic_is_told_by_its_own_time_but_a_day_at_least() -> None:
    def per_day(*hours: int) -> Fraction:
        records = [request(f"r{at}", started_at_ms=MIDNIGHT + at * HOUR_MS) for at in hours]
        (outlook,) = break_even_report(RecordBooks(records), *SPAN, {"small": USE}, APIS).outlooks
        return outlook.requests_per_day

    assert (per_day(3), per_day(3, 4), per_day(0, 47), per_day(0, 20, 35)) == (1, 2, 1, 2)


def test_the_machines_cost_what_they_cost_at_the_end_of_the_report() -> None:
    books = RecordBooks([request("a")])
    (now,) = break_even_report(books, *SPAN, {"small": USE}, APIS).outlooks
    (later,) = break_even_report(books, SPAN[0], SPAN[1] + 1, {"small": USE}, APIS).outlooks
    assert (now.hosted.machine_nusd_per_day, later.hosted.machine_nusd_per_day) == (
        24 * NUSD_PER_USD,
        48 * NUSD_PER_USD,
    )


def test_without_traffic_there_is_no_outlook() -> None:
    assert break_even_report(RecordBooks(), *SPAN, {"small": USE}, APIS).outlooks == ()


def test_the_routers_own_machine_competes_with_nobody() -> None:
    assert break_even_report(RecordBooks([request("a")]), *SPAN, {ROUTER: USE}, APIS).outlooks == ()


def test_a_curve_for_each_option_crosses_at_the_break_even() -> None:
    (outlook,) = break_even_report(RecordBooks([request("a")]), *SPAN, {"small": USE}, APIS).outlooks
    own, cheap, dear = outlook.curves
    assert [(one.name, one.hosted) for one in outlook.curves] == [("small", True), ("cheap", False), ("dear", False)]
    at = outlook.requests.index(8_001)
    assert own.nusd_per_day[at] < dear.nusd_per_day[at]
    assert own.nusd_per_day[at - 1] >= dear.nusd_per_day[at - 1]
    assert cheap.nusd_per_day[at] < own.nusd_per_day[at]


def test_a_machine_that_is_too_slow_for_a_request_has_no_curve() -> None:
    slow = MachineUse(BOX, throughput=Throughput(tokens_per_second=Fraction(1, 1_000)))
    (outlook,) = break_even_report(RecordBooks([request("a")]), *SPAN, {"small": slow}, APIS).outlooks
    assert [one.name for one in outlook.curves] == ["cheap", "dear"]
    assert [found.cheaper_from for found in outlook.break_evens] == [None, None]


def test_simulated_traffic_is_marked_where_its_machine_stands() -> None:
    books = RecordBooks([request("a", simulated=True), request("b", deployment="real")])
    table = break_even_table(break_even_report(books, *SPAN, {"small": USE, "real": USE}, APIS), 7)
    hardware = {record["machine"]: record["hardware"] for record in table.records()}
    assert hardware == {"small": "box (simulated)", "real": "box"}
    assert table.simulated and "SIMULATED: requests of hardware that is marked so" in " ".join(table.basis)
    real = break_even_table(break_even_report(books, *SPAN, {"real": USE}, APIS), 7)
    assert not real.simulated and "SIMULATED" not in " ".join(real.basis)


def test_apis_are_the_deployments_without_a_machine_and_the_baseline(tmp_path: Path) -> None:
    config, prices = load_config(write_config(tmp_path)), load_prices(PRICES)
    on = date(2026, 1, 5)
    assert set(apis_of(config, prices, on)) == {"small", "large"}, "large has the baseline's price"
    small, large = config.deployments
    hosted = large.model_copy(update={"hardware": HardwareUse(name="a100-40gb")})
    apis = apis_of(config.model_copy(update={"deployments": (small, hosted)}), prices, on)
    assert set(apis) == {"small", "gpt-4"}
    assert apis["gpt-4"].input_nusd_per_mtok == 30 * NUSD_PER_USD
    namesake = hosted.model_copy(update={"name": "gpt-4"})
    apis = apis_of(config.model_copy(update={"deployments": (small, namesake)}), prices, on)
    assert set(apis) == {"small", "gpt-4 (baseline)"}, "a machine's own deployment is called like it"


def test_the_table_has_a_row_for_each_pair() -> None:
    report = break_even_report(RecordBooks([request("a")]), *SPAN, {"small": USE}, APIS)
    cheap, dear = break_even_table(report, 7).records()
    assert (dear["machine"], dear["api"], dear["cheaper_from"], dear["always_cheaper_from"]) == (
        "small",
        "dear",
        8_001,
        8_001,
    )
    assert (cheap["api_cost_per_request"], cheap["machine_cost_per_day"]) == (300_000, 24 * NUSD_PER_USD)
