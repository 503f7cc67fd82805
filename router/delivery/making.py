"""`make_files`: one scheduled report of one period, in each of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from policies.periods import Period
from router.config_reports import ScheduledReport
from router.delivery.schedule import file_name
from router.delivery.scheduler import ReportFile
from router.errors import ConfigError
from router.hardware import machines_of
from router.prices import load_prices
from router.reports.break_even import apis_of, break_even_report, break_even_table
from router.reports.chargeback import CHARGEABLE
from router.reports.curves import break_even_svg
from router.reports.dimensions import DIMENSIONS, check_dimensions
from router.reports.exports.focus import OWN, Account, focus_csv, focus_parquet, focus_rows
from router.reports.exports.formats import CONTENT_TYPES
from router.reports.files import table_as_bytes
from router.reports.library import ReportSource, ReportTerms, chargeback_report, savings_report
from router.reports.periods import ReportPeriod, unix_ms
from router.reports.tables import ReportTable
from router.reports.utilization import utilization_report, utilization_table
from router.stores.cells import ROUTER

_BY_TEAM = ("team",)


def check_scheduled(report: ScheduledReport, key: str) -> None:
    """Raises ConfigError, which names `key`, for one that could never be made."""
    try:
        check_dimensions(report.by, CHARGEABLE if report.report == "chargeback" else DIMENSIONS)
    except ValueError as error:
        raise ConfigError(f"{key}.by: {error}") from error


def make_files(
    source: ReportSource, report: ScheduledReport, period: Period, now: datetime, account: Account = OWN
) -> list[ReportFile]:
    """`account` is for line items: whose they are, and what teams are called.

    Raises StoreUnavailable, ConfigError, and ValueError with a sentence for what the ledger cannot be asked.
    """
    if report.report == "focus":
        contents = _line_items(source, report, period, account)
    else:
        table, curves = _table(source, report, period, now)
        contents = [table_as_bytes(table, format, curves) for format in report.formats]
    return [
        ReportFile(file_name(report, period.label, format), content, CONTENT_TYPES[format])
        for format, content in zip(report.formats, contents, strict=True)
    ]


def _line_items(source: ReportSource, report: ScheduledReport, period: Period, account: Account) -> list[bytes]:
    rows = list(focus_rows(source.books, unix_ms(period.start), unix_ms(period.end), account))
    return [focus_csv(rows) if format == "csv" else focus_parquet(rows) for format in report.formats]


def _table(
    source: ReportSource, report: ScheduledReport, period: Period, now: datetime
) -> tuple[ReportTable, Sequence[str]]:
    """With the pictures that the table alone does not hold."""
    from_ms, to_ms = unix_ms(period.start), unix_ms(period.end)
    if report.report in ("savings", "chargeback"):
        terms = ReportTerms(ReportPeriod(from_ms, to_ms, report.timezone))
        made = savings_report if report.report == "savings" else chargeback_report
        return made(source, terms, report.by or _BY_TEAM, now), ()
    on = datetime.fromtimestamp((to_ms - 1) / 1000, UTC).date()
    machines = machines_of(source.config, on, ROUTER)
    if report.report == "utilization":
        return utilization_table(utilization_report(source.books, from_ms, to_ms, machines), unix_ms(now)), ()
    apis = apis_of(source.config, load_prices(source.config.prices), on)
    found = break_even_report(source.books, from_ms, to_ms, machines, apis)
    return break_even_table(found, unix_ms(now)), [break_even_svg(outlook) for outlook in found.outlooks]
