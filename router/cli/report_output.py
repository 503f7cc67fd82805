"""Where a report of the command line goes: to the terminal, or whither it is delivered."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import typer
from rich.console import Console

from router.cli.options import warn
from router.delivery.deliver import deliver
from router.reports.exports.drawing import Picture
from router.reports.exports.formats import CONTENT_TYPES
from router.reports.files import FileFormat, OverviewFormat, file_name, overview_as_bytes, table_as_bytes
from router.reports.filters import unmatched_in_words
from router.reports.library import ReportTerms, line_items
from router.reports.overview import Overview
from router.reports.overview_page import print_overview
from router.reports.periods import ReportPeriod
from router.reports.render import UNFOLDED_COLUMNS, print_table
from router.reports.tables import ReportTable
from router.services import AdminServices

_BINARY = ("parquet",)


def write_table(
    services: AdminServices,
    table: ReportTable,
    output: FileFormat | Literal["table"],
    place: str | None,
    *,
    details: bool,
    by: Sequence[str] = (),
    curves: Sequence[Picture] = (),
) -> None:
    """`by` is what was asked for, which the name of a file tells.

    Raises ValueError with a sentence where the terminal is no place for it, ConfigError and DeliveryFailed.
    """
    suffix = "txt" if output == "table" else output
    name = file_name(table.name, ReportPeriod(table.from_ms, table.to_ms, table.timezone), suffix, by)
    if output == "table":
        _print(services, place, name, lambda console: print_table(table, console, details=details))
        return
    _warn_of(table.unmatched)
    _write(services, place, name, table_as_bytes(table, output, curves), CONTENT_TYPES[output])


def write_overview(
    services: AdminServices, shown: Overview, output: OverviewFormat | Literal["table"], place: str | None
) -> None:
    """As `write_table`. In a folder it is not called as the table by team is, which a schedule may have put there."""
    name = file_name("savings-overview", shown.account.question.period, "txt" if output == "table" else output)
    if output == "table":
        _print(services, place, name, lambda console: print_overview(shown, console))
        return
    _warn_of(shown.account.unmatched)
    _write(services, place, name, overview_as_bytes(shown, output), CONTENT_TYPES[output])


def write_focus(services: AdminServices, terms: ReportTerms, by: Sequence[str], place: str | None) -> None:
    """As `write_table`."""
    content = line_items(services, terms, by)
    if content.count(b"\n") == 1:
        warn("there are no line items in this time: the file has its heading alone")
    _write(services, place, file_name("focus", terms.period, "csv"), content, CONTENT_TYPES["csv"])


def _warn_of(unmatched: Sequence[tuple[str, str]]) -> None:
    """Whoever reads a file of rows does not see the sentences that a page and a terminal show."""
    for sentence in unmatched_in_words(unmatched):
        warn(sentence)


def _print(services: AdminServices, place: str | None, name: str, show: Callable[[Console], None]) -> None:
    if place is None:
        show(_stdout_console())
        return
    text = io.StringIO()
    show(Console(file=text, width=UNFOLDED_COLUMNS, color_system=None))
    _deliver(services, place, name, text.getvalue().encode(), "text/plain; charset=utf-8")


def _stdout_console() -> Console:
    """As wide as the terminal, or as COLUMNS says; else, in a pipe or a file, as wide as each line needs to be."""
    console = Console()
    is_bounded = console.file.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return console if is_bounded else Console(width=UNFOLDED_COLUMNS)


def _write(services: AdminServices, place: str | None, name: str, content: bytes, content_type: str) -> None:
    if place is not None:
        _deliver(services, place, name, content, content_type)
    elif name.endswith(_BINARY) and sys.stdout.isatty():
        raise ValueError("Parquet is not for terminals: name a file with --output, or send it on through a pipe")
    else:
        typer.echo(content, nl=False)


def _deliver(services: AdminServices, place: str, name: str, content: bytes, content_type: str) -> None:
    if not place:
        raise ValueError("--output is empty; name a file, a folder/, s3://bucket/key or webhook")
    where = deliver(place, name, content, content_type, config=services.config.reports)
    typer.echo(f"parsimony: the report is at {where}", err=True)
