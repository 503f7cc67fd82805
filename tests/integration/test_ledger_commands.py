"""`parsimony ledger` and `parsimony report verify` against a real ledger: prices are corrected late, once, visibly."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import date
from functools import partialmethod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from sqlalchemy import text
from typer.testing import CliRunner, Result

from policies.spend import SpendRecord
from router.cli import explain, ledger, report
from router.reports.periods import local_text
from router.services import AdminServices
from router.stores import sql_booking
from router.stores.cells import HOUR_MS, HourCost
from router.stores.sql_engine import writing
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_partitions import drop_rows_before, months_before
from router.stores.sql_repricing import SqlRepricings
from tests.support.administration import PRICES
from tests.support.spend import priced_record

Command = Callable[..., Result]
START = 1_793_000_000_000 // HOUR_MS * HOUR_MS
SPAN = ("--from", "2026-10-26", "--to", "2026-10-27")  # in which START lies


@pytest.fixture
def prices(config: Path, tmp_path: Path) -> Path:
    """A price file of the test's own."""
    path = tmp_path / "own_prices.yaml"
    path.write_text(PRICES.read_text(encoding="utf-8"), encoding="utf-8")
    config.write_text(config.read_text(encoding="utf-8").replace(str(PRICES), str(path)), encoding="utf-8")
    return path


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PARSIMONY_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.add_typer(report.app, name="report")
    app.add_typer(ledger.app, name="ledger")
    app.command("explain")(explain.explain)

    def invoke(*words: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, words, input=answer)

    return invoke


def served(request_id: str, minute: int = 0, **changes: Any) -> SpendRecord:
    values = {"started_at_ms": START + minute * 60_000, "recounted_output_tokens": 1_000}
    return priced_record(request_id, **{**values, **changes})


@pytest.fixture
def booked(services: AdminServices) -> list[SpendRecord]:
    failed = {"billed_attempts": [["large", 1_000, 30_000_000]]}
    records = [
        served("plain"),
        served("retried", 30, input_tokens=2_000, cost_nusd=32_000_000, retries_nusd=30_000_000, detail=failed),
        served(
            "own",
            61,
            deployment="large",
            request_model="gpt-4",
            cost_nusd=90_000_000,
            price_effective_from="2023-03-14",
        ),
    ]
    services.ledger.append(records)
    return records


# ---- verify ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("booked")
def test_books_that_agree_exit_well(run: Command) -> None:
    result = run("report", "verify", *SPAN)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "2026-10-26T00:00+00:00 to 2026-10-27T00:00+00:00: 3 records in 24 hours, 0 closed hours of machines",
        "everything agrees: costs and counterfactuals, drivers, roll-ups, machines, measurements",
    ]


def test_one_of_a_thing_is_not_said_to_be_many(run: Command, services: AdminServices) -> None:
    services.ledger.append([served("plain")])
    services.books.close_hours([HourCost(START, "small", "A100", 1, 4)])
    within = "--from", local_text(START, "UTC"), "--to", local_text(START + HOUR_MS, "UTC")
    lines = run("report", "verify", *within).stdout.splitlines()
    assert lines[0].endswith(": 1 record in 1 hour, 1 closed hour of machines")
    assert lines[1].startswith("not checked: 1 x ")
    assert lines[2].startswith("everything else agrees: ")


@pytest.mark.usefixtures("booked")
def test_a_row_that_was_changed_by_hand_is_named_and_the_command_fails(run: Command, services: AdminServices) -> None:
    with writing(services.engine) as connection:
        connection.execute(text("UPDATE ledger_rows SET cost_nusd = cost_nusd - 1 WHERE cost_nusd = 2000000"))
    result = run("report", "verify", *SPAN)
    assert result.exit_code == 1
    assert "2 differences: cost_nusd 1, rollups.cost_nusd 1" in result.stdout
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("plain")] == [
        ["plain", "cost_nusd", "1999999", "2000000"]
    ]
    told = json.loads(run("report", "verify", *SPAN, "--json").stdout)
    assert (told["difference_count"], told["record_count"]) == (2, 3)
    assert told["first_differences"][0] == {
        "where": "plain", "column": "cost_nusd", "found": "1999999", "expected": "2000000", "sums_of": {},
    }  # fmt: skip


