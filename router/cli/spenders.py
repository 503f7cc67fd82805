"""`parsimony spenders`: who spends fastest."""

from __future__ import annotations

from typing import Annotated

import typer

from router.cli.admin import administration, now, print_json, print_whole
from router.cli.options import ConfigOption, JsonOption
from router.reports.spenders import Span, spenders_as_json, spenders_report, spenders_table
from router.stores.sql_rates import Spender


def spenders(
    by: Annotated[Spender, typer.Option("--by", help="Whom to compare.")] = "team",
    window: Annotated[Span, typer.Option("--window", help="How far to look back, twice: now and before.")] = "day",
    team: Annotated[str | None, typer.Option("--team", help="Only within this team.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who spends fastest, and how that compares with the time before."""
    with administration(config) as services:
        report = spenders_report(services.rates, by, window, now(), team_id=team, limit=limit)
    if as_json:
        print_json(spenders_as_json(report))
    elif report.rates:
        print_whole(spenders_table(report))
    else:
        typer.echo(f"Nobody spent anything in the last {'30 days' if window == 'month' else window}.")
