"""How a report looks: to people, to programs, to spreadsheets."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from policies.budget import Budget, BudgetState
from policies.money import parse_usd
from router.reports.render import as_csv, as_json, print_report
from router.reports.savings import SavingsLine, SavingsReport

USD = 10**9
BUDGET = Budget(id="b", subject_kind="team", subject_id="support", limit=100 * USD)


def line(name: str, count: int = 1, realised: int = 0, counterfactual: int = 0) -> SavingsLine:
    return SavingsLine(name, count, 10, 20, realised, counterfactual)


def report(**changes: object) -> SavingsReport:
    values: dict[str, object] = {
        "from_ms": 1_793_491_200_000,
        "to_ms": 1_795_264_200_000,
        "team_id": None,
        "total": line("total", 4, 2 * USD, 10 * USD),
        "by_team": (line("support", 3, USD, 9 * USD), line("研究", 1, USD, USD)),
        "by_model": (line("mistral-7b", 3, USD, 9 * USD), line("gpt-4", 1, USD, USD)),
        "by_alias": (line("auto", 4, 2 * USD, 10 * USD),),
        "by_cause": (line("smaller_model", 3, USD, 9 * USD), line("baseline", 1, USD, USD)),
        "by_status": (line("ok", 4, 2 * USD, 10 * USD),),
        "baseline_models": ("gpt-4",),
        "measured_nusd": USD,
        "simulated_request_count": 0,
        "budgets": (BudgetState(BUDGET, "2026-11", 40 * USD, 20 * USD),),
    }
    return SavingsReport(**{**values, **changes})  # type: ignore[arg-type]


def printed(shown: SavingsReport, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_report(shown, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_headline_says_what_was_saved() -> None:
    text = printed(report())
    assert "Savings: 2026-11-01 00:00 to 2026-11-21 12:30 UTC" in text
    assert "spent $2.0000   all on gpt-4 $10.0000   saved $8.0000" in text
    assert "80.0 % saved" in text


@pytest.mark.parametrize("width", [80, 120])
def test_every_row_is_one_line_with_a_bar(width: int) -> None:
    rows = {row.split("  ")[0]: row for row in printed(report(), width).splitlines()}
    assert rows["smaller model"].split() == [
        "smaller",
        "model",
        "3",
        "1.0000",
        "9.0000",
        "8.0000",
        "88.9",
        "%",
        *_bar(rows["smaller model"]),
    ]
    assert "█" in rows["support"]
    assert "█" not in rows["baseline itself"]
    assert rows["team support"].split()[:7] == ["team", "support", "2026-11", "100.00", "40.0000", "20.0000", "40.0000"]
    assert max(map(len, printed(report(), width).splitlines())) <= width


def _bar(row: str) -> list[str]:
    return row.split()[8:]


def test_estimates_are_called_so() -> None:
    text = " ".join(printed(report()).split())
    assert "The counterfactual is an estimate: each answer's tokens, recounted with the baseline's tokenizer" in text
    assert "$1.0000 of the counterfactual are no estimate" in text
    assert "SIMULATED" not in text


def test_simulated_traffic_is_called_so() -> None:
    assert "SIMULATED: All requests were" in printed(report(simulated_request_count=4))
    assert "SIMULATED: 1 of 4 requests were" in printed(report(simulated_request_count=1))


def test_names_are_no_markup() -> None:
    assert "[red]x[/]" in printed(report(by_model=(line("[red]x[/]"),), team_id="[/]"))


def test_an_empty_report() -> None:
    empty = report(
        total=SavingsLine("total"), by_team=(), by_model=(), by_alias=(), by_cause=(), by_status=(),
        baseline_models=(), measured_nusd=0, budgets=(),
    )  # fmt: skip
    assert "no requests in this time" in printed(empty)
    assert as_json(empty)["total"]["saved_percent"] is None
    assert len(as_csv(empty).splitlines()) == 2


def test_json_holds_every_amount_twice_and_alike() -> None:
    values = json.loads(json.dumps(as_json(report())))
    lines = [values["total"], *values["by_team"], *values["by_cause"], *values["budgets"]]
    pairs = [(row[key], row[key.replace("_usd", "_nusd")]) for row in lines for key in row if key.endswith("_usd")]
    assert len(pairs) == 3 * 5 + 4
    assert all(parse_usd(usd) == nusd for usd, nusd in pairs)
    assert (values["from"], values["to"]) == ("2026-11-01T00:00:00.000+00:00", "2026-11-21T12:30:00.000+00:00")
    assert (values["counterfactual"]["estimate"], values["simulated"]) == (True, False)


def test_csv_is_one_table() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report()))))
    assert [(row["breakdown"], row["name"]) for row in rows[:3]] == [
        ("total", "total"),
        ("by_cause", "smaller_model"),
        ("by_cause", "baseline"),
    ]
    for breakdown in ("by_cause", "by_team", "by_model", "by_alias", "by_status"):
        assert sum(int(row["realised_nusd"]) for row in rows if row["breakdown"] == breakdown) == 2 * USD


def test_csv_runs_no_formula() -> None:
    assert "by_team,'=1+1,1" in as_csv(report(by_team=(line("=1+1"),)))
