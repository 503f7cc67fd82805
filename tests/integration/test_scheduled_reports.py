"""Each report is made once for every period: by one of several, after failures, and after one that died."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from policies.periods import Period
from router.clock import Clock
from router.config_reports import ScheduledReport
from router.delivery.deliver import deliver
from router.delivery.schedule import LONGEST_WAIT_S, MAX_ATTEMPTS, wait_s
from router.delivery.scheduler import LEASE, Deliver, Make, ReportFile, ReportScheduler
from router.errors import DeliveryFailed
from router.stores.sql_engine import create_ledger_engine, migrate
from router.stores.sql_report_runs import SqlReportRuns

START = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
MONTHLY = ScheduledReport(report="savings", to="reports")
DAILY = ScheduledReport(report="chargeback", to="reports", period="day")


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START
        self.clock = Clock(wall=lambda: self.now.timestamp())


class Post:
    """Takes what is delivered, save while it is told to fail."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failing: Exception | None = None

    def __call__(self, destination: str, file: ReportFile) -> str:
        if self.failing is not None:
            raise self.failing
        self.names.append(f"{destination}{file.name}")
        return self.names[-1]


def make(report: ScheduledReport, period: Period) -> Sequence[ReportFile]:
    return [ReportFile(f"{report.report}-{period.label}.csv", b"1", "text/csv")]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def runs(engine: Engine) -> SqlReportRuns:
    return SqlReportRuns(engine)


def scheduler(
    runs: SqlReportRuns, watch: Watch, deliver: Deliver, make: Make = make, *reports: ScheduledReport
) -> ReportScheduler:
    return ReportScheduler(reports or (MONTHLY, DAILY), runs, make, deliver, watch.clock)


def test_each_is_made_once_and_again_when_the_next_period_is_over(
    runs: SqlReportRuns, watch: Watch, post: Post
) -> None:
    ours = scheduler(runs, watch, post)
    for _ in range(3):
        ours.poll()
    assert post.names == ["reports/savings-2026-10.csv", "reports/chargeback-2026-11-21.csv"]
    watch.now += timedelta(days=2)
    scheduler(runs, watch, post).poll()
    assert post.names[2:] == ["reports/chargeback-2026-11-22.csv", "reports/chargeback-2026-11-23.csv"]


def test_of_writers_at_once_one_makes_it(runs: SqlReportRuns, watch: Watch, post: Post) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: scheduler(runs, watch, post).poll(), range(8)))
    assert sorted(post.names) == ["reports/chargeback-2026-11-21.csv", "reports/savings-2026-10.csv"]


def test_what_a_writer_died_over_is_made_by_the_next_once_its_lease_is_over(
    runs: SqlReportRuns, watch: Watch, post: Post
) -> None:
    def die(destination: str, file: ReportFile) -> str:
        raise SystemExit

    with pytest.raises(SystemExit):
        scheduler(runs, watch, die, make, MONTHLY).poll()
    watch.now += LEASE - timedelta(seconds=1)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert post.names == []
    watch.now += timedelta(seconds=1)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert post.names == ["reports/savings-2026-10.csv"]


