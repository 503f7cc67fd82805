"""`parsimony report verify`: a period reckoned anew from its raw records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from textwrap import fill
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from router.answer_lengths import answer_lengths_beside
from router.cli.admin import administration, now, now_ms, print_json
from router.cli.options import FAILED, ConfigOption, JsonOption, warn
from router.cli.report_options import FromOption, PeriodOption, TimezoneOption, ToOption
from router.hardware import machines_by_day
from router.prices import load_prices
from router.reports.periods import ReportPeriod, local_text, report_period
from router.reports.price_list import PriceList
from router.reports.verify import Discrepancy, Findings, Verifier
from router.services import AdminServices
from router.stores.cells import HOUR_MS, ROUTER
from router.stores.sql_engine import reading
from router.stores.sql_state import rows_from_ms

_INDENT = "    "


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
        asked = report_period(now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
        span = _of_records(services, asked)
        findings = _verified(services, span, most)
    is_nothing = not (findings.record_count or findings.closed_hour_count or findings.total)
    if as_json:
        print_json(_as_json(findings, span))
        if is_nothing:
            warn(_of_nothing(asked))
    elif is_nothing:
        typer.echo(_of_nothing(asked))
    else:
        _print(findings, span)
    if findings.total:
        raise typer.Exit(FAILED)


def _of_records(services: AdminServices, span: ReportPeriod) -> ReportPeriod:
    """As much of `span` as there can be records of, in whole hours, for sums are of those."""
    with reading(services.engine) as connection:
        kept_from_ms = rows_from_ms(connection)
    if span.from_ms < kept_from_ms:
        kept_from = local_text(kept_from_ms, span.timezone)
        warn(f"records from before {kept_from} were let go, and their sums cannot be verified any more")
    until_ms = min(span.to_ms, now_ms() + 1)
    from_ms = max(span.from_ms, kept_from_ms)
    if from_ms >= until_ms:
        return replace(span, from_ms=until_ms, to_ms=until_ms)
    return replace(span, from_ms=from_ms - from_ms % HOUR_MS, to_ms=-(-until_ms // HOUR_MS) * HOUR_MS)


def _verified(services: AdminServices, span: ReportPeriod, most: int) -> Findings:
    settings = services.config
    verifier = Verifier(
        services.ledger,
        services.books,
        PriceList(settings, load_prices(settings.prices)),
        machines_by_day(settings, ROUTER),
        answer_lengths_beside(settings.prices),
        settings.shadow.share,
    )
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=span.to_ms - span.from_ms)
        return verifier.verify(
            span.from_ms, span.to_ms, most=most, advance=lambda done_ms: progress.advance(task, done_ms)
        )


def _of_nothing(asked: ReportPeriod) -> str:
    is_to_come = asked.from_ms > now_ms()
    why = "all of it is yet to come" if is_to_come else "it has no record and no closed hour of machines"
    return f"{_span_text(asked)}: there is nothing to check, for {why}"


def _print(findings: Findings, span: ReportPeriod) -> None:
    typer.echo(
        f"{_span_text(span)}: {_counted(findings.record_count, 'record')} in {_counted(findings.hour_count, 'hour')}, "
        f"{_counted(findings.closed_hour_count, 'closed hour')} of machines"
    )
    for reason, count in findings.unchecked.most_common():
        typer.echo(f"not checked: {count} x {reason}")
    if findings.outdated_count:
        typer.echo(
            f"{_counted(findings.outdated_count, 'record')} at a price that another one in the price file has replaced "
            "since: `parsimony ledger reprice` corrects what was booked"
        )
    if not findings.total:
        what = "everything else" if findings.unchecked else "everything"
        typer.echo(f"{what} agrees: costs and counterfactuals, drivers, roll-ups, machines, measurements")
        return
    counts = ", ".join(f"{column} {count}" for column, count in findings.counts.most_common())
    typer.echo(f"{_counted(findings.total, 'difference')}: {counts}")
    _print_differences(findings.first)
    if len(findings.first) < findings.total:
        typer.echo(f"... and {findings.total - len(findings.first)} more (--most)")


def _span_text(span: ReportPeriod) -> str:
    return f"{local_text(span.from_ms, span.timezone)} to {local_text(span.to_ms, span.timezone)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _print_differences(differences: Sequence[Discrepancy]) -> None:
    """One a line, so that ids can be copied and lines cut; what sums are of stands below theirs, as wide as may be."""
    rows = [("where", "column", "found", "expected")]
    rows += [(each.where, each.column, each.found, each.expected) for each in differences]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    typer.echo(lines[0])
    alike = groupby(zip(differences, lines[1:], strict=True), key=lambda pair: (pair[0].where, pair[0].sums_of))
    for (_, sums_of), group in alike:
        for _, line in group:
            typer.echo(line)
        if sums_of:
            typer.echo(_folded(", ".join(f"{name}={value}" for name, value in sums_of.items())))


def _folded(text: str) -> str:
    """Between words alone: names have hyphens, and are there to be copied."""
    return fill(
        text,
        Console().width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
        "outdated_count": findings.outdated_count,
        "unchecked": dict(findings.unchecked),
    }
