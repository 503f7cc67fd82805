"""The command line: one file a command, put together here."""

from __future__ import annotations

import typer

from router.cli import explain, inspect, keys, report, teams
from router.cli.demo import demo
from router.cli.serve import serve

app = typer.Typer(
    name="parsimony",
    help="Use the smallest model that will do, and prove what that saved.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(demo)
app.command()(inspect.classify)
app.command()(explain.explain)
app.add_typer(keys.app, name="keys")
app.add_typer(teams.app, name="teams")
app.add_typer(report.app, name="report")
app.add_typer(inspect.config_app, name="config")


def main() -> None:
    app()
