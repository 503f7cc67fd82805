"""`ReportScheduler`: makes each scheduled report once for every finished period, whatever dies or fails meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from policies.periods import Period
from router.clock import SYSTEM_CLOCK, Clock
from router.config_reports import ScheduledReport
from router.delivery.schedule import LONGEST_WAIT_S, MAX_ATTEMPTS, due_periods, end_ms, place, schedule_id, wait_s
from router.errors import DeliveryFailed, ParsimonyError

logger = logging.getLogger(__name__)

LEASE = timedelta(hours=1)
"""Longer than a report takes, even in four formats to a receiver that needs ten minutes for each. Who has not said by
then what became of it has died, and another makes it."""
_POLL_SECONDS = 5.0
"""A look costs a query of a few rows for each report."""


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One report in one format."""

    name: str
    content: bytes
    content_type: str


class ReportRuns(Protocol):
    """Who makes which report: `router.stores.sql_report_runs`. Raises StoreUnavailable."""

    def known(self, schedule_id: str, now_ms: int) -> Mapping[int, bool]: ...
    def claim(self, schedule_id: str, period_end_ms: int, now_ms: int, until_ms: int) -> int | None: ...
    def postpone(self, schedule_id: str, period_end_ms: int, attempt: int, until_ms: int, detail: str) -> None: ...
    def finish(self, schedule_id: str, period_end_ms: int, attempt: int, at_ms: int, detail: str) -> None: ...


Make = Callable[[ScheduledReport, Period], Sequence[ReportFile]]
Ready = Callable[[Period], bool]
"""Whether all that happened in the period is in the ledger."""
Deliver = Callable[[str, ReportFile], str]
"""Takes a destination, and returns in words where the file is now. Raises ParsimonyError."""


class ReportScheduler:
    """`make` and `deliver` may take their time and may fail: what they raise is logged, and they are asked again.

    What is not `ready` is looked at again at the next poll.
    """

    def __init__(
        self,
        scheduled: Sequence[ScheduledReport],
        runs: ReportRuns,
        make: Make,
        deliver: Deliver,
        clock: Clock = SYSTEM_CLOCK,
        ready: Ready = lambda period: True,
    ) -> None:
        self._scheduled = [(schedule_id(report), report) for report in scheduled]
        self._runs = runs
        self._make = make
        self._deliver = deliver
        self._clock = clock
        self._ready = ready
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """From now on, in a thread of its own: a report of a year must not keep the house waiting."""
        if self._scheduled:
            self._thread = threading.Thread(target=self._run, name="scheduled-reports", daemon=True)
            self._thread.start()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Waits so long for the report under way. One that is not done then is made again, by the next."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def poll(self) -> None:
        """Makes and delivers what is due. Raises StoreUnavailable; what was not done for that is found again."""
        for id, report in self._scheduled:
            for period in due_periods(report, self._runs.known(id, self._now_ms()), self._clock.now()):
                if self._stop.is_set():
                    return
                if self._ready(period):
                    self._try(id, report, period)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except ParsimonyError as error:
                logger.warning("scheduled reports must wait: %s", error)
            except Exception:  # the border of the thread: were it to end, no report would be made any more
                logger.exception("scheduled reports failed; they go on")
            self._stop.wait(_POLL_SECONDS)

    def _try(self, id: str, report: ScheduledReport, period: Period) -> None:
        now_ms = self._now_ms()
        attempt = self._runs.claim(id, end_ms(period), now_ms, now_ms + int(LEASE.total_seconds() * 1000))
        if attempt is None:
            return
        try:
            files = self._make(report, period)
            where = [self._deliver(place(report), file) for file in files]
        except ParsimonyError as error:
            refused = isinstance(error, DeliveryFailed) and not error.retryable
            asked_s = LONGEST_WAIT_S if refused else error.retry_after_s or 0
            self._failed(id, report, period, attempt, str(error), asked_s)
            return
        except Exception as error:  # a mistake of ours: it must not keep the other reports from being made
            logger.exception("report %s of %s failed", report.report, period.label)
            self._failed(id, report, period, attempt, f"{type(error).__name__}: {error}", 0)
            return
        self._runs.finish(id, end_ms(period), attempt, self._now_ms(), ", ".join(where))
        logger.info("report %s of %s is at %s", report.report, period.label, ", ".join(where))

    def _failed(self, id: str, report: ScheduledReport, period: Period, attempt: int, why: str, asked_s: float) -> None:
        what = f"report {report.report} of {period.label} failed, attempt {attempt}"
        if attempt >= MAX_ATTEMPTS:
            logger.error("%s, and is given up; `parsimony report` makes it by hand: %s", what, why)
            self._runs.finish(id, end_ms(period), attempt, self._now_ms(), f"given up: {why}")
            return
        # A receiver that asks for a year is mistaken, and would be waited for without a word.
        seconds = min(max(wait_s(attempt), int(asked_s)), LONGEST_WAIT_S)
        logger.warning("%s; again in %d s: %s", what, seconds, why)
        self._runs.postpone(id, end_ms(period), attempt, self._now_ms() + seconds * 1000, why)

    def _now_ms(self) -> int:
        return int(self._clock.wall() * 1000)
