"""`parsimony projects`: parts of a team's work, with budgets of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli.admin import administration, print_json, print_table
from router.cli.options import ConfigOption, JsonOption
from router.stores.entries import project_as_json

app = typer.Typer(help="Parts of a team's work, with budgets of their own.", no_args_is_help=True)


@app.command("create")
def create(
    project_id: Annotated[str, typer.Argument(metavar="PROJECT", help="The project's id, such as chat.")],
    team: Annotated[str, typer.Option("--team", help="Whose it is.")],
    name: Annotated[str | None, typer.Option("--name", help="As reports may show it; else the id.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project of a team."""
    with administration(config) as services:
        project = services.directory.create_project(team, project_id, name)
    if as_json:
        print_json(project_as_json(project))
    else:
        typer.echo(
            f"made project {project.id}; next: parsimony keys create --team {team} --project {project.id} --name ..."
        )


@app.command("list")
def list_projects(
    team: Annotated[str | None, typer.Option("--team", help="Only this team's.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the projects."""
    with administration(config) as services:
        values = [project_as_json(project) for project in services.directory.list_projects(team)]
    if as_json:
        print_json(values)
        return
    rows = [(value["id"], value["team_id"], value["name"], value["created_at"][:10]) for value in values]
    print_table(("project", "team", "name", "created"), rows, whole=("project", "team"))
