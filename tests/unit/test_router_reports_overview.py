"""The overview of savings: what each request is put down to, and how it looks to people and to programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from policies.budget import Budget, BudgetState
from policies.spend import SpendRecord
from router.config import load_config
from router.reports.library import ReportTerms
from router.reports.overview import BREAKDOWNS, Overview, overview, overview_as_csv, overview_as_json
from router.reports.overview_page import print_overview
from router.reports.periods import ReportPeriod
from tests.support.administration import write_config
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
USD = 10**9
STATE = BudgetState(
    Budget(id="b", subject_kind="team", subject_id="support", limit=100 * USD), "2026-11", 40 * USD, 20 * USD
)


def record(request_id: str, **changes: Any) -> SpendRecord:
    return spend_record(request_id, **{"cost_nusd": USD, "baseline_cost_nusd": 9 * USD, **changes})


@pytest.fixture
def source(tmp_path: Path) -> SimpleNamespace:
    config = load_config(write_config(tmp_path))
    return SimpleNamespace(config=config, books=RecordBooks(), baseline_deployments=("azure-big",))


def shown(source: SimpleNamespace, records: Sequence[SpendRecord], **changes: Any) -> Overview:
    source.books = RecordBooks(records)
    terms = ReportTerms(ReportPeriod(1_792_000_000_000, 1_795_264_200_000), **changes)
    return overview(source, terms, NOW, [STATE])


def printed(report: Overview, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_overview(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


RECORDS = (
    record("a"),
    record("b", team_id="研究", deployment="gpt-4", cost_nusd=USD, baseline_cost_nusd=USD),
    record("c", deployment=None, status="refused", cost_nusd=0, baseline_cost_nusd=0),
)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "smaller_model"),
        ({"cache": "hit", "request_model": None, "reason": "cache"}, "response_cache"),
        ({"cache": "hit", "deployment": "gpt-4", "reason": "cache"}, "response_cache"),
        ({"deployment": "gpt-4"}, "baseline"),
        ({"deployment": "big", "request_model": "gpt-4"}, "baseline"),
        ({"deployment": "azure-big"}, "baseline"),
        ({"reason": "pinned"}, "pinned"),
        ({"reason": "pinned", "deployment": "gpt-4"}, "baseline"),
        ({"reason": "refused", "deployment": None, "status": "refused"}, "other"),
        ({"reason": "simple", "deployment": None, "status": "abandoned"}, "abandoned"),
        ({"reason": "complex", "deployment": "gpt-4", "status": "abandoned"}, "abandoned"),
        ({"kind": "shadow", "deployment": "gpt-4", "baseline_cost_nusd": 0}, "measuring"),
    ],
)
def test_causes(source: SimpleNamespace, changes: dict[str, Any], cause: str) -> None:
    (line,) = shown(source, [record("a", **changes)]).lines("cause")
    assert line.names == (cause,)


def test_only_what_others_answered_is_an_estimate(source: SimpleNamespace) -> None:
    values = overview_as_json(shown(source, RECORDS))
    assert values["counterfactual"]["measured_usd"] == "1.00"
    assert values["counterfactual"]["estimate"] is True
    hit_of_baseline = record("d", cache="hit", deployment="gpt-4", cost_nusd=0, baseline_cost_nusd=USD)
    assert overview_as_json(shown(source, [hit_of_baseline]))["counterfactual"]["estimate"] is False


def test_the_headline_says_what_was_saved(source: SimpleNamespace) -> None:
    text = printed(shown(source, RECORDS))
    assert "Savings: 2026-10-14 17:46 to 2026-11-21 12:30 UTC" in text
    assert "spent $2.0000   all on gpt-4 $10.0000   saved $8.0000" in text
    assert "80.0 % saved" in text
    assert "with a confidence of 95 %" in text


@pytest.mark.parametrize("width", [80, 120])
def test_every_row_is_one_line_with_a_bar(source: SimpleNamespace, width: int) -> None:
    text = printed(shown(source, RECORDS), width)
    rows = {row.split("  ")[0]: row for row in reversed(text.splitlines())}
    assert rows["smaller model"].split()[:8] == ["smaller", "model", "1", "1.0000", "9.0000", "8.0000", "88.9", "%"]
    assert "█" in rows["support"]
    assert "█" not in rows["baseline itself"]
    assert rows["refused or failed"].split()[3] == "1"
    assert rows["team support"].split()[:7] == ["team", "support", "2026-11", "100.00", "40.0000", "20.0000", "40.0000"]
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_amount_is_cut_where_there_is_no_room_for_it(source: SimpleNamespace, width: int) -> None:
    large = record("a", cost_nusd=USD * 10**9, baseline_cost_nusd=2 * USD * 10**9, retries_nusd=7 * USD * 10**8)
    rows = printed(shown(source, [large]), width).splitlines()
    (line,) = (row for row in rows if row.startswith("support"))
    assert line.split()[1:7] == ["1", "1000000000.0000", "2000000000.0000", "1000000000.0000", "50.0", "%"]
    (retries,) = (row for row in rows if row.startswith("retries"))
    assert retries.split()[1:4] == ["-700000000.0000", "-35.0", "%"]
    (budget,) = (row for row in rows if row.startswith("team support"))
    assert budget.split()[2:7] == ["2026-11", "100.00", "40.0000", "20.0000", "40.0000"]


def test_the_drivers_are_shown_beside_the_causes(source: SimpleNamespace) -> None:
    text = printed(shown(source, [record("a", retries_nusd=USD // 2)]))
    drivers = text[text.index("Saved by") :]
    assert [line.split()[:2] for line in drivers.splitlines()[1:3]] == [["smaller", "model"], ["retries", "-0.5000"]]


def test_simulated_traffic_is_called_so(source: SimpleNamespace) -> None:
    assert "SIMULATED: All requests were" in printed(shown(source, [record("a", simulated=True)]))
    assert "SIMULATED" not in printed(shown(source, RECORDS))


def test_names_are_no_markup(source: SimpleNamespace) -> None:
    only = {"alias": ["[/]"]}
    text = printed(shown(source, [record("a", deployment="[red]x[/]", alias="[/]")], where=only))
    assert "[red]x[/]" in text
    assert "alias [/]" in text


def test_an_empty_report(source: SimpleNamespace) -> None:
    empty = shown(source, [])
    assert "no requests in this time" in printed(empty)
    assert overview_as_json(empty)["total"]["saved_percent"] is None
    assert len(overview_as_csv(empty).splitlines()) == 2


def test_json_holds_every_amount_twice_and_every_breakdown_adds_up(source: SimpleNamespace) -> None:
    values = json.loads(json.dumps(overview_as_json(shown(source, RECORDS))))
    total = values["total"]
    assert (total["request_count"], total["saved_usd"], total["saved_nusd"]) == (3, "8.00", 8 * USD)
    assert (total["realised_nusd"], total["driver_smaller_model_nusd"]) == (2 * USD, 8 * USD)
    for name in BREAKDOWNS:
        assert sum(line["saved_nusd"] for line in values[f"by_{name}"]) == total["saved_nusd"]
    assert (values["team"], values["simulated"], values["budgets"][0]["spent_usd"]) == (None, False, "40.00")


def test_csv_is_one_table_that_runs_no_formula(source: SimpleNamespace) -> None:
    text = overview_as_csv(shown(source, [*RECORDS, record("d", team_id="=1+1")]))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (rows[0]["breakdown"], rows[0]["name"]) == ("total", "total")
    assert [row["name"] for row in rows if row["breakdown"] == "by_team"] == ["'=1+1", "support", "研究"]
