"""The options that reports share: which time, whose, in what form, and where to."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from router.cli.admin import now
from router.reports.dimensions import DIMENSIONS, where_of
from router.reports.library import ReportTerms
from router.reports.periods import report_period
from router.services import AdminServices
from router.stores.administration import team_of

Format = Literal["table", "json", "csv", "html", "parquet", "focus"]
TableFormat = Literal["table", "json", "csv", "html", "parquet"]

FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="First day or instant; else this month's first.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DATE", help="Day or instant where it ends, not included; else now.")
]
PeriodOption = Annotated[
    str | None,
    typer.Option("--period", metavar="NAME", help="2026-11, 2026-W47, 2026-Q4, 2026, last-month, yesterday."),
]
TimezoneOption = Annotated[
    str, typer.Option("--timezone", metavar="ZONE", help="Whose days and months: Europe/Berlin, for example.")
]
CurrencyOption = Annotated[
    str, typer.Option("--currency", metavar="CODE", help="At the dated rates of the price file.")
]
ByOption = Annotated[
    list[str] | None,
    typer.Option("--by", metavar="DIMENSION", help=f"What lines differ in; may be repeated: {', '.join(DIMENSIONS)}."),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write it; focus is line items.")]
TableFormatOption = Annotated[TableFormat, typer.Option("--format", help="How to write it.")]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="PLACE", help="A file or folder, s3://bucket/key, or webhook.")
]
DetailsOption = Annotated[bool, typer.Option("--details", help="Show every column of the table.")]


def _only(name: str) -> typer.models.OptionInfo:
    return typer.Option(f"--{name}", help=f"Only this {name}; may be repeated.")


TeamFilter = Annotated[list[str] | None, _only("team")]
ProjectFilter = Annotated[list[str] | None, _only("project")]
KeyFilter = Annotated[list[str] | None, _only("key")]
UserFilter = Annotated[list[str] | None, _only("user")]
TagFilter = Annotated[list[str] | None, _only("tag")]
ModelFilter = Annotated[list[str] | None, _only("model")]
ProviderFilter = Annotated[list[str] | None, _only("provider")]
AliasFilter = Annotated[list[str] | None, _only("alias")]
ReasonFilter = Annotated[list[str] | None, _only("reason")]
TaskFilter = Annotated[list[str] | None, _only("task")]
TierFilter = Annotated[list[str] | None, _only("tier")]
StatusFilter = Annotated[list[str] | None, _only("status")]


def terms(
    services: AdminServices,
    *,
    from_text: str | None,
    to_text: str | None,
    period: str | None,
    timezone: str,
    currency: str,
    **only: list[str] | None,
) -> ReportTerms:
    """`only` are the filters. Raises ValueError with a sentence for a time that is none or a team that there is not."""
    where = where_of(only)
    for team in where.get("team", ()):
        team_of(services, team)
    span = report_period(now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
    return ReportTerms(span, where, currency)
