"""Measure how fast records are written and moved from Redis, their room, and how long a month's report takes."""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine, text

from router.cli.writer import collect_rarely
from router.reports.account import Question, take_account
from router.reports.basis import provenance
from router.reports.periods import ReportPeriod
from router.reports.savings import savings_table
from router.stores.cells import HOUR_MS
from router.stores.ledger_writer import LedgerWriter
from router.stores.redis_keys import SPEND_STREAM
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import create_ledger_engine, migrate, reading, writing
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_rollups import rebuild_rollups
from router.stores.sql_rows import ROW_COLUMNS, SUMS
from tests.benchmarks.ledger.traffic import APART_MS, MONTH_LENGTH_MS, MONTH_MS, records
from tests.support import postgres_server
from tests.support.redis_server import redis_client

DATABASES = ("sqlite", "postgresql")
REPORTS = 5
WIDTH = 150
WARM_UP = 0.2
"""The share of the records after which memory must have stopped to grow."""


@dataclass(slots=True)
class Measured:
    database: str
    written_per_s: float = 0.0
    cpu_us: float = 0.0
    moved_per_s: float = 0.0
    grown_mib: float = 0.0
    row_bytes: float = 0.0
    record_count: int = 0
    rollup_count: int = 0
    report_s: float = 0.0
    peak_mib: float = 0.0


def main() -> None:
    """Read the options, measure, print. Nothing is left behind."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ledger", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES, help="which of them")
    parser.add_argument("--write", type=int, default=200_000, help="how many records to write (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2_000, help="how many in one transaction (default: %(default)s)")
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="how many the month of the report has (default: %(default)s)"
    )
    parser.add_argument(
        "--sums-only",
        action="store_true",
        help="sum up hours of the month without having its records: each of a run of the written ones, from any place",
    )
    options = parser.parse_args()
    console = Console()
    console.print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    found = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in options.databases:
            with database(name) as engine:
                found.append(measure(name, engine, options, progress))
            with database(name) as engine:
                found[-1].moved_per_s = moved_per_s(engine, options, progress)
    Console(width=max(console.width, WIDTH)).print(table(found))


@contextmanager
def database(name: str) -> Iterator[Engine]:
    """A new one, gone afterwards."""
    if name == "postgresql":
        missing = postgres_server.missing()
        if missing:
            raise SystemExit(missing)
        with postgres_server.postgres_server() as url:
            yield from migrated(url)
        return
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        yield from migrated(f"sqlite:///{folder}/ledger.sqlite")


def migrated(url: str) -> Iterator[Engine]:
    engine = create_ledger_engine(url)
    migrate(engine)
    yield engine
    engine.dispose()


def measure(name: str, engine: Engine, options: argparse.Namespace, progress: Progress) -> Measured:
    found = Measured(name)
    write(found, engine, options, progress)
    found.row_bytes = row_bytes(engine, options.write)
    if options.sums_only:
        sum_up(engine, options.write, options.records, progress)
    else:
        multiply(engine, options.write, options.records, progress)
        task = progress.add_task(f"{name}: summing up", total=None)
        rebuild_rollups(engine, lambda done, total: progress.update(task, completed=done, total=total))
        progress.remove_task(task)
    report(found, engine)
    found.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def write(found: Measured, engine: Engine, options: argparse.Namespace, progress: Progress) -> None:
    """As the writer's process would. The making of the records is not counted."""
    ledger, process = SqlLedger(engine), psutil.Process()
    collect_rarely()
    task = progress.add_task(f"{found.database}: writing", total=options.write)
    made, done, wall_s, cpu_s, warm_bytes = records(options.write), 0, 0.0, 0.0, 0
    while batch := list(islice(made, options.batch)):
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        ledger.append(batch)
        wall_s += time.perf_counter() - started_s
        cpu_s += time.process_time() - started_cpu_s
        done += len(batch)
        if not warm_bytes and done >= WARM_UP * options.write:
            warm_bytes = process.memory_info().rss
        progress.update(task, completed=done)
    progress.remove_task(task)
    found.written_per_s, found.cpu_us = done / wall_s, cpu_s / done * 1e6
    found.grown_mib = (process.memory_info().rss - warm_bytes) / 2**20


def moved_per_s(engine: Engine, options: argparse.Namespace, progress: Progress) -> float:
    """From the stream in Redis to the ledger. What fills the stream is not counted."""
    with tempfile.TemporaryDirectory(prefix="stream-") as folder, redis_client(Path(folder)) as client:
        made = records(options.write)
        while batch := list(islice(made, options.batch)):
            with client.pipeline(transaction=False) as pipeline:
                for record in batch:
                    pipeline.xadd(SPEND_STREAM, {"record": orjson.dumps(record.to_json())})
                pipeline.execute()
        writer = LedgerWriter(client, SqlLedger(engine), SPEND_STREAM, consumer="it", batch_size=options.batch)
        task = progress.add_task(f"{engine.dialect.name}: moving from the stream", total=options.write)
        started_s = time.perf_counter()
        while moved := writer.move_batch():
            progress.advance(task, moved)
        progress.remove_task(task)
        assert writer.counts.booked == options.write, writer.counts
        return options.write / (time.perf_counter() - started_s)


