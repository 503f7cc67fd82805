"""`parsimony replay`: what a log of one's own says that routing would have spent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from router.cli.options import FAILED, USAGE, ConfigOption, fail, targets_of, warn
from router.clock import SYSTEM_CLOCK
from router.config import default_config_path, load_config
from router.errors import ParsimonyError
from router.replay import run
from router.replay.batches import part_batches
from router.replay.forecast import Forecast, forecast
from router.replay.format_plain import COLUMNS
from router.replay.formats import FORMATS
from router.replay.picture import as_svg
from router.replay.plan import Plan, make_plan
from router.replay.render import as_csv, as_json, print_forecast
from router.replay.sources import Position, find_logs, size_of

Output = Literal["table", "json", "csv"]
_INTERRUPTED = 130
_PIPED_COLUMNS = 180


def replay(
    logs: Annotated[list[str], typer.Argument(metavar="LOGS...", help="Files, .gz or not; folders; - for stdin.")],
    alias: Annotated[str | None, typer.Option("--alias", help="Whose deployments to route to; else the first.")] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", help="Quality targets, as in 0.9,0.95; else all that are calibrated.")
    ] = None,
    input_format: Annotated[
        str | None, typer.Option("--input-format", help=f"One of {', '.join(FORMATS)}; else each record tells its own.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help=f"As in model=Model; of {', '.join(COLUMNS)}. Repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A model of the log by its name in the price list, as in my-gpt=gpt-4."),
    ] = None,
    output: Annotated[Output, typer.Option("--format", help="How to print it.")] = "table",
    picture: Annotated[Path | None, typer.Option("--picture", help="Write cost against quality, as SVG.")] = None,
    bad_rows: Annotated[Path | None, typer.Option("--bad-rows", help="Write all bad rows here, as JSON lines.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Keep the state here, and go on from it after an interruption.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=256, help="Processes; else one a core.")
    ] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Without the progress bar.")] = False,
    config: ConfigOption = None,
) -> None:
    """Reckon what logs of the past would have cost here, at several quality targets. Nothing is called."""
    if input_format is not None and input_format not in FORMATS:
        fail(f"--input-format: found {input_format!r}; allowed: {', '.join(FORMATS)}", USAGE)
    try:
        found_logs = find_logs(logs)
        _keep_apart(found_logs, {"--picture": picture, "--bad-rows": bad_rows, "--checkpoint": checkpoint})
        paths, batches = part_batches(found_logs)
        plan = make_plan(
            load_config(config or default_config_path()),
            alias,
            None if targets is None else targets_of(targets),
            int(SYSTEM_CLOCK.wall() * 1_000),
            # Columns that were named have a meaning in flat records only.
            input_format or ("plain" if column else None),
            _pairs("--column", column, allowed=tuple(COLUMNS)),
            _pairs("--model", model),
            batches,
        )
        found = _replayed(paths, plan, workers or run.cores(), run.Saving(checkpoint, bad_rows), no_progress)
    except (ParsimonyError, ValueError, OSError) as error:
        fail(str(error), USAGE)
    except KeyboardInterrupt:
        kept = f"; {checkpoint} holds what was done, the same command goes on from there" if checkpoint else ""
        fail(f"interrupted{kept}", _INTERRUPTED)
    _print(found, output)
    if picture is not None:
        _write(picture, as_svg(found))
    if not found.judged:
        hint = "see what is said of bad rows and of rows without text" if found.rows else "the logs hold no rows"
        warn(f"no request could be judged: {hint}")
        raise typer.Exit(FAILED)


def _replayed(paths: Sequence[str], plan: Plan, workers: int, saving: run.Saving, quiet: bool) -> Forecast:
    with _progress(paths, quiet) as progress:
        sums = run.replay(paths, plan, workers, saving, progress)
    return forecast(sums, plan, tuple(paths))


@contextmanager
def _progress(paths: Sequence[str], quiet: bool) -> Iterator[run.Progress]:
    """By bytes, of which the whole is known; on stderr, and on terminals alone."""
    console = Console(stderr=True)
    rows_column = TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s")
    columns = (TextColumn("replaying"), BarColumn(), TaskProgressColumn(), DownloadColumn(), rows_column)
    total = size_of(paths)
    before = [0] * (len(paths) + 1)
    if total is not None:
        for index, name in enumerate(paths):
            before[index + 1] = before[index] + Path(name).stat().st_size
    shown = Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet or not console.is_terminal)
    with shown:
        task = shown.add_task("", total=total, rows=0, rate=0.0)

        def told(position: Position, read_bytes: int, rows: int) -> None:
            elapsed = shown.tasks[task].elapsed or 0.0
            done = before[position.file] + read_bytes
            shown.update(task, completed=done, rows=rows, rate=rows / elapsed if elapsed else 0.0)

        yield told


def _keep_apart(logs: Sequence[str], written: Mapping[str, Path | None]) -> None:
    """Raises ValueError where a log would be overwritten, or what was written be read as one, or two be one file."""
    taken = {Path(name).resolve(): "one of the logs" for name in logs}
    for option, path in written.items():
        own = f"what {option} writes"
        if path is not None and (other := taken.setdefault(path.resolve(), own)) != own:
            raise ValueError(f"{option}: found {path}, which is {other}; name another file")


def _pairs(option: str, given: Sequence[str] | None, allowed: Sequence[str] = ()) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not name or not equals or not value or (allowed and name not in allowed):
            hint = f", of {', '.join(allowed)}" if allowed else ""
            raise ValueError(f"{option}: found {text!r}; it must be NAME=VALUE{hint}")
        pairs[name] = value
    return pairs


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror or error})", USAGE)


def _print(found: Forecast, output: Output) -> None:
    if output == "json":
        typer.echo(orjson.dumps(as_json(found), option=orjson.OPT_INDENT_2).decode())
    elif output == "csv":
        typer.echo(as_csv(found), nl=False)
    else:
        print_forecast(found, Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS))
