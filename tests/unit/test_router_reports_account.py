"""The account of a period: every nano-dollar once, whatever it is broken down by, and its true sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.drivers import DRIVERS, drivers
from router.reports.account import Account, Line, Question, take_account
from router.reports.currency import Currency
from router.reports.dimensions import DIMENSIONS, FACETS, NOT_ROLLED_UP
from router.reports.figures import Figures, add_up
from router.reports.periods import HOUR_MS, ReportPeriod
from router.stores.cells import ROUTER, HourCost
from tests.support.books import RecordBooks
from tests.support.ledgers import FROM_MS, HOURS, SOME_LEDGERS, books
from tests.support.spend import spend_record

PERIOD = ReportPeriod(FROM_MS, FROM_MS + HOURS * HOUR_MS, "Asia/Kolkata")
CNY = Currency("CNY", ((date(2024, 1, 1), Fraction("7.189")), (date(2026, 11, 1), Fraction("7.1"))))
dimensions = st.lists(st.sampled_from(DIMENSIONS), min_size=1, max_size=3, unique=True).map(tuple)


def account_of(ledger: RecordBooks, by: Sequence[str] = (), **terms: object) -> Account:
    return take_account(ledger, Question(PERIOD, tuple(by), **terms))  # type: ignore[arg-type]


def assert_adds_up(account: Account, by: Sequence[str]) -> None:
    lines, total = account.lines(by), account.total
    assert add_up(line.figures for line in lines) == total.figures if lines else total.figures == Figures()
    for line in (*lines, total):
        assert sum(line.drivers.values()) == line.figures.savings
        assert line.figures.savings == line.figures.counterfactual - line.figures.effective_cost
    for driver in DRIVERS:
        assert sum(line.drivers.get(driver, 0) for line in lines) == total.drivers.get(driver, 0)


@SOME_LEDGERS
@given(books(), dimensions, st.booleans())
def test_lines_and_drivers_add_up_by_any_dimensions(ledger: RecordBooks, by: tuple[str, ...], spread: bool) -> None:
    account = account_of(ledger, by, spread=spread)
    assert_adds_up(account, by)
    assert account.total.drivers.get("classifier", 0) == -account.total.figures.router_cost
    assert account.total.drivers.get("idle_gpu", 0) == -account.total.figures.idle_cost
    assert account.total.figures.router_cost == sum(
        h.cost_nusd for h in ledger.hour_costs(*_span()) if h.source == ROUTER
    )


@SOME_LEDGERS
@given(books(), dimensions)
def test_they_add_up_in_another_currency(ledger: RecordBooks, by: tuple[str, ...]) -> None:
    assert_adds_up(account_of(ledger, by, currency=CNY), by)


@SOME_LEDGERS
@given(books(), st.sampled_from(sorted(FACETS)), dimensions)
def test_they_add_up_where_restricted(ledger: RecordBooks, name: str, by: tuple[str, ...]) -> None:
    for value in {line.names[0] for line in account_of(ledger, [name]).lines([name])}:
        account = account_of(ledger, by, where={name: [value]})
        assert_adds_up(account, by)


@SOME_LEDGERS
@given(books())
def test_the_total_is_that_of_the_records(ledger: RecordBooks) -> None:
    total = account_of(ledger).total
    idle = sum(hour.idle_nusd for hour in ledger.hour_costs(*_span()) if hour.source != ROUTER)
    assert total.figures.list_cost == sum(record.cost_nusd for record in ledger.records)
    assert total.figures.booked_counterfactual == sum(record.baseline_cost_nusd for record in ledger.records)
    assert total.figures.idle_cost == idle
    assert total.figures.router_cost == sum(h.cost_nusd for h in ledger.hour_costs(*_span()) if h.source == ROUTER)
    assert total.figures.request_count == sum(record.kind == "request" for record in ledger.records)
    assert total.figures.measuring_count == sum(record.kind == "shadow" for record in ledger.records)


@SOME_LEDGERS
@given(books())
def test_drivers_are_those_of_the_records_and_what_machines_and_samples_add(ledger: RecordBooks) -> None:
    account = account_of(ledger)
    expected = dict.fromkeys(DRIVERS, 0)
    for record in ledger.records:
        for driver, nusd in drivers(record).items():
            expected[driver] += nusd
    for posting, item in ((item.posting, item) for item in account.items if item.posting is not None):
        expected[posting.main_driver] += item.figures.correction
    expected["idle_gpu"] -= account.total.figures.idle_cost
    expected["classifier"] -= account.total.figures.router_cost
    assert account.total.drivers == {driver: nusd for driver, nusd in expected.items() if nusd}


@SOME_LEDGERS
@given(books())
def test_what_follows_each_other_adds_up_to_the_whole(ledger: RecordBooks) -> None:
    """At half past an hour, too: hours are cut."""
    middle = FROM_MS + 5 * HOUR_MS // 2
    parts = [
        take_account(ledger, Question(ReportPeriod(start, end))).total.figures
        for start, end in ((FROM_MS, middle), (middle, PERIOD.to_ms))
    ]
    whole = account_of(ledger).total.figures
    for name in ("list_cost", "idle_cost", "router_cost", "booked_counterfactual", "exact_counterfactual"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)


ROLLED_UP = sorted(FACETS.keys() - NOT_ROLLED_UP)


@SOME_LEDGERS
@given(books(), st.sampled_from(ROLLED_UP), dimensions, st.booleans())
def test_a_restricted_report_has_the_lines_of_that_of_all(
    ledger: RecordBooks, name: str, by: tuple[str, ...], spread: bool
) -> None:
    by = (name, *(each for each in by if each not in (name, "user", "tag")))
    lines = account_of(ledger, by, spread=spread).lines(by)
    for value in {line.names[0] for line in lines if _is_somebodys(line)}:
        own = account_of(ledger, by, spread=spread, where={name: [value]})
        expected = [line for line in lines if line.names[0] == value]
        assert [line for line in own.lines(by) if _is_somebodys(line)] == expected
        alone = account_of(ledger, by[1:], spread=spread, where={name: [value]}).total
        assert (alone.figures, alone.drivers) == (own.total.figures, own.total.drivers)


def _is_somebodys(line: Line) -> bool:
    return not any(name.endswith("(idle)") or name == ROUTER for name in line.names)


@SOME_LEDGERS
@given(books(), st.sampled_from(sorted(NOT_ROLLED_UP)))
def test_the_line_of_a_user_or_a_tag_may_miss_a_nano_dollar_for_each_cell(ledger: RecordBooks, name: str) -> None:
    for line in account_of(ledger, [name]).lines([name]):
        if not _is_somebodys(line) or "," in line.names[0]:
            continue
        own = account_of(ledger, [name], where={name: line.names})
        of_line = next(each for each in own.lines([name]) if each.names == line.names)
        cells = sum(posting.labels[name] == line.names[0] for posting in own.postings)
        for field in fields(Figures):
            difference = abs(getattr(of_line.figures, field.name) - getattr(line.figures, field.name))
            assert difference <= (2 * cells if field.name in ("idle_cost", "correction") else 0)


def test_idle_time_is_borne_by_what_was_booked_in_it_and_unused_hours_by_nobody() -> None:
    ledger = RecordBooks(
        [
            spend_record("a", team_id="sales", started_at_ms=FROM_MS, cost_nusd=100, baseline_cost_nusd=0),
            spend_record("b", team_id="support", started_at_ms=FROM_MS, cost_nusd=300, baseline_cost_nusd=0),
        ],
        [HourCost(FROM_MS + at * HOUR_MS, "mistral-7b", "a100-40gb", 1, 1_000) for at in range(2)]
        + [HourCost(FROM_MS, ROUTER, "m5", 1, 70)],
    )
    lines = account_of(ledger, ["team"]).lines(["team"])
    assert {line.names[0]: line.figures.effective_cost for line in lines} == {
        "support": 750, "sales": 250, "(idle)": 1_000, "(router)": 70,
    }  # fmt: skip
    by_model = account_of(ledger, ["model"]).lines(["model"])
    assert {line.names[0]: line.figures.idle_cost for line in by_model} == {
        "mistral-7b": 600, "mistral-7b (idle)": 1_000, "(router)": 0,
    }  # fmt: skip


def test_spread_leaves_nothing_to_nobody_while_there_is_somebody() -> None:
    ledger = RecordBooks(
        [
            spend_record("a", team_id="sales", started_at_ms=FROM_MS, cost_nusd=100),
            spend_record("b", team_id="support", started_at_ms=FROM_MS, cost_nusd=300),
        ],
        [HourCost(FROM_MS + at * HOUR_MS, "mistral-7b", "a100-40gb", 1, 1_000) for at in range(2)]
        + [HourCost(FROM_MS, ROUTER, "m5", 1, 70), HourCost(FROM_MS, "phi", "a100-40gb", 1, 5)],
    )
    lines = account_of(ledger, ["team"], spread=True).lines(["team"])
    assert {line.names[0]: line.figures.effective_cost for line in lines} == {
        "support": 300 + 1_200 + 35, "sales": 100 + 400 + 35, "(idle)": 5,
    }  # fmt: skip


def test_a_day_of_the_report_is_one_of_its_time_zone() -> None:
    midnight_in_kolkata = FROM_MS - 3 * HOUR_MS - HOUR_MS // 2  # 2026-10-31T18:30Z
    records = [
        spend_record("a", started_at_ms=midnight_in_kolkata - 1, cost_nusd=1),
        spend_record("b", started_at_ms=midnight_in_kolkata, cost_nusd=10),
    ]
    question = Question(
        ReportPeriod(FROM_MS - 12 * HOUR_MS, FROM_MS + HOUR_MS, "Asia/Kolkata"), by=("day", "month", "hour")
    )
    account = take_account(RecordBooks(records), question)
    assert _costs(account.lines(["day", "month"])) == {("2026-10-31", "2026-10"): 1, ("2026-11-01", "2026-11"): 10}
    assert list(_costs(account.lines(["hour", "day"]))) == [
        ("2026-10-31T23:30+05:30", "2026-10-31"),
        ("2026-10-31T23:30+05:30", "2026-11-01"),
    ]


def _costs(lines: Sequence[Line]) -> dict[tuple[str, ...], int]:
    return {line.names: line.figures.list_cost for line in lines}


def test_each_day_is_converted_at_its_own_rate() -> None:
    noon = FROM_MS - 10 * HOUR_MS
    records = [
        spend_record(f"r{day}", started_at_ms=noon + day * 24 * HOUR_MS, cost_nusd=10**9, baseline_cost_nusd=0)
        for day in range(2)
    ]
    question = Question(ReportPeriod(noon, noon + 48 * HOUR_MS), by=("day",), currency=CNY)
    account = take_account(RecordBooks(records), question)
    assert _costs(account.lines(["day"])) == {("2026-10-31",): 7_189_000_000, ("2026-11-01",): 7_100_000_000}
    assert account.total.figures.list_cost == 14_289_000_000


def test_a_report_cannot_be_by_what_it_was_not_taken_by() -> None:
    with pytest.raises(ValueError, match="cannot be by 'colour'; allowed are team"):
        account_of(RecordBooks(), ["colour"])
    with pytest.raises(ValueError, match="allowed are team"):
        account_of(RecordBooks(), ["team"]).lines(["model"])
    with pytest.raises(ValueError, match="twice"):
        account_of(RecordBooks(), ["team", "team"])


def _span() -> tuple[int, int]:
    return PERIOD.from_ms, PERIOD.to_ms
