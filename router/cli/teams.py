"""`parsimony teams`: who shares a budget and a bill."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from policies.budget import Budget
from router.cli.admin import (
    administration,
    change_budget,
    now_ms,
    print_facts,
    print_json,
    print_table,
    print_whole,
    states_or_warning,
)
from router.cli.options import ConfigOption, JsonOption
from router.reports.budgets import STANDING_COLUMNS, budget_table
from router.stores.administration import team_of
from router.stores.base import TeamInfo
from router.stores.entries import budget_state_as_json, key_as_json, key_state, team_as_json

app = typer.Typer(help="Teams and their budgets.", no_args_is_help=True)

TeamArgument = Annotated[str, typer.Argument(metavar="TEAM", help="The team's id, such as support.")]


@app.command("create")
def create(
    team_id: TeamArgument,
    name: Annotated[str | None, typer.Option("--name", help="As reports may show it; else the id.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a team."""
    with administration(config) as services:
        team = services.directory.create_team(team_id, name)
    if as_json:
        print_json(team_as_json(team, ()))
    else:
        typer.echo(f"made team {team.id}; next: parsimony keys create --team {team.id} --name ...")


@app.command("list")
def list_teams(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the teams with their budgets."""
    with administration(config) as services:
        teams, budgets = services.directory.list_teams(), services.directory.list_budgets()
    values = [team_as_json(team, budgets) for team in teams]
    if as_json:
        print_json(values)
        return
    print_table(("team", "name", "budget a month", "created"), [_row(value) for value in values])


@app.command("set-budget")
def set_budget(
    team_id: TeamArgument,
    amount: Annotated[str, typer.Argument(metavar="USD", help="Dollars a calendar month, or none.")],
    timezone: Annotated[str | None, typer.Option("--timezone", help="Where its months begin; UTC if new.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what a team may spend in a month."""
    change_budget(config, "team", team_id, amount, timezone, as_json)


@app.command("show")
def show(team_id: TeamArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show a team, where its budgets stand, and its keys."""
    with administration(config) as services:
        team = team_of(services, team_id)
        budgets = services.directory.list_budgets(team_id)
        keys = services.directory.list_keys(team_id)
        states = states_or_warning(services, team_id)
    if as_json:
        values = [key_as_json(key, now_ms()) for key in keys]
        print_json(team_as_json(team, budgets) | {"keys": values, "budgets": [budget_state_as_json(s) for s in states]})
        return
    print_facts(_facts(team, budgets))
    if states:
        print_whole(budget_table(states), STANDING_COLUMNS)
    print_table(
        ("key", "name", "role", "state"), [(key.id, key.name, key.role, key_state(key, now_ms())) for key in keys]
    )


def _facts(team: TeamInfo, budgets: tuple[Budget, ...]) -> list[tuple[str, str]]:
    value = team_as_json(team, budgets)
    return [("team", team.id), ("name", team.name), ("budget", _budget(value["budget"]))]


def _row(team: dict[str, Any]) -> tuple[str, ...]:
    return team["id"], team["name"], _budget(team["budget"]), team["created_at"][:10]


def _budget(budget: dict[str, Any] | None) -> str:
    return "none" if budget is None else f"{budget['limit_usd']} USD ({budget['timezone']})"
