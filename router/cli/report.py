"""`parsimony report`: what was saved."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from router.cli.admin import administration, now, print_json, states_or_warning
from router.cli.options import ConfigOption
from router.reports.render import as_csv, as_json, print_report
from router.reports.savings import report_span, savings_report
from router.stores.administration import team_of

app = typer.Typer(help="Reports from the ledger.", no_args_is_help=True)

Format = Literal["table", "json", "csv"]


@app.callback()
def reports() -> None:
    """Reports from the ledger."""


@app.command("savings")
def savings(
    from_text: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day or instant, UTC; else this month's first.")
    ] = None,
    to_text: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Day or instant where it ends, not included; else now.")
    ] = None,
    team: Annotated[str | None, typer.Option("--team", help="Only this team.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    config: ConfigOption = None,
) -> None:
    """Compare what was spent with what the baseline would have cost."""
    with administration(config) as services:
        from_ms, to_ms = report_span(from_text, to_text, now())
        if team is not None:
            team_of(services, team)
        report = savings_report(
            services.ledger,
            from_ms,
            to_ms,
            team_id=team,
            budgets=states_or_warning(services, team),
            baseline_deployments=services.baseline_deployments,
        )
    if output == "json":
        print_json(as_json(report))
    elif output == "csv":
        typer.echo(as_csv(report), nl=False)
    else:
        print_report(report, Console())
