"""`report_scheduler`: the scheduled reports of the configuration, made from the ledger and delivered."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from policies.periods import Period
from router.bootstrap import redis_client
from router.clock import SYSTEM_CLOCK, Clock
from router.config import Config
from router.config_reports import ScheduledReport
from router.delivery.deliver import deliver
from router.delivery.destinations import destination_of
from router.delivery.making import make_files
from router.delivery.schedule import place
from router.delivery.scheduler import ReportFile, ReportScheduler
from router.lineup import line_up
from router.reports.exports.focus import Account
from router.reports.library import machine_names
from router.reports.periods import unix_ms
from router.services import AdminServices
from router.stores import redis_keys
from router.stores.cells import ROUTER, Books
from router.stores.spool import spool_folder
from router.stores.sql_report_runs import SqlReportRuns

logger = logging.getLogger(__name__)

_QUIET_SECONDS = 60.0
"""After an outage of Redis, for what waited on disks meanwhile: its stream is empty until that has come in."""


def report_scheduler(
    admin: AdminServices, clock: Clock = SYSTEM_CLOCK, environ: Mapping[str, str] = os.environ
) -> ReportScheduler:
    """Raises ConfigError for a report that could never be delivered: nobody would notice that none comes."""
    reports = admin.config.reports
    for report in reports.scheduled:
        destination_of(place(report), "", reports, environ)

    def make(report: ScheduledReport, period: Period) -> Sequence[ReportFile]:
        names = {team.id: team.name for team in admin.directory.list_teams()}
        return make_files(admin, report, period, clock.now(), Account(team_names=names))

    def send(destination: str, file: ReportFile) -> str:
        return deliver(destination, file.name, file.content, file.content_type, config=reports, environ=environ)

    config = admin.config
    spool = spool_folder(config.data_dir)
    whole = BooksAreWhole(admin.books, redis_client(config), spool, running_machines(config), clock)
    return ReportScheduler(reports.scheduled, SqlReportRuns(admin.engine), make, send, clock, whole)


class BooksAreWhole:
    """Whether all of a period is in the ledger: after a long absence the writer has much to catch up with."""

    def __init__(self, books: Books, client: redis.Redis, spool: Path, machines: Sequence[str], clock: Clock) -> None:
        self._books = books
        self._redis = client
        self._spool = spool
        self._machines = machines
        self._clock = clock
        self._quiet_until_s = 0.0

    def __call__(self, period: Period) -> bool:
        """False, too, where Redis is out of reach: what it holds of the period cannot be known. Raises
        StoreUnavailable."""
        return self._nothing_is_on_disk() and self._spend_is_booked(period) and self._hours_are_closed(period)

    def _nothing_is_on_disk(self) -> bool:
        """Of what could not be settled, on this host: for others, the quiet after an outage must do."""
        try:
            return not any(file.stat().st_size for file in self._spool.glob("*.spool"))
        except FileNotFoundError:  # one was taken over just now: the next look will tell
            return False

    def _spend_is_booked(self, period: Period) -> bool:
        try:
            waiting: Any = self._redis.xrange(redis_keys.SPEND_STREAM, count=1)
        except redis.RedisError as error:
            logger.warning("scheduled reports must wait for Redis: %s", error)
            self._quiet_until_s = self._clock.monotonic() + _QUIET_SECONDS
            return False
        if self._clock.monotonic() < self._quiet_until_s:
            return False
        # The id of an entry begins with its time; the writer deletes those that it has booked.
        return not waiting or int(bytes(waiting[0][0]).split(b"-")[0]) >= unix_ms(period.end)

    def _hours_are_closed(self, period: Period) -> bool:
        """The last one, too, of a period that ends within it, as those of India do: a part of it is in the report."""
        return all((self._books.closed_until_ms(name) or 0) >= unix_ms(period.end) for name in self._machines)


def running_machines(config: Config) -> tuple[str, ...]:
    """Those whose hours the writer closes, as `router.cli.closing` chooses them."""
    active = {deployment.name for deployment in line_up(config).active}
    return tuple(name for name in machine_names(config) if name == ROUTER or name in active)
