"""Scheduled reports from a real ledger to where they belong, in every format; and by the writer's own process."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import duckdb
import pytest
import redis
from typer.testing import CliRunner

from policies.periods import Period
from router.cli.app import app
from router.cli.scheduled_reports import BooksAreWhole, report_scheduler
from router.clock import Clock
from router.errors import ConfigError
from router.services import AdminServices
from router.stores import redis_keys
from router.stores.cells import HourCost
from tests.support.admin_api import open_stores
from tests.support.administration import write_config
from tests.support.books import RecordBooks
from tests.support.focus_validator import findings
from tests.support.receiver import receiver_server
from tests.support.s3_server import BUCKET, S3Server, s3_server
from tests.support.spend import spend_record

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
IN_OCTOBER_MS = int(datetime(2026, 10, 31, 23, tzinfo=UTC).timestamp() * 1000)
IN_NOVEMBER_MS = IN_OCTOBER_MS + 16 * 86_400_000
COSTS = (1_000_000_001, 2_000_000_000, 4_000_000_000)
TABLES = ("savings", "chargeback", "utilization", "break-even")
HARDWARE = Path(__file__).resolve().parents[2] / "configs" / "hardware.yaml"
ON_A_MACHINE = "tier: simple, hardware: {name: a100-40gb, throughput: {tokens_per_second: '100'}}}"


def config_with(folder: Path, redis_url: str, reports: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = write_config(folder, redis_url)
    text = path.read_text().replace("tier: simple}", ON_A_MACHINE)
    path.write_text(f"{text}hardware: {HARDWARE}\nreports:\n{reports}")
    return path


@contextmanager
def ledger_of_october(folder: Path, redis_url: str, reports: str) -> Iterator[AdminServices]:
    with open_stores(config_with(folder, redis_url, reports)) as services:
        services.ledger.append(
            [
                spend_record(
                    f"r{at}", started_at_ms=IN_OCTOBER_MS + at, deployment="small", team_id=f"team-{at}",
                    cost_nusd=cost, baseline_cost_nusd=10 * cost,
                )
                for at, cost in enumerate(COSTS)
            ]
        )  # fmt: skip
        services.directory.create_team("team-0", "Søren's")
        services.books.close_hours([HourCost(IN_OCTOBER_MS, "small", "a100-40gb", 1, 8_000_000_000)])
        yield services


def s3_section(store: S3Server) -> str:
    return f"  s3: {{endpoint_url: '{store.url}', path_style: true, access_key_env: ID, secret_key_env: SECRET}}\n"


def made(services: AdminServices, **environ: str) -> None:
    report_scheduler(services, Clock(wall=NOW.timestamp), environ).poll()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


def test_every_report_in_every_format_says_the_same(tmp_path: Path, redis_url: str) -> None:
    out = tmp_path / "out"
    every = f"formats: [html, csv, json, parquet], to: {out}}}"
    reports = "".join(
        f"    - {{report: {name}, {every}\n" for name in ("savings", "chargeback", "utilization", "break-even")
    )
    focus = f"    - {{report: focus, formats: [csv, parquet], to: {out}}}\n"
    with ledger_of_october(tmp_path, redis_url, f"  scheduled:\n{reports}{focus}") as services:
        made(services)
    files = [path.name for path in out.iterdir()]
    assert len(files) == 4 * 4 + 2
    assert {name.split(".")[0] for name in files} == {f"{name}-2026-10" for name in (*TABLES, "focus")}
    (total,) = (row for row in rows_of(out / "savings-2026-10.csv") if row["line"] == "total")
    assert total["effective_cost_nusd"] == "8000000000", "the machine's hour: all was booked on it, and more was paid"
    assert total["counterfactual_usd"] == "70.00000001"
    assert json.loads((out / "savings-2026-10.json").read_text())["total"]["savings_nusd"] == 62_000_000_010
    assert "$70.00" in (out / "savings-2026-10.html").read_text()
    (charged,) = (row for row in rows_of(out / "chargeback-2026-10.csv") if row["line"] == "total")
    assert charged["charged_nusd"] == "8000000000"
    names = {row["SubAccountId"]: row["SubAccountName"] for row in rows_of(out / "focus-2026-10.csv")}
    assert names == {"": "", "team-0": "Søren's", "team-1": "team-1", "team-2": "team-2"}
    assert findings((out / "focus-2026-10.csv").read_bytes()) == []
    with duckdb.connect() as connection:
        for file, column in (
            ("savings", "effective_cost_usd"),
            ("chargeback", "charged_usd"),
            ("focus", "EffectiveCost"),
        ):
            (found,) = connection.sql(f"SELECT sum({column}) FROM '{out / file}-2026-10.parquet'").fetchall()
            assert found == (Decimal(8),), file
    page = (out / "break-even-2026-10.html").read_text()
    assert page.count("<svg") == page.count("The same as a table") == 1


def test_reports_reach_a_store_and_a_webhook(tmp_path: Path, redis_url: str) -> None:
    with s3_server() as store, receiver_server() as receiver:
        reports = (
            f"  scheduled:\n    - {{report: savings, by: [team], to: s3://{BUCKET}/finance}}\n"
            "    - {report: savings, period: week, to: webhook}\n"
            f"{s3_section(store)}"
            "  webhook: {url_env: URL}\n"
        )
        with ledger_of_october(tmp_path, redis_url, reports) as services:
            services.books.close_hours([HourCost(IN_NOVEMBER_MS, "small", "a100-40gb", 1, 1)])
            made(services, ID=store.access_key, SECRET=store.secret_key, URL=receiver.url("/reports"))
        assert b"team-2" in store.objects()["finance/savings-by-team-2026-10.csv"][0]
        (post,) = receiver.posted("/reports")
        assert post.headers["x-parsimony-report"] == "savings-2026-W46.csv"


@pytest.mark.parametrize("by", [(), ("--by", "team")])
def test_a_report_by_hand_ends_well_where_stdout_is_closed(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, by: tuple[str, ...]
) -> None:
    with ledger_of_october(tmp_path, redis_url, "  scheduled: []\n"):
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.delenv("COLUMNS", raising=False)
        with pytest.raises(SystemExit) as ended:
            app(["report", "savings", "--period", "2026-10", *by, "--config", str(tmp_path / "parsimony.yaml")])
    assert ended.value.code == 0


def test_a_report_by_hand_goes_the_same_way(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as store:
        monkeypatch.setenv("ID", store.access_key)
        monkeypatch.setenv("SECRET", store.secret_key)
        with ledger_of_october(tmp_path, redis_url, s3_section(store)):
            options = f"--config {tmp_path}/parsimony.yaml --period 2026-10 --by team --format html"
            command = ["report", "savings", *options.split(), "--output", f"s3://{BUCKET}/by-hand/october.html"]
            result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (0, "")
        content, content_type = store.objects()["by-hand/october.html"]
        assert content_type == "text/html; charset=utf-8"
        assert b"$70.00" in content


def test_what_could_never_be_delivered_ends_the_start(tmp_path: Path, redis_url: str) -> None:
    reports = "  scheduled: [{report: savings, to: webhook}]\n  webhook: {url_env: URL}\n"
    with (
        open_stores(config_with(tmp_path, redis_url, reports)) as services,
        pytest.raises(ConfigError, match=r"reports\.webhook: URL must hold a URL"),
    ):
        report_scheduler(services, environ={})


def test_a_report_waits_for_what_is_not_booked_and_for_hours_that_are_not_closed(
    tmp_path: Path, redis_url: str
) -> None:
    out = tmp_path / "out"
    until_october = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
    reports = f"  scheduled: [{{report: savings, to: {out}}}]\n"
    with ledger_of_october(tmp_path, redis_url, reports) as services, redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.xadd(redis_keys.SPEND_STREAM, {"r": "1"}, id=f"{until_october - 1}-0")
        made(services)
        assert not out.exists()
        client.delete(redis_keys.SPEND_STREAM)
        client.xadd(redis_keys.SPEND_STREAM, {"r": "1"}, id=f"{until_october}-0")
        made(services)
        assert [path.name for path in out.iterdir()] == ["savings-2026-10.csv"]
        client.flushall()
    with open_stores(config_with(tmp_path / "new", redis_url, reports.replace("out", "other"))) as services:
        made(services)
        assert not (tmp_path / "other").exists(), "no hour of its machine was ever closed"


def test_after_an_outage_of_redis_what_waited_for_it_comes_in_first(tmp_path: Path) -> None:
    class Flaky:
        away = True

        def xrange(self, name: str, count: int) -> list[object]:
            if self.away:
                raise redis.ConnectionError("away")
            return []

    elapsed_s, client = 1_000.0, Flaky()
    clock = Clock(monotonic=lambda: elapsed_s)
    whole = BooksAreWhole(RecordBooks(), cast(redis.Redis, client), tmp_path, (), clock)
    day = Period("2026-11-21", NOW - timedelta(days=2), NOW - timedelta(days=1))
    assert not whole(day)
    client.away = False
    elapsed_s += 59
    assert not whole(day), "workers are putting in what they had on disk"
    elapsed_s += 1
    assert whole(day)
    (tmp_path / "worker-1.spool").write_bytes(b"a settlement")
    assert not whole(day), "and this one has not put it in yet"
    (tmp_path / "worker-1.spool").write_bytes(b"")
    assert whole(day)


def test_a_month_that_ends_within_an_hour_waits_for_the_whole_of_it(tmp_path: Path, redis_url: str) -> None:
    out = tmp_path / "out"
    reports = f"  scheduled: [{{report: chargeback, timezone: Asia/Kolkata, to: {out}}}]\n"
    last_hour_ms = int(datetime(2026, 10, 31, 18, tzinfo=UTC).timestamp() * 1000)  # October ends there at 18:30
    with open_stores(config_with(tmp_path, redis_url, reports)) as services:
        services.books.close_hours([HourCost(last_hour_ms - 3_600_000, "small", "a100-40gb", 1, 2)])
        made(services)
        assert not out.exists()
        services.books.close_hours([HourCost(last_hour_ms, "small", "a100-40gb", 1, 4_000_000_000)])
        made(services)
    (total,) = (row for row in rows_of(out / "chargeback-2026-10.csv") if row["line"] == "total")
    assert total["charged_nusd"] == "2000000002"


def test_the_writer_makes_them_by_itself_and_ends_when_it_is_told(tmp_path: Path, redis_url: str) -> None:
    out = tmp_path / "out"
    reports = f"  scheduled: [{{report: savings, period: day, to: {out}}}]\n"
    with ledger_of_october(tmp_path, redis_url, reports):
        pass
    writer = subprocess.Popen([sys.executable, "-m", "router.cli.writer", "--config", str(tmp_path / "parsimony.yaml")])
    try:
        deadline_s = time.monotonic() + 60
        while not list(out.glob("savings-*.csv")) and time.monotonic() < deadline_s and writer.poll() is None:
            time.sleep(0.05)
        writer.send_signal(signal.SIGTERM)
        assert writer.wait(30) == 0
    finally:
        writer.kill()
    (report,) = out.iterdir()
    assert report.read_text().startswith("line,")
