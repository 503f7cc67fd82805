"""What every Books must do: sums by any dimension, shadow samples, hours of machines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import Engine

from router.stores.cells import HOUR_MS, ROUTER, Books, Dimension, HourCost
from router.stores.sql_books import SqlBooks
from router.stores.sql_ledger import SqlLedger
from tests.support.spend import spend_record

EVER = (0, 2**53)
START_MS = 1_793_000_000_000 // HOUR_MS * HOUR_MS
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)


@pytest.fixture
def ledger(engine: Engine) -> SqlLedger:
    return SqlLedger(engine)


@pytest.fixture
def books(engine: Engine) -> Books:
    return SqlBooks(engine)


def costs_by(books: Books, *by: Dimension, **options: Any) -> dict[Any, int]:
    cells = books.cells(*options.pop("span", EVER), by, options or None)
    return {tuple(cell.key.values()) if len(by) > 1 else cell.key[by[0]]: cell.cost_nusd for cell in cells}


def test_an_empty_ledger_has_no_cells(books: Books) -> None:
    assert books.cells(*EVER, ()) == ()
    assert books.cells(*EVER, DIMENSIONS) == ()


def test_a_cell_has_every_sum(ledger: SqlLedger, books: Books) -> None:
    amounts = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cached_input_tokens": 3,
        "reasoning_tokens": 4,
        "duration_ms": 5,
        "cost_nusd": 2**52 + 1,
        "retries_nusd": 7,
        "prompt_cache_nusd": -8,
        "baseline_cost_nusd": 2**52 + 9,
        "observed_cost_nusd": 10,
    }
    ledger.append([spend_record(id_, started_at_ms=START_MS, **amounts) for id_ in ("a", "b")])
    (cell,) = books.cells(*EVER, ())
    assert cell.key == {}
    assert cell.request_count == 2
    assert {name: getattr(cell, name) for name in amounts} == {name: 2 * amount for name, amount in amounts.items()}
    assert {type(getattr(cell, name)) for name in amounts} == {int}


def test_cells_differ_in_every_dimension(ledger: SqlLedger, books: Books) -> None:
    changes: dict[Dimension, Any] = dict.fromkeys(DIMENSIONS, "another")
    changes |= {"simulated": True, "status": "error", "cache": "hit", "kind": "judge", "usage_source": "counted"}
    del changes["hour_ms"]
    records = [spend_record(name, started_at_ms=START_MS, **{name: value}) for name, value in changes.items()]
    ledger.append([*records, spend_record("hour", started_at_ms=START_MS + HOUR_MS), spend_record("plain")])
    assert len(books.cells(*EVER, DIMENSIONS)) == len(changes) + 2
    for name, value in changes.items():
        (cell,) = books.cells(*EVER, [name], {name: [value]})
        assert (cell.key, cell.request_count) == ({name: value}, 1)


def test_cells_come_in_the_order_of_their_keys_and_nothing_is_first(ledger: SqlLedger, books: Books) -> None:
    projects = ["b", None, "a", "Z", "ä"]
    ledger.append([spend_record(f"r{at}", project_id=project) for at, project in enumerate(projects)])
    cells = books.cells(*EVER, ["project_id"])
    assert [cell.key["project_id"] for cell in cells] == [None, "Z", "a", "b", "ä"]


def test_hours_are_told_apart_in_utc(ledger: SqlLedger, books: Books) -> None:
    times = [START_MS, START_MS + HOUR_MS - 1, START_MS + HOUR_MS]
    ledger.append([spend_record(f"r{at}", started_at_ms=at_ms, cost_nusd=1) for at, at_ms in enumerate(times)])
    assert costs_by(books, "hour_ms") == {START_MS: 2, START_MS + HOUR_MS: 1}


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 4 * HOUR_MS), 255),
        ((HOUR_MS, 3 * HOUR_MS), 4 + 8 + 16 + 32),
        ((HOUR_MS + 1, 3 * HOUR_MS), 8 + 16 + 32),
        ((HOUR_MS + 1, 3 * HOUR_MS + 1), 8 + 16 + 32 + 64),
        ((1, HOUR_MS - 1), 0),
        ((HOUR_MS + 1, 2 * HOUR_MS - 1), 0),
        ((HOUR_MS + 1, 2 * HOUR_MS), 8),
        ((HOUR_MS, 2 * HOUR_MS - 1), 4),
        ((HOUR_MS - 1, HOUR_MS + 1), 2 + 4),
        ((HOUR_MS, HOUR_MS), 0),
        ((3 * HOUR_MS, HOUR_MS), 0),
    ],
)
def test_spans_are_half_open_wherever_they_begin_and_end(
    ledger: SqlLedger, books: Books, span: tuple[int, int], expected: int
) -> None:
    times = [hour * HOUR_MS + part for hour in range(4) for part in (0, HOUR_MS - 1)]
    ledger.append([spend_record(f"r{at}", started_at_ms=at_ms, cost_nusd=2**at) for at, at_ms in enumerate(times)])
    for by in ((), ("end_user",)):
        assert sum(cell.cost_nusd for cell in books.cells(*span, by)) == expected


def test_the_ledger_goes_as_far_as_the_newest_hour_of_a_span(ledger: SqlLedger, books: Books) -> None:
    hours = {"a": 0, "b": 5, "c": 7}
    assert books.booked_until_ms(*EVER) is None
    for id_, hour in hours.items():
        ledger.append([spend_record(id_, team_id=f"of-{id_}", started_at_ms=START_MS + hour * HOUR_MS + 1_000)])

    def until(first: float, last: float) -> float | None:
        found = books.booked_until_ms(START_MS + int(first * HOUR_MS), START_MS + int(last * HOUR_MS))
        return None if found is None else (found - START_MS) / HOUR_MS

    assert (until(0, 24), until(0, 7), until(0.5, 5), until(1, 5)) == (8, 6, None, None)
    assert (until(0, 7.5), until(7.1, 7.5), until(5, 5.1)) == (8, None, 6), "parts of hours"


def test_only_what_is_let_in_is_summed_up(ledger: SqlLedger, books: Books) -> None:
    ledger.append(
        [
            spend_record("a", cost_nusd=1, project_id="web"),
            spend_record("b", cost_nusd=2, project_id="app", simulated=True),
            spend_record("c", cost_nusd=4, project_id=None),
            spend_record("d", cost_nusd=8, project_id="", team_id="sales", end_user="ann"),
        ]
    )
    assert costs_by(books, "project_id", project_id=["web", None]) == {None: 4, "web": 1}
    assert costs_by(books, "team_id", project_id=["web", "app", ""], team_id=["support"]) == {"support": 3}
    assert costs_by(books, "simulated", simulated=[False]) == {False: 13}
    assert costs_by(books, "team_id", end_user=["ann"]) == {"sales": 8}
    assert costs_by(books, "team_id", project_id=[]) == {}


def test_no_key_carries_a_number_where_a_truth_value_belongs(ledger: SqlLedger, books: Books) -> None:
    ledger.append([spend_record("a", simulated=True)])
    assert [cell.key["simulated"] for cell in books.cells(*EVER, ["simulated"])] == [True]
    assert type(books.cells(*EVER, ["simulated"])[0].key["simulated"]) is bool


# shadow samples

SHADOW: dict[str, Any] = {"kind": "shadow", "sample_share": 0.05, "deployment": "gpt-4", "baseline_cost_nusd": 0}


def test_a_sample_is_a_request_and_what_the_baseline_really_asked_for_it(ledger: SqlLedger, books: Books) -> None:
    asked = spend_record("asked", started_at_ms=100, baseline_cost_nusd=900, task="code", project_id="web")
    shadow = spend_record(
        "shadow",
        started_at_ms=250,
        parent_id="asked",
        cost_nusd=1_000,
        retries_nusd=30,
        prompt_cache_nusd=5 - 70,
        **SHADOW,
    )
    ledger.append([shadow, asked, spend_record("other", started_at_ms=101)])
    (sample,) = books.samples(100, 200)
    assert (sample.request_id, sample.started_at_ms, sample.deployment, sample.alias) == (
        "asked",
        100,
        "mistral-7b",
        "auto",
    )
    assert (sample.task, sample.baseline_model, sample.booked_nusd) == ("code", "gpt-4", 900)
    assert (sample.actual_nusd, sample.share) == (905, 0.05)
    assert books.samples(101, 200) == books.samples(0, 100) == ()
    assert books.samples(0, 200, {"project_id": ["web"]}) == (sample,)
    assert books.samples(0, 200, {"project_id": ["app"]}) == books.samples(0, 200, {"kind": ["shadow"]}) == ()


def test_what_tells_nothing_of_the_baseline_is_no_sample(ledger: SqlLedger, books: Books) -> None:
    ledger.append(
        [
            spend_record("asked"),
            spend_record("failed", parent_id="asked", **SHADOW, status="error"),
            spend_record("judged", parent_id="asked", **SHADOW | {"kind": "judge"}),
            spend_record("lost", parent_id="nobody", **SHADOW),
            spend_record("late", parent_id="asked", started_at_ms=1_793_000_000_000 + 25 * HOUR_MS, **SHADOW),
        ]
    )
    assert books.samples(*EVER) == ()


# hours of machines

HOUR = HourCost(START_MS, "mistral-7b", "a100", 2, 4_000_000_000)


def test_an_hour_is_closed_once(books: Books) -> None:
    assert books.close_hours([]) == 0
    assert books.closed_until_ms("mistral-7b") is None
    later = replace(HOUR, hour_ms=START_MS + HOUR_MS)
    assert books.close_hours([later, HOUR, replace(HOUR, source=ROUTER)]) == 3
    assert books.close_hours([replace(HOUR, cost_nusd=1), replace(HOUR, source="other")]) == 1
    assert books.closed_until_ms("mistral-7b") == START_MS + 2 * HOUR_MS
    assert books.closed_until_ms(ROUTER) == START_MS + HOUR_MS
    assert books.hour_costs(START_MS, START_MS + HOUR_MS) == (
        replace(HOUR, source=ROUTER),
        HOUR,
        replace(HOUR, source="other"),
    )
    assert books.hour_costs(START_MS + 1, START_MS + HOUR_MS + 1) == (later,)
    assert books.hour_costs(START_MS + 1, START_MS + HOUR_MS) == ()


def test_those_who_close_the_same_hours_at_once_close_them_once(books: Books) -> None:
    hours = [replace(HOUR, hour_ms=START_MS + at * HOUR_MS) for at in range(50)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(books.close_hours, [hours, hours[::-1]] * 4)) == 50


def test_an_hour_knows_what_its_requests_were_booked_at(ledger: SqlLedger, books: Books) -> None:
    books.close_hours([HOUR, replace(HOUR, hour_ms=START_MS + HOUR_MS), replace(HOUR, source="idle")])
    ledger.append(
        [
            spend_record("a", started_at_ms=START_MS, cost_nusd=1_000_000_000),
            spend_record("b", started_at_ms=START_MS + HOUR_MS - 1, cost_nusd=500_000_000),
            spend_record("c", started_at_ms=START_MS + HOUR_MS, cost_nusd=7),
            spend_record("d", started_at_ms=START_MS, cost_nusd=9, deployment="gpt-4"),
        ]
    )
    idle, first, second = books.hour_costs(START_MS, START_MS + 2 * HOUR_MS)
    assert [hour.booked_nusd for hour in (idle, first, second)] == [0, 1_500_000_000, 7]
    assert (first.idle_nusd, idle.idle_nusd) == (2_500_000_000, 4_000_000_000)