def row_bytes(engine: Engine, count: int) -> float:
    """Of the pages of the rows and of the texts that they share, without indexes."""
    names = ("ledger_rows", "ledger_dimensions", "ledger_attributes", "ledger_templates")
    if engine.dialect.name == "sqlite":
        query = f"SELECT sum(pgsize) FROM dbstat WHERE name IN {names}"
    else:
        partitions = "relname ~ '^ledger_rows_([0-9]{4}_[0-9]{2}|other)$'"
        query = f"SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE {partitions} OR relname IN {names}"
    with reading(engine) as connection:
        return float(connection.execute(text(query)).scalar_one()) / count


def multiply(engine: Engine, written: int, wanted: int, progress: Progress) -> None:
    """Fills the month by copies of the records under new ids, at random times."""
    sqlite = engine.dialect.name == "sqlite"
    values = dict.fromkeys(ROW_COLUMNS, "") | {name: name for name in ROW_COLUMNS}
    chance = "abs(random() % 1000003) / 1000003.0" if sqlite else "random()"
    values["started_at_ms"] = f"{MONTH_MS} + CAST({chance} * {MONTH_LENGTH_MS} AS BIGINT)"
    values["request_id"] = "randomblob(13)" if sqlite else "substr(uuid_send(gen_random_uuid()), 1, 13)"
    copy = (
        f"INSERT INTO ledger_rows ({', '.join(values)}) SELECT {', '.join(values.values())} FROM ledger_rows "
        f"WHERE started_at_ms <= {MONTH_MS + written * APART_MS} LIMIT :some"
    )
    task = progress.add_task(f"{engine.dialect.name}: filling the month", total=wanted)
    count = written
    while count < wanted:
        some = min(wanted - count, written)
        with writing(engine) as connection:
            connection.execute(text(copy), {"some": some})
        count += some
        progress.update(task, completed=count)
    progress.remove_task(task)
    analyze(engine)


def sum_up(engine: Engine, written: int, wanted: int, progress: Progress) -> None:
    """Sums of each hour of the month, as many records in it as in every other, `wanted` in all."""
    hour_count, rng = MONTH_LENGTH_MS // HOUR_MS, random.Random(5)
    totals = ", ".join(f"sum({name})" for name in SUMS)
    add = text(
        f"INSERT INTO hourly_sums (dimension_id, hour_ms, request_count, {', '.join(SUMS)}) "
        f"SELECT dimension_id, :hour_ms, count(*), {totals} FROM "
        "(SELECT * FROM ledger WHERE started_at_ms >= :from_ms ORDER BY started_at_ms LIMIT :some) AS run "
        "GROUP BY dimension_id"
    )
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM hourly_sums"))
    for hour in progress.track(range(hour_count), description=f"{engine.dialect.name}: summing up hours"):
        some = wanted * (hour + 1) // hour_count - wanted * hour // hour_count
        assert some <= written, "an hour has more records than were written"
        from_ms = MONTH_MS + rng.randrange(written - some + 1) * APART_MS
        with writing(engine) as connection:
            connection.execute(add, {"hour_ms": MONTH_MS + hour * HOUR_MS, "from_ms": from_ms, "some": some})
    analyze(engine)


def analyze(engine: Engine) -> None:
    """PostgreSQL does so by itself, a minute later."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))


def report(found: Measured, engine: Engine) -> None:
    """Of savings, as `parsimony report savings --by team --by model` makes it, from the first question to the table."""
    books, by = SqlBooks(engine), ("team", "model")
    month = ReportPeriod(MONTH_MS, MONTH_MS + MONTH_LENGTH_MS)
    times = []
    for _ in range(REPORTS):
        started_s = time.perf_counter()
        account = take_account(books, Question(month, by))
        savings_table(account, by, provenance(books, account), MONTH_MS)
        times.append(time.perf_counter() - started_s)
    found.report_s = sorted(times)[REPORTS // 2]
    found.record_count = account.total.figures.request_count
    with reading(engine) as connection:
        found.rollup_count = connection.execute(text("SELECT count(*) FROM hourly_sums")).scalar_one()


def table(found: list[Measured]) -> Table:
    shown = Table(title="The ledger")
    headings = (
        "database",
        "records/s written",
        "own CPU, µs each",
        "moved from Redis/s",
        "memory grown, MiB",
        "bytes a row",
        "records a month",
    )
    for heading in (*headings, "hourly sums", "savings by team and model, s", "peak memory, MiB"):
        shown.add_column(heading, justify="left" if heading == "database" else "right")
    for each in found:
        shown.add_row(
            each.database,
            f"{each.written_per_s:,.0f}",
            f"{each.cpu_us:.1f}",
            f"{each.moved_per_s:,.0f}",
            f"{each.grown_mib:.1f}",
            f"{each.row_bytes:.0f}",
            f"{each.record_count:,}",
            f"{each.rollup_count:,}",
            f"{each.report_s:.3f}",
            f"{each.peak_mib:,.0f}",
        )
    return shown


if __name__ == "__main__":
    main()
