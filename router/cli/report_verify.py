"""`parsimony report verify`: a period reckoned anew from its raw records."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from router.cli.admin import administration, now, now_ms, print_json, print_table
from router.cli.options import FAILED, ConfigOption, JsonOption
from router.cli.report_options import FromOption, PeriodOption, TimezoneOption, ToOption
from router.hardware import machines_by_day
from router.prices import load_prices
from router.reports.periods import ReportPeriod, local_text, report_period
from router.reports.price_list import PriceList
from router.reports.verify import Findings, Verifier
from router.services import AdminServices
from router.stores.cells import ROUTER


def verify(
    from_text: FromOption = None,
    to_text: ToOption = None,
    period: PeriodOption = None,
    timezone: TimezoneOption = "UTC",
    most: Annotated[int, typer.Option("--most", min=1, help="How many differences to show; all are counted.")] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reckon a period anew from its raw records, prices and hardware, and say where the books differ.

    The exit code is 1 where they do.
    """
    with administration(config) as services:
        span = report_period(now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
        findings = _verified(services, span, most)
    if as_json:
        print_json(_as_json(findings, span))
    else:
        _print(findings, span)
    if findings.total:
        raise typer.Exit(FAILED)


def _verified(services: AdminServices, span: ReportPeriod, most: int) -> Findings:
    settings = services.config
    verifier = Verifier(
        services.ledger,
        services.books,
        PriceList(settings, load_prices(settings.prices)),
        machines_by_day(settings, ROUTER),
    )
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        until_ms = min(span.to_ms, now_ms() + 1)  # there are no records of what is yet to come
        task = progress.add_task("", total=max(until_ms - span.from_ms, 0))
        return verifier.verify(
            span.from_ms, until_ms, most=most, advance=lambda done_ms: progress.advance(task, done_ms)
        )


def _print(findings: Findings, span: ReportPeriod) -> None:
    typer.echo(
        f"{local_text(span.from_ms, span.timezone)} to {local_text(span.to_ms, span.timezone)}: {findings.record_count} records in "
        f"{findings.hour_count} hours, {findings.closed_hour_count} closed hours of machines"
    )
    for reason, count in findings.unchecked.most_common():
        typer.echo(f"not checked: {count} x {reason}")
    if not findings.total:
        typer.echo("everything else agrees: costs and counterfactuals, drivers, roll-ups, machines, measurements")
        return
    counts = ", ".join(f"{column} {count}" for column, count in findings.counts.most_common())
    typer.echo(f"{findings.total} differences: {counts}")
    rows = [(each.where, each.column, each.found, each.expected) for each in findings.first]
    print_table(("where", "column", "found", "expected"), rows, whole=("column",))
    if len(rows) < findings.total:
        typer.echo(f"... and {findings.total - len(rows)} more (--most)")


def _as_json(findings: Findings, span: ReportPeriod) -> dict[str, Any]:
    return {
        "from_ms": span.from_ms,
        "to_ms": span.to_ms,
        "record_count": findings.record_count,
        "hour_count": findings.hour_count,
        "closed_hour_count": findings.closed_hour_count,
        "difference_count": findings.total,
        "differences_by_column": dict(findings.counts),
        "first_differences": [asdict(each) for each in findings.first],
        "unchecked": dict(findings.unchecked),
    }
