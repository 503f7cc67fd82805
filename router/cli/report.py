"""`parsimony report`: what was saved, who is charged what, and what machines are worth."""

from __future__ import annotations

import typer

from router.cli.admin import administration, now, states_or_warning
from router.cli.options import ConfigOption
from router.cli.report_options import (
    AliasFilter,
    ByOption,
    CurrencyOption,
    DetailsOption,
    FormatOption,
    FromOption,
    KeyFilter,
    ModelFilter,
    OutputOption,
    PeriodOption,
    ProjectFilter,
    ProviderFilter,
    ReasonFilter,
    StatusFilter,
    TableFormatOption,
    TagFilter,
    TaskFilter,
    TeamFilter,
    TierFilter,
    TimezoneOption,
    ToOption,
    UserFilter,
    terms,
)
from router.cli.report_output import write_focus, write_overview, write_table
from router.cli.report_verify import verify
from router.reports.library import ReportTerms, chargeback_report, savings_report
from router.reports.machine_reports import machine_break_even, machine_utilization
from router.reports.overview import Overview, overview
from router.reports.periods import report_period
from router.services import AdminServices

app = typer.Typer(help="Reports from the ledger.", no_args_is_help=True)
app.command("verify")(verify)


@app.callback()
def reports() -> None:
    """Reports from the ledger."""


@app.command("savings")
def savings(
    from_text: FromOption = None,
    to_text: ToOption = None,
    period: PeriodOption = None,
    timezone: TimezoneOption = "UTC",
    currency: CurrencyOption = "USD",
    by: ByOption = None,
    team: TeamFilter = None,
    project: ProjectFilter = None,
    key: KeyFilter = None,
    user: UserFilter = None,
    tag: TagFilter = None,
    model: ModelFilter = None,
    provider: ProviderFilter = None,
    alias: AliasFilter = None,
    reason: ReasonFilter = None,
    task: TaskFilter = None,
    tier: TierFilter = None,
    status: StatusFilter = None,
    output: FormatOption = "table",
    place: OutputOption = None,
    details: DetailsOption = False,
    config: ConfigOption = None,
) -> None:
    """Compare what was spent with what the baseline would have cost.

    Without --by, in several ways at once; html and parquet, which hold one table, are by team then.
    """
    with administration(config) as services:
        asked = terms(
            services, from_text=from_text, to_text=to_text, period=period, timezone=timezone, currency=currency,
            team=team, project=project, key=key, user=user, tag=tag, model=model, provider=provider, alias=alias,
            reason=reason, task=task, tier=tier, status=status,
        )  # fmt: skip
        if output == "focus":
            write_focus(services, asked, by or (), place)
        elif by or output == "html" or output == "parquet":
            table = savings_report(services, asked, tuple(by or ("team",)), now())
            write_table(services, table, output, place, details=details, by=by or ())
        else:
            write_overview(services, _overview(services, asked), output, place)


@app.command("chargeback")
def chargeback(
    from_text: FromOption = None,
    to_text: ToOption = None,
    period: PeriodOption = None,
    timezone: TimezoneOption = "UTC",
    currency: CurrencyOption = "USD",
    by: ByOption = None,
    team: TeamFilter = None,
    project: ProjectFilter = None,
    key: KeyFilter = None,
    user: UserFilter = None,
    tag: TagFilter = None,
    model: ModelFilter = None,
    provider: ProviderFilter = None,
    alias: AliasFilter = None,
    reason: ReasonFilter = None,
    task: TaskFilter = None,
    tier: TierFilter = None,
    status: StatusFilter = None,
    output: FormatOption = "table",
    place: OutputOption = None,
    details: DetailsOption = False,
    config: ConfigOption = None,
) -> None:
    """Share out all that a period really cost, idle machines too: by team, unless --by says otherwise."""
    with administration(config) as services:
        asked = terms(
            services, from_text=from_text, to_text=to_text, period=period, timezone=timezone, currency=currency,
            team=team, project=project, key=key, user=user, tag=tag, model=model, provider=provider, alias=alias,
            reason=reason, task=task, tier=tier, status=status,
        )  # fmt: skip
        if output == "focus":
            write_focus(services, asked, by or (), place)
        else:
            table = chargeback_report(services, asked, tuple(by or ("team",)), now())
            write_table(services, table, output, place, details=details, by=by or ())


@app.command("utilization")
def utilization(
    from_text: FromOption = None,
    to_text: ToOption = None,
    period: PeriodOption = None,
    timezone: TimezoneOption = "UTC",
    output: TableFormatOption = "table",
    place: OutputOption = None,
    details: DetailsOption = False,
    config: ConfigOption = None,
) -> None:
    """Say how busy machines are, what they really cost, and what a token costs on them."""
    with administration(config) as services:
        span = report_period(now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
        write_table(services, machine_utilization(services, span, now()), output, place, details=details)


@app.command("break-even")
def break_even(
    from_text: FromOption = None,
    to_text: ToOption = None,
    period: PeriodOption = None,
    timezone: TimezoneOption = "UTC",
    output: TableFormatOption = "table",
    place: OutputOption = None,
    details: DetailsOption = False,
    config: ConfigOption = None,
) -> None:
    """Say from how many requests a day on a machine of one's own is cheaper than each API, at the period's mix."""
    with administration(config) as services:
        span = report_period(now(), from_text=from_text, to_text=to_text, name=period, timezone=timezone)
        table, curves = machine_break_even(services, span, now())
        write_table(services, table, output, place, details=details, curves=curves)


def _overview(services: AdminServices, asked: ReportTerms) -> Overview:
    teams = tuple(asked.where.get("team", ()))
    budgets = states_or_warning(services, teams[0] if teams else None) if len(teams) < 2 else ()
    return overview(services, asked, now(), budgets)
