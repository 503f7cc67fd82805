"""What a correction of the ledger must do on every database: change rows and sums at once, and keep both versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from policies.catalog import Price, PriceSchedule
from policies.repricing import Amounts, booked, reckoned
from policies.spend import SpendRecord
from router.config import Config, load_config
from router.prices import ModelInfo, PriceBook
from router.reports.account import Question, take_account
from router.reports.periods import ReportPeriod
from router.reports.price_list import PriceList, PricesOfTheDay
from router.reports.repricing import Repricer, target_of
from router.reports.verify import ROLLED_UP
from router.stores.cells import HOUR_MS
from router.stores.sql_audit import entries
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import reading, writing
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_repricing import Replaced, Repricing, SqlRepricings
from router.stores.sql_schema import HOURLY_SUMS, LEDGER, LEDGER_ROWS, REPRICED_ROWS
from tests.support.administration import write_config
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


# ---- from wrong prices to right ones ---------------------------------------------------------------

MIDNIGHT = 1_793_491_200_000  # of 2026-11-01, UTC
AROUND_IT = (MIDNIGHT - 2 * HOUR_MS, MIDNIGHT + 2 * HOUR_MS)
SMALL, LARGE = "gpt-3.5-turbo", "gpt-4"  # the models of the deployments `small` and `large`

amounts_of_mtok = st.integers(0, 10**11)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_config(tmp_path_factory.mktemp("config")))


@st.composite
def schedules(draw: st.DrawFn, model: str) -> PriceSchedule:
    """The price that was there first, and perhaps another from midnight on."""
    days = [date(2026, 1, 1), date(2026, 11, 1)][: draw(st.integers(1, 2))]
    rare = st.none() | amounts_of_mtok
    prices = [Price(day, draw(amounts_of_mtok), draw(amounts_of_mtok), draw(rare), "", draw(rare)) for day in days]
    return PriceSchedule(model, tuple(prices))


@st.composite
def requests(draw: st.DrawFn, request_id: str, deployments: Sequence[str]) -> list[SpendRecord]:
    """One, without its amounts, and perhaps the shadow that measures it."""
    tokens = st.integers(0, 5_000)
    inputs, baseline_inputs, failed = draw(tokens), draw(tokens), draw(st.sampled_from([0, 0, 700]))
    detail = {
        "baseline_cached_input_tokens": draw(st.integers(0, baseline_inputs)),
        **({"billed_attempts": [["large", failed, 0]]} if failed else {}),
    }
    deployment = draw(st.sampled_from(deployments))
    asked = spend_record(
        request_id,
        started_at_ms=draw(st.integers(AROUND_IT[0], AROUND_IT[1] - 1)),
        deployment=deployment,
        request_model={"small": "mistral-7b", "large": "gpt-4"}[deployment],
        team_id=draw(st.sampled_from(["support", "sales"])),
        task=draw(st.sampled_from([None, "code"])),
        input_tokens=inputs + failed,
        output_tokens=draw(tokens),
        cached_input_tokens=draw(st.integers(0, inputs)),
        baseline_input_tokens=baseline_inputs,
        baseline_output_tokens=draw(tokens),
        detail=detail,
    )
    if deployment == "large" or draw(st.booleans()):
        return [asked]
    measured = [baseline_inputs, asked.baseline_output_tokens, detail["baseline_cached_input_tokens"], 0]
    shadow = replace(
        asked,
        request_id=f"{request_id}-shadow",
        kind="shadow",
        parent_id=request_id,
        sample_share=0.5,
        deployment="large",
        request_model="gpt-4",
        input_tokens=baseline_inputs,
        output_tokens=draw(tokens),
        cached_input_tokens=draw(st.integers(0, baseline_inputs)),
        baseline_input_tokens=0,
        baseline_output_tokens=0,
        detail={"measured_deployment": "small", "measured_usage": measured},
    )
    return [asked, shadow]


@st.composite
def traffic(draw: st.DrawFn, deployments: Sequence[str]) -> list[SpendRecord]:
    asked = [draw(requests(f"r{at}", deployments)) for at in range(draw(st.integers(1, 8)))]
    return [record for each in asked for record in each]


def price_list(config: Config, small: PriceSchedule, large: PriceSchedule) -> PriceList:
    models = {
        schedule.model: ModelInfo(schedule.model, schedule, 8_192, 4_096, None, frozenset(), "a test")
        for schedule in (small, large)
    }
    return PriceList(config, PriceBook(models))


def booked_at(prices: PriceList, records: Sequence[SpendRecord]) -> list[SpendRecord]:
    of_the_day = PricesOfTheDay(prices)
    unpriced = [replace(record, **asdict(Amounts(0, 0, 0, 0, None, None))) for record in records]
    return [replace(record, **asdict(reckoned(record, of_the_day))) for record in unpriced]


def what_reports_read(engine: Engine) -> Any:
    books = SqlBooks(engine)
    account = take_account(books, Question(ReportPeriod(*AROUND_IT, "UTC"), ("team", "task")))
    lines = account.lines(("team", "task"))
    return books.cells(*AROUND_IT, ("hour_ms", *ROLLED_UP)), books.samples(*AROUND_IT), lines, account.total


@pytest.mark.parametrize(
    ("deployments", "targets"),
    [
        (("small", "large"), [(SMALL, None), (LARGE, None)]),
        (("small", "large"), [(None, "large"), (None, "small")]),
        (("small",), [(None, "small")]),  # with what measured them
    ],
)
@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_a_correction_the_books_are_as_if_the_right_price_had_been_there_from_the_start(
    engine: Engine,
    config: Config,
    deployments: tuple[str, ...],
    targets: list[tuple[str | None, str | None]],
    data: st.DataObject,
) -> None:
    wrong, right = (
        price_list(config, data.draw(schedules(SMALL)), data.draw(schedules(LARGE))) for _ in ("wrong", "right")
    )
    records = data.draw(traffic(deployments))
    ledger, repricings = SqlLedger(engine), SqlRepricings(engine)
    found = []
    for prices in (right, wrong):
        with writing(engine) as connection:
            for table in (LEDGER_ROWS, HOURLY_SUMS, REPRICED_ROWS):
                connection.execute(delete(table))
        ledger.append(booked_at(prices, records))
        found.append(what_reports_read(engine))
    for model, deployment in targets:
        repricer = Repricer(target_of(right, model, deployment), right)
        begun = repricings.begin(7, "cli:me", "late", {})
        for chunk in ledger.records(*AROUND_IT, at_once=3):
            repricings.apply(begun, [(each.record, each.amounts) for each in repricer.corrections(chunk)])
    assert what_reports_read(engine) == found[0]
    nothing_more = Repricer(target_of(right, LARGE, None), right)
    assert [nothing_more.corrections(chunk) for chunk in ledger.records(*AROUND_IT, at_once=1_000)] == [[]]