@pytest.mark.usefixtures("booked")
def test_what_sums_are_of_is_folded_to_the_width_of_the_terminal(
    run: Command, services: AdminServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    with writing(services.engine) as connection:
        connection.execute(text("UPDATE hourly_sums SET cost_nusd = 5, input_tokens = 6 WHERE cost_nusd = 34000000"))
    lines = run("report", "verify", *SPAN).stdout.splitlines()
    assert max(map(len, lines[1:])) <= 72
    heading = lines.index("where              column                found  expected")
    assert lines[heading + 1 : heading + 3] == [
        "2026-10-26T07:00Z  rollups.input_tokens  6      3000",
        "2026-10-26T07:00Z  rollups.cost_nusd     5      34000000",
    ]
    named = " ".join(lines[heading + 3 :]).split()
    assert {"team_id=support,", "deployment=small,", "request_model=mistral-7b,"} <= set(named)
    assert not [each for each in named if each.startswith(("project_id=", "simulated=", "observed"))]


@pytest.mark.usefixtures("booked")
def test_hours_of_which_only_a_part_is_asked_for_are_verified_whole(run: Command, services: AdminServices) -> None:
    with writing(services.engine) as connection:
        connection.execute(text(f"UPDATE hourly_sums SET cost_nusd = cost_nusd + 5 WHERE hour_ms = {START}"))
    within = local_text(START + 1, "UTC"), local_text(START + 59 * 60_000, "UTC")
    result = run("report", "verify", "--from", within[0], "--to", within[1])
    assert result.exit_code == 1
    assert "1 difference: rollups.cost_nusd" in result.stdout


def test_records_that_were_let_go_are_not_missed(run: Command, services: AdminServices) -> None:
    services.ledger.append([served("gone"), served("kept", 10 * 24 * 60)])
    drop_rows_before(services.engine, months_before(START + 10 * 24 * HOUR_MS, 0))
    result = run("report", "verify", "--from", "2026-10-26", "--to", "2026-11-06")
    assert result.exit_code == 0
    assert "records from before 2026-11-01T00:00+00:00 were let go" in result.stderr
    assert ": 1 record in 120 hours" in result.stdout


def test_what_is_yet_to_come_is_not_waited_for(run: Command) -> None:
    result = run("report", "verify", "--from", "2100-01-01", "--to", "2101-01-01")
    assert result.exit_code == 0
    assert result.stdout == (
        "2100-01-01T00:00+00:00 to 2101-01-01T00:00+00:00: there is nothing to check, for all of it is yet to come\n"
    )


def test_a_time_in_which_nothing_was_booked_is_not_said_to_agree(run: Command, services: AdminServices) -> None:
    nothing = "there is nothing to check, for it has no record and no closed hour of machines\n"
    assert run("report", "verify", *SPAN).stdout.endswith(f"2026-10-27T00:00+00:00: {nothing}")
    services.books.close_hours([HourCost(START, "small", "A100", 1, 4)])
    assert "nothing to check" not in run("report", "verify", *SPAN).stdout


def test_programs_are_told_aside_that_there_is_nothing_to_check(run: Command) -> None:
    result = run("report", "verify", *SPAN, "--json")
    assert json.loads(result.stdout)["record_count"] == 0
    assert "there is nothing to check, for it has no record" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "2026-10-27", "--to", "2026-10-26"), "ends before it begins"),
        (("--from", "yesterday-ish"), "write a date such as"),
    ],
)
def test_a_period_that_cannot_be_is_refused(run: Command, words: tuple[str, ...], message: str) -> None:
    result = run("report", "verify", *words)
    assert result.exit_code == 2
    assert message in result.stderr


# ---- reprice ---------------------------------------------------------------------------------------

BECAUSE = ("--reason", "the vendor's notice came late")


def halve_small(prices: Path) -> None:
    """What gpt-3.5-turbo cost from 2024-01-25 on, halved."""
    text = prices.read_text(encoding="utf-8")
    corrected = text.replace('input: "0.5"\n        output: "1.5"', 'input: "0.25"\n        output: "0.75"')
    assert corrected != text
    prices.write_text(corrected, encoding="utf-8")


