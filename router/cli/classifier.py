"""`parsimony classifier`: how good is the classifier, on data that say what two models made of the same prompts?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from classifiers import registry
from classifiers.base import DEFAULT_CLASSIFIER
from classifiers.training import picture
from classifiers.training.contenders import Contender, contenders
from classifiers.training.datasets import DatasetError, Example, read
from classifiers.training.evaluation import FIGURES, PRICE_RATIO, RESAMPLES, Evaluation, Settings, evaluate, text_count
from classifiers.training.latency import Latency, measure_latency, timing_count
from classifiers.training.report import (
    HEADINGS,
    Report,
    as_json,
    as_markdown,
    cell,
    facts,
    latency_cells,
    legend,
    sources,
    title,
)
from router.cli.classifier_calibrate import calibrate_targets
from router.cli.classifier_fit import fit_evidence
from router.cli.options import FAILED, USAGE, JsonOption, fail, warn

app = typer.Typer(help="Measure the classifier, and fit it to your own traffic.", no_args_is_help=True)
app.command("fit")(fit_evidence)
app.command("calibrate")(calibrate_targets)

_PIPED_COLUMNS = 120
_REDRAWS = 100


@app.callback()
def classifier() -> None:
    """Measure the classifier, and fit it to your own traffic."""


@app.command("evaluate")
def evaluate_files(
    data: Annotated[
        list[Path], typer.Option("--data", help="JSON lines, gzip or not; more files may follow, or repeat it.")
    ],
    more_data: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False)] = None,
    weak_model: Annotated[str | None, typer.Option("--weak-model", help="Only this small model's examples.")] = None,
    strong_model: Annotated[str | None, typer.Option("--strong-model", help="Only this large model's.")] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="Only prompts of this language: en, zh.")] = None,
    name: Annotated[str, typer.Option("--classifier", help="As the configuration names it.")] = DEFAULT_CLASSIFIER,
    price_ratio: Annotated[
        float, typer.Option("--price-ratio", min=1.0, help="What a call of the large model costs in small ones.")
    ] = PRICE_RATIO,
    drop_contaminated: Annotated[
        bool,
        typer.Option(
            "--drop-contaminated/--keep-contaminated", help="Leave out what the data mark as contaminated, as RouteLLM."
        ),
    ] = True,
    with_litellm: Annotated[
        bool, typer.Option("--litellm/--no-litellm", help="Beside it LiteLLM's complexity router: a ms a prompt.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the resamples.")] = 0,
    resamples: Annotated[int, typer.Option("--resamples", min=20, help="For the intervals.")] = RESAMPLES,
    picture_path: Annotated[
        Path | None, typer.Option("--picture", help="Draw cost against quality, .svg or .png; reliability beside it.")
    ] = None,
    markdown_path: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as a page.")] = None,
    as_json_: JsonOption = False,
) -> None:
    """Compare a classifier with length, chance, rules and published figures; a table a file and pair of models."""
    settings = Settings(price_ratio, resamples, seed, drop_contaminated)
    try:
        if picture_path:
            picture.check(picture_path)
        judge = registry.create(name)
        files = [
            (path.name, read(path, weak_model=weak_model, strong_model=strong_model, lang=lang))
            for path in (*data, *(more_data or ()))
        ]
        with _progress() as advance_of:
            evaluations = _evaluate(files, contenders(name, with_litellm=with_litellm), settings, advance_of)
            texts = list(dict.fromkeys(example.prompt for _, examples in files for example in examples))
            advance = advance_of("timing", timing_count())
            latency = measure_latency(judge, texts, np.random.default_rng(seed), timed=advance)
    except (DatasetError, picture.PictureError, ValueError) as error:
        fail(str(error), USAGE)
    report = Report(name, settings, tuple(evaluations), latency)
    # Printed first: a file that cannot be written must not take minutes of work with it.
    if as_json_:
        typer.echo(orjson.dumps(as_json(report), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(report, _console())
    _write_files(report, picture_path, markdown_path)


def _evaluate(
    files: Sequence[tuple[str, list[Example]]],
    compared: Sequence[Contender],
    settings: Settings,
    advance_of: Callable[[str, int], Callable[[], None]],
) -> list[Evaluation]:
    found: list[Evaluation] = []
    for source, examples in files:
        advance = advance_of(source, text_count(examples, compared, settings))
        found.extend(evaluate(source, examples, compared, settings, advance))
    return found


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """A bar a step on stderr, gone when all is done: stdout is for what was asked.

    Drawn between steps by this thread: one that draws by itself would take turns with what is being timed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:

        def start(name: str, total: int) -> Callable[[], None]:
            task = progress.add_task(name, total=total)
            steps = count(1)

            def advance() -> None:
                progress.advance(task)
                if next(steps) % max(1, total // _REDRAWS) == 0:
                    progress.refresh()

            return advance

        yield start


def _write_files(report: Report, picture_path: Path | None, markdown_path: Path | None) -> None:
    try:
        if markdown_path:
            markdown_path.write_text(as_markdown(report), encoding="utf-8")
            warn(f"wrote {markdown_path}")
        if picture_path:
            for written in picture.draw(report.evaluations, picture_path):
                warn(f"wrote {written}")
    except OSError as error:
        fail(f"{error.filename}: cannot be written ({error.strerror})", FAILED)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPED_COLUMNS)


def _print(report: Report, console: Console) -> None:
    for evaluation in report.evaluations:
        console.print(Text(title(evaluation), style="bold"), Text(facts(evaluation)), sep="\n")
        console.print(_table(evaluation))
    for line in (*legend(report.settings), *sources(report.evaluations)):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(_latency_table(report.classifier, report.latency))


def _table(evaluation: Evaluation) -> Table:
    """A row a router, its interval below the figure, so that all of it fits 120 characters."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("router", no_wrap=True)
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for number, row in enumerate(evaluation.rows):
        cells = [cell(name, getattr(row.figures, name)) for name in FIGURES]
        style = "bold" if number == 0 else ""
        table.add_row(Text(row.name, style), *(Text(value, style) for value, _ in cells))
        if any(span for _, span in cells):
            table.add_row("", *(Text(span, "dim") for _, span in cells))
    table.add_row("")
    return table


def _latency_table(name: str, latency: Sequence[Latency]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in (f"{name}: tokens, about", "messages", "p50, ms", "p99, ms"):
        table.add_column(heading, justify="right")
    for each in latency:
        table.add_row(*latency_cells(each))
    return table
