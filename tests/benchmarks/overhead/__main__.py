"""Measure what Parsimony costs beside bare pass-through proxies and LiteLLM, and what budgets add; print the tables."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.benchmarks.overhead import budgets
from tests.benchmarks.overhead.measure import CORES, Bench, Options, Row
from tests.benchmarks.overhead.table import notes, render
from tests.benchmarks.overhead.targets import Target, all_targets

QUICK_SECONDS = 1.2
SLOW = {"litellm"}  # takes ten seconds to start
REPORTS_A_TARGET = 7
REPORTS_DIRECT = 4
REPORTS_BUDGETS = 2
BUSY_LOAD = 0.5
WIDTH = 170


def main() -> None:
    """Read the options, measure, print."""
    options, chosen, with_budgets = read_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if os.getloadavg()[0] > BUSY_LOAD:
        console.print(
            f"[yellow]Other work runs on this machine (load {os.getloadavg()[0]:.1f}): figures will be low.[/]"
        )
    settings = Options(options.seconds, options.connections, options.rate, options.gap_ms, options.repeat_share)
    started = time.monotonic()
    try:
        rows, comparison = measure(settings, chosen, with_budgets, console)
    except KeyboardInterrupt:
        raise SystemExit("interrupted; every process has been ended") from None
    if console.width < WIDTH:
        console = Console(width=WIDTH)
    if rows:
        console.print(render(rows, settings.connections, settings.rate))
    for line in notes(rows):
        console.print(f"[yellow]{line}[/yellow]", soft_wrap=True)
    if comparison is not None:
        console.print(budgets.render(comparison))
    console.print(f"{time.monotonic() - started:.0f} s; how to read this: tests/benchmarks/README.md")
    if options.json:
        options.json.write_bytes(orjson.dumps(as_json(settings, rows, comparison), option=orjson.OPT_INDENT_2))


def read_options() -> tuple[argparse.Namespace, Sequence[Target], bool]:
    """The command line, the targets it names, and whether it wants to know what budgets cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"loads of {QUICK_SECONDS} s, no LiteLLM: a smoke test")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="aiohttp, pyreqwest, parsimony, litellm, budgets")
    parser.add_argument("--seconds", type=float, help="the length of each load (default 6)")
    parser.add_argument("--connections", type=int, default=64, help="connections of the closed loops")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second of the fixed schedule")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="time between the chunks of the upstream's streams")
    parser.add_argument("--repeat-share", type=float, default=0.0, help="share of requests that repeat earlier ones")
    parser.add_argument(
        "--litellm", metavar="PROGRAM", help="the litellm command; else LITELLM_COMMAND, else installed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else Options().seconds)
    targets = all_targets(options.litellm)
    names = [*(target.key for target in targets), budgets.KEY]
    unknown = sorted(set(options.only or ()) - set(names))
    if unknown:
        parser.error(f"--only: no such target: {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = set(options.only or names) - (SLOW if options.quick and not options.only else set())
    return options, [target for target in targets if target.key in wanted], budgets.KEY in wanted


def measure(
    options: Options, targets: Sequence[Target], with_budgets: bool, console: Console
) -> tuple[list[Row], budgets.Comparison | None]:
    """Every row of the tables, with progress shown."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        total = (REPORTS_DIRECT + REPORTS_A_TARGET * len(targets) if targets else 0) + REPORTS_BUDGETS * with_budgets
        task = progress.add_task("starting the upstream", total=total)

        def report(what: str) -> None:
            progress.update(task, description=what, advance=1)

        bench = Bench(options, report)
        with bench.upstream():
            rows = [bench.measure_direct(), *(bench.measure(target) for target in targets)] if targets else []
            return rows, budgets.compare(bench, options.seconds, report) if with_budgets else None


def as_json(options: Options, rows: Sequence[Row], comparison: budgets.Comparison | None) -> dict[str, object]:
    """Everything measured, with what it was measured on."""
    return {
        "options": asdict(options),
        "machine": {"cores": len(CORES), "load": os.getloadavg(), "python": platform.python_version()},
        "rows": [asdict(row) for row in rows],
        "budgets": None
        if comparison is None
        else asdict(comparison) | {"ratio": comparison.ratio, "cpu_ratio": comparison.cpu_ratio},
    }


if __name__ == "__main__":
    main()