def test_a_process_that_is_killed_half_way_leaves_the_old_report_and_its_period_to_the_next(
    runs: SqlReportRuns, engine: Engine, watch: Watch, tmp_path: Path
) -> None:
    report = tmp_path / "out" / "savings-2026-10.csv"
    deliver(str(report), "", b"of before", "text/csv")

    def killed(handle: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def put(destination: str, file: ReportFile) -> str:
        return deliver(str(report), file.name, file.content, file.content_type)

    child = os.fork()
    if child == 0:
        engine.dispose(close=False)  # the parent's connections are not its own
        os.fsync = killed  # half way: the bytes are written, the name is not theirs yet
        scheduler(runs, watch, put, make, MONTHLY).poll()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert report.read_bytes() == b"of before"
    watch.now += LEASE
    scheduler(runs, watch, put, make, MONTHLY).poll()
    assert report.read_bytes() == b"1"
    assert [path.name for path in report.parent.glob("*") if not path.name.startswith(".")] == [report.name]


def test_a_failure_is_tried_again_later_and_keeps_nothing_else_from_being_made(
    runs: SqlReportRuns, watch: Watch, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(report: ScheduledReport, period: Period) -> Sequence[ReportFile]:
        if report is MONTHLY:
            raise ZeroDivisionError("of ours")
        return make(report, period)

    scheduler(runs, watch, post, broken).poll()
    assert post.names == ["reports/chargeback-2026-11-21.csv"]
    assert "report savings of 2026-10 failed, attempt 1; again in 60 s: ZeroDivisionError: of ours" in caplog.text
    scheduler(runs, watch, post).poll()
    assert len(post.names) == 1, "its minute is not over"
    watch.now += timedelta(seconds=60)
    scheduler(runs, watch, post).poll()
    assert post.names[1:] == ["reports/savings-2026-10.csv"]


def test_what_the_receiver_asks_for_is_waited(runs: SqlReportRuns, watch: Watch, post: Post) -> None:
    post.failing = DeliveryFailed("busy", retry_after_s=900)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    post.failing = None
    watch.now += timedelta(seconds=899)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert post.names == []
    watch.now += timedelta(seconds=1)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert len(post.names) == 1


def test_a_receiver_that_asks_for_a_year_is_asked_again_all_the_same(
    runs: SqlReportRuns, watch: Watch, post: Post
) -> None:
    post.failing = DeliveryFailed("busy", retry_after_s=31_536_000.0)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    post.failing = None
    watch.now += timedelta(seconds=LONGEST_WAIT_S)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert len(post.names) == 1


def test_what_is_refused_is_not_asked_again_in_a_minute(runs: SqlReportRuns, watch: Watch, post: Post) -> None:
    post.failing = DeliveryFailed("403", retryable=False)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    post.failing = None
    watch.now += timedelta(hours=6) - timedelta(seconds=1)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert post.names == []
    watch.now += timedelta(seconds=1)
    scheduler(runs, watch, post, make, MONTHLY).poll()
    assert len(post.names) == 1


def test_what_a_clock_that_ran_ahead_had_made_is_made_again_when_its_time_has_come(
    runs: SqlReportRuns, watch: Watch, post: Post
) -> None:
    scheduler(runs, watch, post, make, DAILY).poll()
    watch.now += timedelta(days=3)
    scheduler(runs, watch, post, make, DAILY).poll()
    watch.now -= timedelta(days=3)
    scheduler(runs, watch, post, make, DAILY).poll()
    made = ["reports/chargeback-2026-11-21.csv", *(f"reports/chargeback-2026-11-{day}.csv" for day in (22, 23, 24))]
    assert post.names == made
    watch.now += timedelta(days=1)
    scheduler(runs, watch, post, make, DAILY).poll()
    assert post.names[len(made) :] == ["reports/chargeback-2026-11-22.csv"], "that of before was of a day under way"


def test_a_period_that_is_not_whole_waits_and_keeps_no_other_waiting(
    runs: SqlReportRuns, watch: Watch, post: Post
) -> None:
    whole: set[str] = {"2026-11-21"}
    ours = ReportScheduler((MONTHLY, DAILY), runs, make, post, watch.clock, lambda period: period.label in whole)
    ours.poll()
    assert post.names == ["reports/chargeback-2026-11-21.csv"]
    whole.add("2026-10")
    ours.poll()
    assert post.names[1:] == ["reports/savings-2026-10.csv"]


def test_what_never_arrives_is_given_up_in_the_end_and_said(
    runs: SqlReportRuns, watch: Watch, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    post.failing = DeliveryFailed("s3://bucket/x: 403 AccessDenied", retryable=False)
    for _ in range(MAX_ATTEMPTS + 1):
        scheduler(runs, watch, post, make, MONTHLY).poll()
        watch.now += timedelta(seconds=wait_s(MAX_ATTEMPTS))
    attempts = [record for record in caplog.records if "403 AccessDenied" in record.getMessage()]
    assert [record.levelno for record in attempts] == [logging.WARNING] * (MAX_ATTEMPTS - 1) + [logging.ERROR]
    assert "makes it by hand" in attempts[-1].getMessage()


def test_the_thread_makes_them_and_ends_when_it_is_told(runs: SqlReportRuns, watch: Watch) -> None:
    arrived = threading.Event()

    def deliver(destination: str, file: ReportFile) -> str:
        arrived.set()
        return destination

    ours = scheduler(runs, watch, deliver, make, MONTHLY)
    ours.start()
    assert arrived.wait(10)
    ours.close(10)
    assert not [thread for thread in threading.enumerate() if thread.name == "scheduled-reports"]


def test_without_reports_there_is_no_thread(runs: SqlReportRuns, watch: Watch, post: Post) -> None:
    ours = ReportScheduler((), runs, make, post, watch.clock)
    ours.start()
    ours.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "scheduled-reports"]
