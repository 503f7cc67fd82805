"""The administrative commands against real stores: what is printed, what is changed, how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from policies.budget import Budget
from router.cli import explain, keys, report, teams
from router.clock import SYSTEM_CLOCK
from router.services import AdminServices
from router.stores.base import secret_sha256
from tests.support.administration import write_config
from tests.support.spend import spend_record

Command = Callable[..., Result]


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PARSIMONY_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "120")
    app = typer.Typer()
    app.add_typer(keys.app, name="keys")
    app.add_typer(teams.app, name="teams")
    app.add_typer(report.app, name="report")
    app.command()(explain.explain)

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return invoke


def test_from_nothing_to_a_key_that_opens(run: Command, services: AdminServices) -> None:
    assert run("teams", "create", "support", "--name", "客服").exit_code == 0
    made = json.loads(run("keys", "create", "--team", "support", "--name", "chat", "--model", "auto", "--json").stdout)
    principal = services.directory.principal_by_hash(secret_sha256(made["secret"]))
    assert principal is not None
    assert (principal.key_id, principal.allowed_models) == (made["key"]["id"], frozenset({"auto"}))
    assert "客服" in run("teams", "list").stdout


def test_a_secret_is_shown_once(run: Command, services: AdminServices) -> None:
    services.directory.create_team("support")
    made = run("keys", "create", "--team", "support", "--name", "chat")
    secret = next(line.split()[1] for line in made.stdout.splitlines() if line.startswith("secret"))
    assert "cannot be shown again" in made.stderr
    for words in (("keys", "list"), ("keys", "list", "--json"), ("teams", "show", "support", "--json")):
        assert secret not in run(*words).output


def test_keys_are_rotated_and_revoked(run: Command, services: AdminServices) -> None:
    services.directory.create_team("support")
    old, _ = services.directory.create_key("support", "chat")
    new = json.loads(run("keys", "rotate", old.id, "--grace-seconds", "60", "--json").stdout)["key"]["id"]
    assert "is revoked" in run("keys", "revoke", new).stdout
    states = {key["id"]: key["state"] for key in json.loads(run("keys", "list", "--json").stdout)}
    assert states == {old.id: "ending", new: "revoked"}
    listed = run("keys", "list", "--team", "support").stdout
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [old.id, new]


def test_a_new_budget_counts_what_this_month_has_spent(run: Command, services: AdminServices) -> None:
    services.directory.create_team("support")
    now_ms = int(SYSTEM_CLOCK.wall() * 1000)
    services.ledger.append([spend_record("a", started_at_ms=now_ms, cost_nusd=2_500_000_000)])
    done = run("teams", "set-budget", "support", "100.5", "--timezone", "UTC")
    assert done.stdout == "support may spend 100.50 USD a month (UTC).\n"
    (state,) = json.loads(run("teams", "show", "support", "--json").stdout)["budgets"]
    assert (state["spent_usd"], state["available_usd"]) == ("2.50", "98.00")
    assert "98.0000" in run("teams", "show", "support").stdout
    assert run("teams", "set-budget", "support", "none").stdout == "support has no budget now.\n"
    assert services.directory.list_budgets() == ()


def test_a_key_may_have_a_budget_of_its_own(run: Command, services: AdminServices) -> None:
    services.directory.create_team("support")
    key, _ = services.directory.create_key("support", "chat")
    assert json.loads(run("keys", "set-budget", key.id, "5", "--json").stdout)["limit_usd"] == "5.00"
    assert services.directory.list_budgets() == (
        Budget(id=f"key:{key.id}:month", subject_kind="key", subject_id=key.id, limit=5_000_000_000),
    )


def test_without_redis_budgets_can_still_be_set(tmp_path: Path, run: Command) -> None:
    lonely = str(write_config(tmp_path))
    assert run("teams", "create", "support", "--config", lonely).exit_code == 0
    assert run("teams", "set-budget", "support", "5", "--config", lonely).exit_code == 0
    shown = run("report", "savings", "--config", lonely)
    assert shown.exit_code == 0
    assert "goes without them" in shown.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("teams", "create", "Support"), "cannot be a team's id"),
        (("teams", "set-budget", "sales", "5"), "there is no team 'sales'"),
        (("teams", "set-budget", "sales", "five"), "is not an amount"),
        (("teams", "show", "sales"), "there is no team 'sales'"),
        (("keys", "create", "--team", "sales", "--name", "x"), "there is no team 'sales'"),
        (("keys", "create", "--team", "sales", "--name", "x", "--role", "root"), "viewer or manager or admin"),
        (
            ("keys", "create", "--team", "sales", "--name", "x", "--model", "gpt-5"),
            "there is no model 'gpt-5'; configured are: auto, large, small",
        ),
        (("keys", "revoke", "key_x"), "there is no key 'key_x'"),
        (("keys", "rotate", "key_x", "--grace-seconds", "-1"), "the grace is -1 s"),
        (("report", "savings", "--from", "yesterday"), "'from' is 'yesterday'"),
        (("report", "savings", "--team", "sales"), "there is no team 'sales'"),
        (("teams", "list", "--config", "/nowhere.yaml"), "/nowhere.yaml: cannot be read"),
    ],
)
def test_what_was_written_wrong_is_told_in_one_sentence(run: Command, words: tuple[str, ...], sentence: str) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.startswith("parsimony: ")
    assert done.stderr.count("\n") == 1


def test_a_database_that_is_away_ends_the_command_with_1(tmp_path: Path, run: Command) -> None:
    (tmp_path / "data" / "ledger.sqlite").mkdir(parents=True)
    done = run("teams", "list")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot be used" in done.stderr


def test_the_report_in_every_format(run: Command, services: AdminServices) -> None:
    now_ms = int(SYSTEM_CLOCK.wall() * 1000)
    services.directory.create_team("support")
    services.ledger.append(
        [
            spend_record("a", started_at_ms=now_ms, deployment="small", cost_nusd=10**9, baseline_cost_nusd=10**10),
            spend_record("b", started_at_ms=now_ms, team_id="x", deployment="large", cost_nusd=5, baseline_cost_nusd=5),
        ]
    )
    values = json.loads(run("report", "savings", "--format", "json").stdout)
    assert (values["total"]["saved_usd"], values["total"]["request_count"]) == ("9.00", 2)
    assert {line["name"] for line in values["by_cause"]} == {"smaller_model", "baseline"}
    assert json.loads(run("report", "savings", "--format", "json", "--team", "support").stdout)["by_team"] == [
        line for line in values["by_team"] if line["name"] == "support"
    ]
    assert run("report", "savings", "--format", "csv").stdout.startswith("breakdown,name,request_count,")
    table = run("report", "savings")
    assert (table.exit_code, "smaller model" in table.stdout, "90.0 %" in table.stdout) == (0, True, True)
    empty = run("report", "savings", "--from", "2001-01-01", "--to", "2001-02-01")
    assert "no requests in this time" in empty.stdout


def test_a_request_is_explained(run: Command, services: AdminServices) -> None:
    services.ledger.append([spend_record("req_1", deployment="small")])
    assert "score 0.125 -> simple" in run("explain", "req_1").stdout
    assert json.loads(run("explain", "req_1", "--json").stdout)["request_id"] == "req_1"
    missing = run("explain", "req_2")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no record of 'req_2'" in missing.stderr
