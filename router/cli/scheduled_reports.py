"""`report_scheduler`: the scheduled reports of the configuration, made from the ledger and delivered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from policies.periods import Period
from router.clock import SYSTEM_CLOCK, Clock
from router.config_reports import ScheduledReport
from router.delivery.deliver import deliver
from router.delivery.destinations import destination_of
from router.delivery.making import check_scheduled, make_files
from router.delivery.schedule import place
from router.delivery.scheduler import ReportFile, ReportScheduler
from router.services import AdminServices
from router.stores.sql_report_runs import SqlReportRuns


def report_scheduler(
    admin: AdminServices, clock: Clock = SYSTEM_CLOCK, environ: Mapping[str, str] = os.environ
) -> ReportScheduler:
    """Raises ConfigError for a report that could never be made or delivered: nobody would notice that none comes."""
    reports = admin.config.reports
    for at, report in enumerate(reports.scheduled):
        check_scheduled(report, f"reports.scheduled.{at}")
        destination_of(place(report), "", reports, environ)

    def make(report: ScheduledReport, period: Period) -> Sequence[ReportFile]:
        return make_files(admin, report, period, clock.now())

    def send(destination: str, file: ReportFile) -> str:
        return deliver(destination, file.name, file.content, file.content_type, config=reports, environ=environ)

    return ReportScheduler(reports.scheduled, SqlReportRuns(admin.engine), make, send, clock)
