"""`parsimony budgets|projects|spenders|audit` against real stores: what is changed, what is printed, how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from policies.budget import Budget
from router.cli.app import app
from router.clock import SYSTEM_CLOCK
from router.services import AdminServices
from router.stores.administration import user_states
from tests.support.administration import write_config
from tests.support.spend import spend_record

Command = Callable[..., Result]
USD = 10**9


@pytest.fixture
def services(services: AdminServices) -> AdminServices:
    services.directory.create_team("support")
    return services


@pytest.fixture
def run(config: Path, services: AdminServices, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PARSIMONY_CONFIG", str(config))
    monkeypatch.setenv("LOGNAME", "wei")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(app, words)

    return invoke


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def spent(services: AdminServices, request_id: str, **changes: Any) -> None:
    now_ms = int(SYSTEM_CLOCK.wall() * 1000) - 1
    services.ledger.append([spend_record(request_id, **{"started_at_ms": now_ms, "deployment": "small", **changes})])


def test_a_budget_is_set_with_every_term(run: Command, services: AdminServices) -> None:
    said = done(
        run(
            "budgets", "set", "team", "support", "500", "--window", "week", "--timezone", "Asia/Shanghai", "--action",
            "downgrade", "--downgrade-from", "80%", "--downgrade-to", "moderate", "--alert-at", "50%", "--alert-at",
            "0.9", "--paced", "--when-unavailable", "serve", "--model", "large",
        )
    )  # fmt: skip
    assert said == "team:support:week:model=large: 500.00 USD, window week (Asia/Shanghai); used up: downgrade\n"
    assert services.directory.list_budgets() == (
        Budget(
            id="team:support:week:model=large",
            subject_kind="team",
            subject_id="support",
            limit=500 * USD,
            window="week",
            timezone="Asia/Shanghai",
            model="large",
            action="downgrade",
            downgrade_from=Fraction(4, 5),
            downgrade_to="moderate",
            alert_shares=(Fraction(1, 2), Fraction(9, 10)),
            paced=True,
            when_unavailable="serve",
        ),
    )


@pytest.mark.parametrize(
    ("words", "id_", "limit"),
    [
        (("organization", "10000"), "organization:default:month", 10_000 * USD),
        (("user", "support/*", "5", "--window", "day"), "user:support/*:day", 5 * USD),
        (("tag", "batch", "50"), "tag:batch:month", 50 * USD),
        (("team", "support", "60", "--unit", "requests", "--window", "minute"), "team:support:minute:requests", 60),
        (("team", "support", "4", "--unit", "parallel"), "team:support:now:parallel", 4),
        (
            ("tag", "batch", "1,000", "--unit", "tokens", "--tier", "complex"),
            "tag:batch:month:tokens:tier=complex",
            1000,
        ),
    ],
)
def test_whatever_can_be_limited_is(run: Command, words: tuple[str, ...], id_: str, limit: int) -> None:
    made = json.loads(done(run("budgets", "set", *words, "--json")))
    assert (made["id"], made.get("limit", made.get("limit_nusd"))) == (id_, limit)
    assert json.loads(done(run("budgets", "list", "--ids", "--json"))) == [made]


def test_what_is_not_named_stays_as_it_is(run: Command, services: AdminServices) -> None:
    done(run("budgets", "set", "team", "support", "500", "--action", "warn", "--paced", "--downgrade-from", "80%"))
    done(run("budgets", "set", "team", "support", "600", "--not-paced"))
    done(run("teams", "set-budget", "support", "700"))
    (budget,) = services.directory.list_budgets()
    assert (budget.limit, budget.action, budget.paced) == (700 * USD, "warn", False)
    assert budget.downgrade_from == Fraction(4, 5)
    done(run("budgets", "set", "team", "support", "700", "--downgrade-from", "none"))
    assert services.directory.list_budgets()[0].downgrade_from is None


def test_the_list_shows_what_is_used_and_how_long_the_rest_will_last(run: Command, services: AdminServices) -> None:
    spent(services, "a", cost_nusd=90 * USD)
    done(run("budgets", "set", "team", "support", "100", "--window", "lifetime"))
    done(run("budgets", "set", "team", "support", "90", "--window", "year"))
    done(
        run("budgets", "set", "team", "support", "9", "--unit", "requests", "--window", "lifetime", "--model", "large")
    )
    lines = done(run("budgets", "list", "--team", "support")).splitlines()
    money, count, year = sorted(lines[1:], key=lambda line: ("lifetime" not in line, "large" in line))
    assert money.split()[:7] == ["team", "support", "lifetime", "$100.00", "$90.0000", "$0.0000", "$10.0000"]
    assert " 90 % █" in money
    assert count.startswith("team support, requests, large")
    assert count.split()[-2:] == ["never", "-"]
    assert (year.split()[-1], year.split()[-2]) == ("now", "00:00")


def test_the_list_and_show_agree_in_json(run: Command, services: AdminServices) -> None:
    spent(services, "a", cost_nusd=3 * USD, end_user="ann")
    spent(services, "b", cost_nusd=2 * USD, end_user="bob")
    done(run("budgets", "set", "user", "support/*", "4", "--window", "lifetime"))
    (listed,) = json.loads(done(run("budgets", "list", "--json")))
    shown = json.loads(done(run("budgets", "show", "user:support/*:lifetime", "--json")))
    assert (listed["end_user"], listed["share"], listed["window_ends_at"]) == ("ann", 0.75, None)
    assert [(one["end_user"], one["spent_usd"]) for one in shown["standings"]] == [("ann", "3.00"), ("bob", "2.00")]
    printed = done(run("budgets", "show", "user:support/*:lifetime"))
    assert "alerts at   80%, 100%" in printed
    assert "user support/* (bob)" in printed


def test_history_and_the_log_tell_who_did_what(run: Command, services: AdminServices) -> None:
    spent(services, "a", cost_nusd=3 * USD)
    done(run("budgets", "set", "team", "support", "4", "--window", "lifetime"))
    done(run("budgets", "set", "team", "support", "5", "--window", "lifetime"))
    told = json.loads(done(run("budgets", "history", "team:support:lifetime", "--json")))
    assert [(window["window_label"], window["used_usd"]) for window in told["windows"]] == [("lifetime", "3.00")]
    assert [(entry["actor"], entry["action"]) for entry in told["audit"]] == [
        ("cli:wei", "budget.change"), ("cli:wei", "budget.create")
    ]  # fmt: skip
    printed = done(run("budgets", "history", "team:support:lifetime"))
    assert "limit: 4000000000 -> 5000000000" in printed
    entries = json.loads(done(run("audit", "--json")))
    assert [entry["target"] for entry in entries] == ["team:support:lifetime"] * 2 + ["team:support"]
    assert json.loads(done(run("audit", "--target", "team:support:", "--limit", "1", "--json"))) == entries[:1]
    assert "budget.create" in done(run("audit"))


def test_a_budget_is_removed(run: Command, services: AdminServices) -> None:
    done(run("budgets", "set", "team", "support", "5"))
    assert "team:support:month is removed; it was 5.00 USD" in done(run("budgets", "remove", "team:support:month"))
    assert services.directory.list_budgets() == ()
    assert "There are no budgets" in done(run("budgets", "list"))


def test_a_user_without_a_budget_of_their_own_any_more_falls_under_everybodys_with_all_they_used(
    run: Command, services: AdminServices
) -> None:
    done(run("budgets", "set", "user", "support/*", "1"))
    done(run("budgets", "set", "user", "support/ann", "5"))
    spent(services, "a", cost_nusd=3 * USD, end_user="ann")
    everybodys = services.directory.list_budgets()[0]
    now = SYSTEM_CLOCK.now()
    assert user_states(services, everybodys, now) == ()
    done(run("budgets", "remove", "user:support/ann:month"))
    (state,) = user_states(services, everybodys, now)
    assert (state.end_user, state.spent) == ("ann", 3 * USD)


def test_projects_and_the_keys_of_one(run: Command, services: AdminServices) -> None:
    assert "made project chat; next: parsimony keys create" in done(
        run("projects", "create", "chat", "--team", "support")
    )
    words = ("--team", "support", "--name", "k", "--project", "chat", "--trusted", "--tag", "a", "--tag", "b")
    made = done(run("keys", "create", *words, "--role", "viewer"))
    (key,) = services.directory.list_keys()
    assert (key.project_id, key.trusted, set(key.tags), key.role) == ("chat", True, {"a", "b"}, "viewer")
    assert [line.split()[0] for line in made.splitlines()].count("tags") == 1
    assert [project["id"] for project in json.loads(done(run("projects", "list", "--json")))] == ["chat"]
    assert done(run("projects", "list")).splitlines()[1].split()[:3] == ["chat", "support", "chat"]


def test_who_spends_fastest(run: Command, services: AdminServices) -> None:
    assert done(run("spenders")) == "Nobody spent anything in the last day.\n"
    spent(services, "a", cost_nusd=24 * USD)
    spent(services, "b", cost_nusd=48 * USD, team_id="sales")
    rates = json.loads(done(run("spenders", "--json")))["spenders"]
    assert [(rate["name"], rate["usd_per_hour"]) for rate in rates] == [("sales", "2.00"), ("support", "1.00")]
    lines = done(run("spenders", "--by", "model", "--team", "support")).splitlines()
    assert lines[1].split()[:4] == ["small", "1.0000", "0.0000", "new"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("budgets", "set", "team", "5"), "write: parsimony budgets set team SUBJECT LIMIT; found 5"),
        (("budgets", "set", "organization", "a", "b", "c"), "write: parsimony budgets set organization LIMIT"),
        (("budgets", "set", "team", "support", "five"), "'five' is not an amount"),
        (("budgets", "set", "team", "sales", "5"), "there is no team 'sales'"),
        (("budgets", "set", "team", "support", "5", "--window", "fortnight"), "window is 'fortnight'"),
        (("budgets", "set", "team", "support", "1.5", "--unit", "requests"), "'1.5' is not a number of requests"),
        (("budgets", "set", "team", "support", "5", "--model", "gpt-5"), "there is no deployment 'gpt-5'"),
        (("budgets", "set", "team", "support", "5", "--downgrade-from", "half"), "'half' is not a share"),
        (("budgets", "show", "team:sales:month"), "there is no budget 'team:sales:month'"),
        (("budgets", "remove", "team:sales:month"), "there is no budget 'team:sales:month'"),
        (("budgets", "history", "team:sales:month"), "there is no budget 'team:sales:month'"),
        (("budgets", "list", "--team", "sales"), "there is no team 'sales'"),
        (("projects", "create", "chat", "--team", "sales"), "there is no team 'sales'"),
    ],
)
def test_what_was_written_wrong_is_told_in_one_sentence(run: Command, words: tuple[str, ...], sentence: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert (result.stderr.startswith("parsimony: "), result.stderr.count("\n")) == (True, 1)


def test_without_redis_there_is_no_list_but_terms_and_history(tmp_path: Path, run: Command) -> None:
    lonely = ("--config", str(write_config(tmp_path)))
    done(run("budgets", "set", "team", "support", "5", *lonely))
    failed = run("budgets", "list", *lonely)
    assert (failed.exit_code, "the budget counters are out of reach" in failed.stderr) == (1, True)
    assert "team:support:month" in done(run("budgets", "list", "--ids", *lonely))
    assert json.loads(done(run("budgets", "history", "team:support:month", "--json", *lonely)))["windows"]
