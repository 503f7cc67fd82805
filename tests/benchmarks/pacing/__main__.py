"""Simulate a month under a budget that does not reach: first come, first served against pacing."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from classifiers.training.datasets import DatasetError
from classifiers.training.picture import PictureError
from classifiers.training.picture import check as check_picture
from tests.benchmarks.pacing.picture import draw
from tests.benchmarks.pacing.policies import POLICIES, STEEPNESSES
from tests.benchmarks.pacing.prompts import Prompts, RecordedPrompts, SyntheticPrompts
from tests.benchmarks.pacing.report import render
from tests.benchmarks.pacing.simulation import Results, Setting, simulate
from tests.benchmarks.pacing.traffic import SCENARIOS

BUDGET_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
STEEPNESS_SHARES = (0.2, 0.6, 1.0)
STEEPNESS_SCENARIOS = tuple(scenario for scenario in SCENARIOS if scenario.name in ("base", "burst"))
REQUESTS, SEEDS = 20_000, 20
QUICK_REQUESTS, QUICK_SEEDS = 4_000, 3
DRAWN = ("base", 0.4)
"""Scenario and budget of the picture."""


def main() -> None:
    """Read the options, simulate, print and write."""
    options = read_options()
    console = Console()
    started = time.monotonic()
    prompts: list[Prompts] = [SyntheticPrompts()]
    try:
        if options.picture:
            check_picture(options.picture)
        if options.data:
            console.print("classifying the recorded prompts")
            prompts.insert(0, RecordedPrompts(options.data))
    except (DatasetError, PictureError) as error:
        raise SystemExit(str(error)) from None
    requests, seeds = (QUICK_REQUESTS, QUICK_SEEDS) if options.quick else (REQUESTS, SEEDS)
    results, steeper = run(prompts, requests, seeds, console)
    page = render(results, steeper, prompts, requests, seeds, _command())
    console.print(Markdown(page) if console.is_terminal else page, soft_wrap=not console.is_terminal)
    if options.markdown:
        options.markdown.write_text(page, encoding="utf-8")
    if options.picture:
        draw(results, Setting(prompts[0].name, *DRAWN, "paced"), options.picture)
    console.print(f"{time.monotonic() - started:.0f} s; how to read this: tests/benchmarks/README.md")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pacing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller months: a smoke test")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds routing/dev: adds the recorded prompts")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw spend and quality there (.svg or .png)")
    return parser.parse_args()


def run(prompts: list[Prompts], requests: int, seeds: int, console: Console) -> tuple[Results, Results]:
    """The comparison and that of the steepnesses, with progress shown."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    total = len(SCENARIOS) * len(BUDGET_SHARES) + len(STEEPNESS_SCENARIOS) * len(STEEPNESS_SHARES)
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("drawing the first months", total=total * len(prompts))

        def advance(what: str) -> None:
            progress.update(task, description=what, advance=1)

        results = simulate(prompts, SCENARIOS, BUDGET_SHARES, POLICIES, requests, seeds, advance)
        steeper = simulate(prompts, STEEPNESS_SCENARIOS, STEEPNESS_SHARES, STEEPNESSES, requests, seeds, advance)
    return results, steeper


def _command() -> str:
    """As it was given, less where the caller keeps things."""
    return " ".join(["python -m tests.benchmarks.pacing", *sys.argv[1:]])


if __name__ == "__main__":
    main()