@pytest.mark.usefixtures("booked")
def test_verifying_tells_of_a_correction_that_is_due(run: Command, prices: Path) -> None:
    due = "at a price that another one in the price file has replaced since"
    assert due not in run("report", "verify", *SPAN).stdout
    file = yaml.safe_load(prices.read_text(encoding="utf-8"))
    late = {"effective_from": date(2026, 1, 1), "input": "0.4", "output": "1.2", "source": "a late notice"}
    file["models"]["gpt-3.5-turbo"]["prices"].append(late)
    prices.write_text(yaml.safe_dump(file), encoding="utf-8")
    told = run("report", "verify", *SPAN)
    assert (told.exit_code, f"2 records {due}" in told.stdout) == (0, True)
    run("ledger", "reprice", "--model", "gpt-3.5-turbo", *SPAN, *BECAUSE, "--yes")
    assert due not in run("report", "verify", *SPAN).stdout


@pytest.mark.usefixtures("booked")
def test_a_late_correction_changes_rows_and_sums_once_and_keeps_both_versions(
    run: Command, prices: Path, services: AdminServices
) -> None:
    halve_small(prices)
    result = run("ledger", "reprice", "--model", "gpt-3.5-turbo", *SPAN, *BECAUSE, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "of 3 rows 2 are concerned, 2 change" in result.stdout
    (shown,) = [line.split() for line in result.stdout.splitlines() if line.startswith("small")]
    assert shown == ["small", "gpt-4", "2", "0.034", "0.032", "0.18", "0.18"]
    assert "2 rows are repriced" in result.stdout

    costs = {name: record.cost_nusd for name in ("plain", "retried", "own") if (record := services.ledger.get(name))}
    assert costs == {"plain": 1_000_000, "retried": 31_000_000, "own": 90_000_000}
    (cell,) = services.books.cells(START, START + HOUR_MS, ())
    assert cell.cost_nusd == 32_000_000
    assert run("report", "verify", *SPAN).exit_code == 0

    again = run("ledger", "reprice", "--model", "gpt-3.5-turbo", *SPAN, *BECAUSE, "--yes")
    assert "2 are concerned, 0 change" in again.stdout
    (listed,) = json.loads(run("ledger", "repricings", "--json").stdout)
    assert (listed["row_count"], listed["reason"]) == (2, "the vendor's notice came late")
    versions = json.loads(run("ledger", "repricings", "--request", "plain", "--json").stdout)
    assert [(each["version"], each["cost_nusd"]) for each in versions] == [
        (f"until repricing {listed['id']}", 2_000_000),
        ("now", 1_000_000),
    ]
    (entry,) = services.directory.audit(target="repricing:")
    assert entry.after is not None and entry.after["model"] == "gpt-3.5-turbo"


@pytest.mark.usefixtures("booked")
def test_a_baselines_price_changes_the_counterfactual(run: Command, prices: Path, services: AdminServices) -> None:
    text = prices.read_text(encoding="utf-8")
    prices.write_text(text.replace('input: "30"\n        output: "60"', 'input: "20"\n        output: "50"'), "utf-8")
    assert run("ledger", "reprice", "--model", "gpt-4", *SPAN, *BECAUSE, "--yes").exit_code == 0
    found = [services.ledger.get(name) for name in ("plain", "retried", "own")]
    assert [(each.cost_nusd, each.retries_nusd, each.baseline_cost_nusd) for each in found if each] == [
        (2_000_000, 0, 70_000_000),
        (22_000_000, 20_000_000, 70_000_000),
        (70_000_000, 0, 70_000_000),
    ]
    assert run("report", "verify", *SPAN).exit_code == 0


@pytest.mark.parametrize(
    ("words", "answer", "code"),
    [(("--dry-run",), None, 0), (BECAUSE, "n\n", 1), (BECAUSE, None, 1)],
)
@pytest.mark.usefixtures("booked")
def test_nothing_changes_before_somebody_said_so(
    run: Command, prices: Path, services: AdminServices, words: tuple[str, ...], answer: str | None, code: int
) -> None:
    halve_small(prices)
    result = run("ledger", "reprice", "--deployment", "small", *SPAN, *words, answer=answer)
    assert result.exit_code == code
    assert "2 change" in result.stdout
    plain = services.ledger.get("plain")
    assert plain is not None and plain.cost_nusd == 2_000_000
    assert json.loads(run("ledger", "repricings", "--json").stdout) == []


def dying(function: Callable[..., Any]) -> Callable[..., Any]:
    def die_after(*arguments: Any) -> Any:
        function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return die_after


@pytest.mark.parametrize(
    ("place", "name", "rows", "differences"),
    [
        (SqlRepricings, "apply", [1, 1], "1 difference: cost_nusd 1\n"),
        (sql_booking, "change_amounts", [2, 0], "2 differences: cost_nusd 2\n"),  # in the midst of a transaction
    ],
)
@pytest.mark.usefixtures("booked")
def test_a_run_that_was_killed_leaves_sums_like_their_rows_and_is_completed_by_the_next(
    run: Command,
    prices: Path,
    services: AdminServices,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    rows: list[int],
    differences: str,
) -> None:
    halve_small(prices)
    words = ("ledger", "reprice", "--deployment", "small", *SPAN, *BECAUSE, "--yes")
    with monkeypatch.context() as patched:
        patched.setattr(SqlLedger, "records", partialmethod(SqlLedger.records, at_once=1))
        patched.setattr(place, name, dying(getattr(place, name)))
        child = get_context("fork").Process(target=run, args=words)
        child.start()
        child.join()
    assert child.exitcode == -signal.SIGKILL
    between = run("report", "verify", *SPAN)
    assert (between.exit_code, differences in between.stdout) == (1, True)
    second = run(*words)
    assert f"2 are concerned, {rows[0]} change" in second.stdout
    assert [each["row_count"] for each in json.loads(run("ledger", "repricings", "--json").stdout)] == rows
    assert len(services.directory.audit(target="repricing:")) == 2
    assert run("report", "verify", *SPAN).exit_code == 0


def test_one_that_changes_nothing_is_not_recorded(run: Command, services: AdminServices) -> None:
    services.ledger.append([served("plain")])
    result = run("ledger", "reprice", "--deployment", "small", *SPAN, *BECAUSE, "--yes")
    assert result.stdout.endswith("of 1 rows 1 are concerned, 0 change\n")
    assert services.directory.audit(target="repricing:") == ()


@pytest.mark.usefixtures("booked")
def test_records_that_are_booked_anew_meanwhile_are_told_of(
    run: Command, prices: Path, services: AdminServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    halve_small(prices)
    apply = SqlRepricings.apply

    def late(self: SqlRepricings, begun: int, corrections: Any) -> int:
        for _ in range(2):
            changed = apply(self, begun, corrections)
        return changed

    monkeypatch.setattr(SqlRepricings, "apply", late)
    result = run("ledger", "reprice", "--deployment", "small", *SPAN, *BECAUSE, "--yes")
    assert "2 rows were booked anew meanwhile, and stay: run the command again.\n0 rows are repriced." in result.stdout


def test_what_was_let_go_is_not_repriced_and_that_is_said(run: Command, services: AdminServices) -> None:
    services.ledger.append([served("gone", cost_nusd=1), served("kept", 10 * 24 * 60, cost_nusd=1)])
    drop_rows_before(services.engine, months_before(START + 10 * 24 * HOUR_MS, 0))
    result = run("ledger", "reprice", "--deployment", "small", "--from", "2026-10-26", *BECAUSE, "--dry-run")
    assert "records from before 2026-11-01T00:00+00:00 were let go, and what was booked of them stays" in result.stderr
    assert result.stdout.startswith("2026-11-01T00:00+00:00 to")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "gpt-4-turb", *SPAN, *BECAUSE), "near names: 'gpt-4-turbo'"),
        (("--deployment", "medium", *SPAN, *BECAUSE), "no deployment 'medium' in the configuration; known are small"),
        (("--from", "2026-10-26", *BECAUSE), "name a model of the price file (--model), a deployment (--deployment)"),
        (("--model", "gpt-4", "--from", "2026-10-27", "--to", "2026-10-26", *BECAUSE), "ends before it begins"),
        (("--model", "gpt-4", *SPAN), "say why (--reason)"),
        (("--model", "gpt-4", "--from", "2026-13-01", *BECAUSE), "write a date such as"),
    ],
)
def test_what_cannot_be_repriced_is_refused(run: Command, words: tuple[str, ...], message: str) -> None:
    result = run("ledger", "reprice", *words, "--yes")
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("booked")
def test_a_broken_price_file_changes_nothing(run: Command, prices: Path, services: AdminServices) -> None:
    prices.write_text(prices.read_text(encoding="utf-8").replace('input: "0.5"', "input: 0.5", 1), encoding="utf-8")
    result = run("ledger", "reprice", "--model", "gpt-3.5-turbo", *SPAN, *BECAUSE, "--yes")
    assert result.exit_code == 2
    assert "models.gpt-3.5-turbo.prices.1.input: write 0.5 as a string" in result.stderr
    plain = services.ledger.get("plain")
    assert plain is not None and plain.cost_nusd == 2_000_000


