"""`make_files`: one scheduled report of one period, in each of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from policies.periods import Period
from router.config_reports import ScheduledReport
from router.delivery.scheduler import ReportFile
from router.reports.exports.drawing import Picture
from router.reports.exports.focus import OWN, Account, focus_csv, focus_parquet, focus_rows
from router.reports.exports.formats import CONTENT_TYPES
from router.reports.files import file_name, table_as_bytes
from router.reports.library import ReportSource, ReportTerms, chargeback_report, savings_report
from router.reports.machine_reports import machine_break_even, machine_utilization
from router.reports.periods import ReportPeriod, unix_ms
from router.reports.tables import ReportTable

_BY_TEAM = ("team",)


def make_files(
    source: ReportSource, report: ScheduledReport, period: Period, now: datetime, account: Account = OWN
) -> list[ReportFile]:
    """`account` is for line items: whose they are, and what teams are called.

    Raises StoreUnavailable, ConfigError, and ValueError with a sentence for what the ledger cannot be asked.
    """
    span = ReportPeriod(unix_ms(period.start), unix_ms(period.end), report.timezone)
    if report.report == "focus":
        contents = _line_items(source, report, span, account)
    else:
        table, curves = _table(source, report, span, now)
        contents = [table_as_bytes(table, format, curves) for format in report.formats]
    return [
        ReportFile(file_name(report.report, span, format, report.by), content, CONTENT_TYPES[format])
        for format, content in zip(report.formats, contents, strict=True)
    ]


def _line_items(source: ReportSource, report: ScheduledReport, span: ReportPeriod, account: Account) -> list[bytes]:
    rows = list(focus_rows(source.books, span.from_ms, span.to_ms, account))
    return [focus_csv(rows) if format == "csv" else focus_parquet(rows) for format in report.formats]


def _table(
    source: ReportSource, report: ScheduledReport, span: ReportPeriod, now: datetime
) -> tuple[ReportTable, Sequence[Picture]]:
    """With the pictures that the table alone does not hold."""
    if report.report in ("savings", "chargeback"):
        made = savings_report if report.report == "savings" else chargeback_report
        return made(source, ReportTerms(span), report.by or _BY_TEAM, now), ()
    if report.report == "utilization":
        return machine_utilization(source, span, now), ()
    return machine_break_even(source, span, now)
