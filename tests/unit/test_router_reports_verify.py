"""A period reckoned anew: what is right passes, what was tampered with is found, and what cannot be told is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from policies.amortization import Hardware, HardwarePrice, MachineUse
from policies.answer_lengths import ALL_ALIKE
from policies.spend import SpendRecord
from router.config import load_config
from router.prices import load_prices
from router.reports.price_list import PriceList
from router.reports.verify import Findings, Verifier, hours_of
from router.stores.base import AlteredText
from router.stores.cells import HOUR_MS, ROUTER, Cell, HourCost
from tests.support.administration import write_config
from tests.support.books import RecordBooks
from tests.support.spend import priced_record

START = 1_793_000_000_000 // HOUR_MS * HOUR_MS
END = START + 3 * HOUR_MS
MACHINE = MachineUse(Hardware("A100", (HardwarePrice(date(2024, 1, 1), Fraction(4 * 10**9)),)), count=2)


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceList:
    config = load_config(write_config(tmp_path_factory.mktemp("config")))
    return PriceList(config, load_prices(config.prices))


class Raw:
    """The raw records, two at a time."""

    def __init__(self, records: Sequence[SpendRecord]) -> None:
        self._records = sorted(records, key=lambda record: record.started_at_ms)

    def records(self, from_ms: int, to_ms: int) -> Iterator[Sequence[SpendRecord]]:
        found = [record for record in self._records if from_ms <= record.started_at_ms < to_ms]
        for at in range(0, len(found), 2):
            yield found[at : at + 2]

    def get(self, request_id: str) -> SpendRecord | None:
        return next((record for record in self._records if record.request_id == request_id), None)

    def altered_texts(self) -> list[AlteredText]:
        return []


def served(request_id: str, minute: int = 0, **changes: Any) -> SpendRecord:
    values = {"started_at_ms": START + minute * 60_000, "recounted_output_tokens": 1_000}
    return priced_record(request_id, **{**values, **changes})


def ledger() -> list[SpendRecord]:
    """One of each kind, over two and a half hours."""
    failed = {"billed_attempts": [["large", 1_000, 30_000_000]]}
    nothing = {
        "baseline_input_tokens": 0,
        "baseline_output_tokens": 0,
        "baseline_cost_nusd": 0,
        "baseline_price_effective_from": None,
        "recounted_output_tokens": 0,
    }
    return [
        served("plain"),
        served("retried", 10, input_tokens=2_000, cost_nusd=32_000_000, retries_nusd=30_000_000, detail=failed),
        served(
            "own",
            20,
            deployment="large",
            request_model="gpt-4",
            cost_nusd=90_000_000,
            price_effective_from="2023-03-14",
        ),
        served("hit", 70, cache="hit", usage_source="cache", cost_nusd=0, price_effective_from=None, reason="cache"),
        served(
            "shadow",
            75,
            kind="shadow",
            parent_id="plain",
            sample_share=1.0,
            deployment="large",
            request_model="gpt-4",
            cost_nusd=90_000_000,
            price_effective_from="2023-03-14",
            detail={"measured_deployment": "small"},
            **nothing,
        ),
        served(
            "refused",
            80,
            status="error",
            usage_source="none",
            cost_nusd=0,
            deployment=None,
            request_model=None,
            input_tokens=0,
            output_tokens=0,
            price_effective_from=None,
            **nothing,
        ),
        served("abandoned", 140, status="abandoned", usage_source="reserved", cost_nusd=7, **nothing),
    ]


def closed() -> list[HourCost]:
    return [
        HourCost(START - HOUR_MS, "small", "A100", unit_count=0, cost_nusd=0),
        *(HourCost(START + at * HOUR_MS, "small", "A100", unit_count=2, cost_nusd=8 * 10**9) for at in range(3)),
    ]


def no_machines(on: date) -> Mapping[str, MachineUse]:
    return {}


def machines(on: date) -> Mapping[str, MachineUse]:
    return {"small": MACHINE}


def verify(
    prices: PriceList,
    records: Sequence[SpendRecord],
    books: RecordBooks | None = None,
    machines_on: Callable[[date], Mapping[str, MachineUse]] = no_machines,
    **keywords: Any,
) -> Findings:
    verifier = Verifier(Raw(records), books or RecordBooks(records), prices, machines_on, share=1.0)
    return verifier.verify(START, END, **keywords)


def test_a_ledger_that_is_right_passes_and_says_what_it_could_not_check(prices: PriceList) -> None:
    findings = verify(prices, ledger(), RecordBooks(ledger(), closed()), machines)
    assert (findings.total, findings.first) == (0, [])
    assert (findings.record_count, findings.hour_count, findings.closed_hour_count) == (7, 3, 3)
    assert findings.unchecked == {"booked at its reservation: nobody counted its tokens": 1}


def test_an_estimated_answer_is_estimated_anew(prices: PriceList) -> None:
    expected = ALL_ALIKE.expected_tokens("mistral-7b", "gpt-4", 1_000)
    cost = 30_000_000 + expected * 60_000
    estimated = {"estimator": ALL_ALIKE.version, "baseline_output_tokens": expected, "baseline_cost_nusd": cost}
    findings = verify(prices, [served("right", **estimated)])
    assert (findings.first, findings.unchecked) == ([], {})
    (wrong,) = verify(prices, [served("wrong", **estimated, recounted_output_tokens=900)]).first
    assert (wrong.where, wrong.column) == ("wrong", "baseline_output_tokens")
    limited = {**estimated, "baseline_output_tokens": 50, "baseline_cost_nusd": 33_000_000}
    assert verify(prices, [served("limited", **limited, detail={"baseline_output_limit": 50})]).total == 0
    other = verify(prices, [served("other", **{**estimated, "estimator": "log-0.0"})])
    assert (other.total, sum(other.unchecked.values())) == (0, 1)


@pytest.mark.parametrize(
    ("request_id", "changes", "column", "found", "expected"),
    [
        ("plain", {"cost_nusd": 2_000_001}, "cost_nusd", "2000001", "2000000"),
        ("plain", {"output_tokens": 1_001}, "cost_nusd", "2000000", "2001500"),
        ("plain", {"baseline_cost_nusd": 1}, "baseline_cost_nusd", "1", "90000000"),
        ("plain", {"prompt_cache_nusd": 3}, "prompt_cache_nusd", "3", "0"),
        ("plain", {"price_effective_from": "2023-06-13"}, "cost_nusd", "2000000", "3500000"),
        ("plain", {"recounted_output_tokens": 900}, "baseline_output_tokens", "1000", "900"),
        ("retried", {"retries_nusd": 0}, "retries_nusd", "0", "30000000"),
        ("own", {"baseline_input_tokens": 0, "baseline_cost_nusd": 60_000_000}, "baseline_input_tokens",
         "(0, 1000)", "(1000, 1000)"),
        ("hit", {"cost_nusd": 1}, "cost_nusd", "1", "0"),
        ("shadow", {"parent_id": "nobody"}, "parent_id", "nobody", "the id of a request in the ledger"),
        ("shadow", {"parent_id": None}, "parent_id", "None", "the id of a request in the ledger"),
        ("plain", {"baseline_price_effective_from": None}, "baseline_price_effective_from",
         "None", "the date of a price"),
        ("plain", {"parent_id": "own"}, "parent_id", "own", "nothing: it measures no other"),
        ("plain", {"sample_share": 0.5}, "sample_share", "0.5", "nothing: it measures no other"),
        ("shadow", {"sample_share": None}, "sample_share", "None", "a share at which its request is drawn"),
        ("shadow", {"sample_share": 1.5}, "sample_share", "1.5", "a share at which its request is drawn"),
        ("shadow", {"sample_share": 0.01}, "sample_share", "0.01", "a share at which its request is drawn"),
        ("shadow", {"end_user": "ann"}, "end_user", "ann", ", as of plain"),
        ("shadow", {"score": 0.5}, "score", "0.5", "0.125, as of plain"),
        ("shadow", {"detail": {"measured_deployment": "large"}}, "detail.measured_deployment",
         "large", "small, as of plain"),
        ("shadow", {"detail": {"measured_deployment": "small", "measured_usage": [1_000, 1_000, 500, 0]}},
         "detail.measured_usage", "[1000, 1000, 500, 0]", "None, as of plain"),
        ("plain", {"cached_input_tokens": 1_001}, "tokens",
         "cached_input_tokens=1001 must lie in 0..input_tokens=1000", "counts that can be"),
    ],
)  # fmt: skip
def test_whatever_was_tampered_with_is_found(
    prices: PriceList, request_id: str, changes: dict[str, Any], column: str, found: str, expected: str
) -> None:
    records = [replace(each, **changes) if each.request_id == request_id else each for each in ledger()]
    findings = verify(prices, records)
    assert [(each.where, each.column, each.found, each.expected) for each in findings.first] == [
        (request_id, column, found, expected)
    ]


def test_a_price_that_the_file_has_replaced_since_is_no_difference_but_is_told(prices: PriceList) -> None:
    records = [
        replace(each, price_effective_from="2023-06-13", cost_nusd=3_500_000) if each.request_id == "plain" else each
        for each in ledger()
    ]
    findings = verify(prices, records)
    assert (findings.total, findings.outdated_count) == (0, 1)
    assert verify(prices, ledger()).outdated_count == 0


def test_a_measurement_with_a_counterfactual_is_found(prices: PriceList) -> None:
    records = [replace(each, baseline_cost_nusd=5) if each.kind == "shadow" else each for each in ledger()]
    assert set(verify(prices, records).counts) == {"baseline_cost_nusd"}


def test_a_sample_at_another_share_than_now_may_be_right_and_is_counted(prices: PriceList) -> None:
    records = [replace(each, sample_share=0.99) if each.kind == "shadow" else each for each in ledger()]
    findings = verify(prices, records)
    assert findings.total == 0
    assert findings.unchecked["the sample was drawn at another share than the one that is configured now"] == 1


def test_a_shadow_of_a_shadow_is_found(prices: PriceList) -> None:
    other = replace(ledger()[4], request_id="other", parent_id="shadow")
    assert dict(verify(prices, [*ledger(), other]).counts) == {"parent_id": 1}


def test_a_parent_may_have_come_long_before(prices: PriceList) -> None:
    earlier = served("earlier", -100_000)
    shadow = replace(ledger()[4], parent_id="earlier")
    assert verify(prices, [earlier, shadow]).total == 0


@pytest.mark.parametrize("lost", [0, 3])
def test_roll_ups_that_lack_a_record_are_found(prices: PriceList, lost: int) -> None:
    records = ledger()
    findings = verify(prices, records, RecordBooks(records[:lost] + records[lost + 1 :]))
    assert findings.counts["rollups.request_count"] == 1
    assert findings.counts["rollups.baseline_cost_nusd"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00Z", findings.first[0].where)
    of = findings.first[0].sums_of
    assert (of["deployment"], of["kind"]) == ("small", "request")
    assert not {"simulated", "project_id", "observed_deployment"} & of.keys(), "what is not set goes unsaid"
    assert int(findings.first[0].found) + 1 == int(findings.first[0].expected)


def test_roll_ups_of_records_that_are_gone_are_found(prices: PriceList) -> None:
    records = ledger()
    findings = verify(prices, records[1:], RecordBooks(records))
    assert (findings.first[0].column, findings.first[0].found, findings.first[0].expected) == (
        "rollups.request_count",
        "2",
        "1",
    )


class Overtaken(RecordBooks):
    """A record is booked just before each first look at the roll-ups of an hour; the records are read before."""

    def __init__(self, raw: list[SpendRecord], late: SpendRecord) -> None:
        super().__init__(raw)
        self._raw, self._late = raw, late

    def cells(self, from_ms: int, to_ms: int, *arguments: Any) -> tuple[Cell, ...]:
        if from_ms <= self._late.started_at_ms < to_ms and self._late not in self._raw:
            self._raw.append(self._late)
            self.records.append(self._late)
        return super().cells(from_ms, to_ms, *arguments)


class Growing(Raw):
    def __init__(self, raw: list[SpendRecord]) -> None:
        self._records = raw


def test_a_record_that_is_booked_meanwhile_is_no_difference(prices: PriceList) -> None:
    raw = ledger()
    books = Overtaken(raw, served("late", 30))
    assert Verifier(Growing(raw), books, prices, no_machines).verify(START, END).total == 0
    assert len(raw) == 8


def test_years_without_a_record_are_looked_at_once(prices: PriceList) -> None:
    class Asked(Raw):
        def records(self, from_ms: int, to_ms: int) -> Iterator[Sequence[SpendRecord]]:
            asked.append((from_ms, to_ms))
            return super().records(from_ms, to_ms)

    asked: list[tuple[int, int]] = []
    year = 365 * 24 * HOUR_MS
    done: list[int] = []
    verifier = Verifier(Asked(ledger()), RecordBooks(ledger()), prices, no_machines)
    findings = verifier.verify(START - year, END + year, advance=done.append)
    assert (findings.total, findings.record_count, sum(done)) == (0, 7, END - START + 2 * year)
    assert findings.hour_count >= 2 * 365 * 24
    assert len(asked) < 10


def test_a_record_without_sums_is_found_in_whatever_year(prices: PriceList) -> None:
    lost = served("lost", -60 * 24 * 365)
    verifier = Verifier(Raw([lost, *ledger()]), RecordBooks(ledger()), prices, no_machines)
    findings = verifier.verify(lost.started_at_ms - 5 * HOUR_MS, END)
    assert findings.record_count == 8
    assert findings.total


def test_all_differences_are_counted_and_the_first_kept(prices: PriceList) -> None:
    records = [served(f"r{number}", number, cost_nusd=1) for number in range(30)]
    findings = verify(prices, records, most=5)
    assert (findings.total, findings.counts["cost_nusd"], len(findings.first)) == (30, 30, 5)
    assert [each.where for each in findings.first] == ["r0", "r1", "r2", "r3", "r4"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"deployment": "gone"}, "no longer says what its deployment is priced at"),
        ({"price_effective_from": "2001-01-01"}, "price version that it names is no longer"),
        ({"baseline_model": "gone"}, "no price is known for its baseline"),
        (
            {"baseline_price_effective_from": None, "recounted_output_tokens": 0},
            "booked before records named the price",
        ),
    ],
)
def test_what_cannot_be_reckoned_anew_is_no_difference_but_counted(
    prices: PriceList, changes: dict[str, Any], reason: str
) -> None:
    findings = verify(prices, [served("r", **changes)])
    assert findings.total == 0
    assert [reason in found for found in findings.unchecked] == [True]


def test_a_record_from_before_its_answer_was_recounted_may_be_repriced(prices: PriceList) -> None:
    before = served("before", recounted_output_tokens=0, baseline_price_effective_from=None)
    repriced = replace(before, baseline_price_effective_from="2023-03-14")
    for record in (before, repriced):
        findings = verify(prices, [record])
        assert (findings.total, findings.unchecked.total()) == (0, 1)


# ---- machines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "column"),
    [({"cost_nusd": 1}, "hour_costs.cost_nusd"), ({"unit_count": 3}, "hour_costs.unit_count")],
)
def test_an_hour_that_was_closed_at_another_cost_is_found(
    prices: PriceList, changes: dict[str, Any], column: str
) -> None:
    hours = closed()
    hours[2] = replace(hours[2], **changes)
    findings = verify(prices, [], RecordBooks([], hours), machines)
    assert dict(findings.counts) == {column: 1}
    assert findings.first[0].where.endswith(":00Z, small")


def test_a_closed_hour_that_is_gone_is_found(prices: PriceList) -> None:
    hours = [*closed(), HourCost(START, ROUTER, "A100", 2, 8 * 10**9)]
    del hours[2]
    findings = verify(prices, [], RecordBooks([], hours), machines)
    assert dict(findings.counts) == {"hour_costs": 1}
    assert findings.first[0].where.endswith(":00Z, small")


def test_a_closed_hour_that_was_emptied_is_found_and_the_one_before_the_first_is_none(prices: PriceList) -> None:
    hours = closed()
    hours[3] = replace(hours[3], unit_count=0, cost_nusd=0)
    findings = verify(prices, [], RecordBooks([], hours), machines)
    assert dict(findings.counts) == {"hour_costs.cost_nusd": 1, "hour_costs.unit_count": 1}
    began = [HourCost(START, "small", "A100", 0, 0), *closed()[2:]]
    assert verify(prices, [], RecordBooks([], began), machines).total == 0


def test_fees_by_the_request_are_those_of_the_hour(prices: PriceList) -> None:
    platform = replace(MACHINE, nusd_per_request=Fraction(3))
    whole = {"small": platform, ROUTER: platform}
    hours = [
        HourCost(START, "small", "A100", 2, 8 * 10**9 + 2 * 3),  # plain, retried
        HourCost(START, ROUTER, "A100 (simulated)", 2, 8 * 10**9 + 3 * 3),  # and own
    ]
    assert verify(prices, ledger(), RecordBooks(ledger(), hours), lambda on: whole).total == 0


def test_hardware_that_is_gone_cannot_be_checked(prices: PriceList) -> None:
    hours = [HourCost(START, "small", "V100", 1, 1), HourCost(START, "gone", "A100", 1, 1)]
    findings = verify(prices, [], RecordBooks([], hours), machines)
    assert (findings.total, findings.unchecked.total()) == (0, 2)


# ---- hours ---------------------------------------------------------------------------------------


def test_a_period_is_cut_at_the_hours_and_progress_adds_up_to_it(prices: PriceList) -> None:
    assert list(hours_of(START + 5, START + HOUR_MS + 7)) == [
        (START + 5, START + HOUR_MS),
        (START + HOUR_MS, START + HOUR_MS + 7),
    ]
    told: list[int] = []
    verify(prices, ledger(), advance=told.append)
    assert sum(told) == END - START