def test_the_versions_of_a_request_that_is_not_there(run: Command) -> None:
    result = run("ledger", "repricings", "--request", "nobody")
    assert (result.exit_code, result.stderr) == (1, "parsimony: there is no record of 'nobody'\n")


@pytest.mark.usefixtures("booked")
def test_repricings_and_versions_are_told_to_people(run: Command, prices: Path) -> None:
    halve_small(prices)
    run("ledger", "reprice", "--model", "gpt-3.5-turbo", *SPAN, *BECAUSE, "--yes")
    assert run("ledger", "repricings").stdout.splitlines()[1].endswith("2     the vendor's notice came late")
    versions = run("ledger", "repricings", "--request", "plain").stdout.splitlines()
    assert [line.split()[:6] for line in versions[1:]] == [
        ["until", "repricing", "1", "0.002", "2024-01-25", "0.00"],
        ["now", "0.001", "2024-01-25", "0.00", "0.00", "0.09"],
    ]
    told = run("explain", "plain").stdout
    assert ": the vendor's notice came late" in told
    assert "cost $0.002 -> $0.001" in told


# ---- status and roll-ups ---------------------------------------------------------------------------


@pytest.mark.usefixtures("booked")
def test_what_is_held_is_told(run: Command, services: AdminServices) -> None:
    services.books.close_hours([HourCost(START, "small", "A100", 1, 4)])
    lines = dict(line.split("  ", 1) for line in run("ledger", "status").stdout.splitlines())
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    assert facts["records"] == "3"
    assert facts["oldest"] == "2026-10-26 07:00"
    assert facts["newest"] == "2026-10-26 08:01"
    assert facts["roll-ups"] == "2, until 2026-10-26 09:00"
    assert facts["closed hours"] == "small: until 2026-10-26 08:00"
    told = json.loads(run("ledger", "status", "--json").stdout)
    assert (told["database"], told["request_count"], told["partitions"]) == ("sqlite", 3, {})


@pytest.mark.usefixtures("booked")
def test_roll_ups_that_were_damaged_are_found_and_rebuilt(run: Command, services: AdminServices) -> None:
    with writing(services.engine) as connection:
        connection.execute(text("DELETE FROM hourly_sums"))
    assert run("report", "verify", *SPAN).exit_code == 1
    rebuilt = run("ledger", "rollups", "rebuild")
    assert (rebuilt.exit_code, rebuilt.stdout) == (0, "The hours of 1 day are summed up anew.\n")
    assert run("report", "verify", *SPAN).exit_code == 0


def test_where_there_is_nothing_to_sum_up_it_says_so(run: Command, services: AdminServices) -> None:
    assert run("ledger", "rollups", "rebuild").stdout == "There are no records to sum up.\n"
    services.ledger.append([served("gone")])
    drop_rows_before(services.engine, months_before(START + 40 * 24 * HOUR_MS, 0))
    assert run("ledger", "rollups", "rebuild").stdout == "There are no records to sum up.\n"
