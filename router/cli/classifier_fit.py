"""`parsimony classifier fit`: what judged requests of one's own say about the classifier, and about each task."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from classifiers.adapted import name_of
from classifiers.base import Classifier
from classifiers.evidence import EVIDENCE_LIMIT, Evidence, EvidenceError, newest, read
from classifiers.forest import Measuring
from classifiers.posterior import Fit
from classifiers.training.fit import HALF_LIFE_DAYS, fit
from classifiers.training.fit_report import Calibration, GroupLine, Learned, as_json, learned, usable
from classifiers.training.stacking import ForestReport, stacked_by_model
from router.cli.options import FAILED, USAGE, ConfigOption, JsonOption, fail, warn
from router.config import Config, default_config_path, load_config
from router.errors import ConfigError
from router.lineup import construct_classifier, sha256_of

_SHOWN_GROUPS = 20
_PIPED_COLUMNS = 120
_EXCERPT_CELLS = 48
_LEVELS = {"task": "Kind of task", "application": "Application", "opening": "Template"}


def fit_evidence(
    evidence: Annotated[
        list[Path], typer.Option("--evidence", help="JSON lines, gzip or not; more files may follow, or repeat it.")
    ],
    more_evidence: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False)] = None,
    small_model: Annotated[str | None, typer.Option("--small-model", help="Only this small model's evidence.")] = None,
    half_life_days: Annotated[
        float, typer.Option("--half-life-days", min=0.01, help="After so long a judgement weighs half as much.")
    ] = HALF_LIFE_DAYS,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write; else where the configuration's classifier.evidence is."),
    ] = None,
    config: ConfigOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Learn from judged requests how hard each task is, and how far to believe the configured classifier."""
    if not isfinite(half_life_days):
        fail(f"--half-life-days: found {half_life_days:g}; allowed: a number of days from 0.01 on", USAGE)
    settings, classifier = _configured(config)
    path = out or settings.classifier.evidence
    _keep_what_serves(settings, path)
    paths = [*evidence, *(more_evidence or [])]
    name, now_s = name_of(classifier), time.time()
    with _spinner("reading and judging"):
        found = newest(_evidence(paths, classifier, now_s, small_model))
    kept, left_out = usable(found, name)
    _check(kept, left_out, name, small_model)
    with _spinner("fitting"):
        fitted, reports = _fitted(kept, classifier, name, now_s, half_life_days)
    if as_json_:
        typer.echo(orjson.dumps(as_json(fitted, reports), option=orjson.OPT_INDENT_2))
    else:
        _print(reports, name)
    if len(found) == EVIDENCE_LIMIT:
        warn(f"only the newest {EVIDENCE_LIMIT} judgements were used")
    if left_out:
        warn(f"{left_out} judgements were left out: they carry the scores of another classifier than {name}")
    if path is None:
        warn("nothing was written: name a file with --out, and in the configuration's classifier.evidence")
        return
    try:
        replace(fitted, learned_from=tuple(map(sha256_of, paths))).write(path)
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror or error})", FAILED)
    warn(f"wrote {path}; servers read it when they start")


def _keep_what_serves(settings: Config, out: Path | None) -> None:
    """Other evidence than the table was calibrated for ends a server as soon as one of its workers starts again."""
    configured, table = settings.classifier.evidence, settings.classifier.quality_targets
    if out is not None and configured is not None and table is not None and out.resolve() == configured.resolve():
        fail(
            f"{out}: {table} was calibrated for it, and servers that run would not survive the start of a worker; "
            "allowed: another file as --out, a table for that by `classifier calibrate --evidence`, then both in the "
            "configuration",
            USAGE,
        )


def _fitted(
    evidence: Sequence[Evidence], classifier: Classifier, name: str, now_s: float, half_life_days: float
) -> tuple[Fit, list[Learned]]:
    """First the forests, where the classifier tells what it measures; on their scores, what tells groups apart."""
    if not isinstance(classifier, Measuring):
        fitted = fit(evidence, name, now_s, half_life_days=half_life_days)
        return fitted, learned(fitted, evidence)
    models = stacked_by_model(evidence, now_s, half_life_days)
    scored = [item for each in models.values() for item in each.items]
    stacks = {model: each.stack for model, each in models.items()}
    fitted = fit(scored, name, now_s, half_life_days=half_life_days, stacks=stacks)
    return fitted, learned(fitted, scored, {model: each.report for model, each in models.items()})


def _configured(config: Path | None) -> tuple[Config, Classifier]:
    """The configuration and the classifier that serves by it, without the evidence that it may have already."""
    try:
        settings = load_config(config or default_config_path())
        return settings, construct_classifier(settings.classifier.name)
    except (ConfigError, ValueError) as error:
        fail(str(error), USAGE)


def _evidence(
    paths: Sequence[Path], classifier: Classifier, now_s: float, small_model: str | None
) -> Iterator[Evidence]:
    try:
        for item in chain.from_iterable(read(path, classifier, now_s) for path in paths):
            if small_model in (None, item.small_model):
                yield item
    except EvidenceError as error:
        fail(str(error), USAGE)


def _check(kept: Sequence[Evidence], left_out: int, name: str, small_model: str | None) -> None:
    if kept:
        return
    whose = f" on {small_model}" if small_model else ""
    why = f"; {left_out} judgements carry the scores of another classifier than {name}" if left_out else ""
    fail(f"there is no evidence{whose} to learn from{why}", USAGE)


def _spinner(text: str) -> Progress:
    """Seen on a terminal only."""
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(), TextColumn(text), console=console, transient=True, disable=not console.is_terminal
    )
    progress.add_task(text, total=None)
    return progress


# ---- for people ----------------------------------------------------------------------------------


def _print(reports: Sequence[Learned], name: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
    for report in reports:
        console.print(
            Text.assemble(
                (report.small_model, "bold"),
                f"   {report.judgements} judgements, weight {report.weight:.0f}   scores of {name} count "
                f"{report.slope_between:.2f} between tasks, {report.slope_within:.2f} within one",
            )
        )
        if report.calibration is not None:
            console.print(_sentence(report.calibration))
        if report.forest is not None:
            console.print(_forest_sentence(report.forest))
        for level, title in _LEVELS.items():
            lines = [line for line in report.groups if line.level == level]
            if lines:
                console.print(_table(title, lines))
        for warning in report.warnings:
            console.print(Text(warning, style="yellow"))
        console.print()


def _sentence(calibration: Calibration) -> str:
    return (
        f"on {calibration.judgements} judgements, each held back in turn: Brier {calibration.brier_before:.3f} before, "
        f"{calibration.brier_after:.3f} after; mean outcome {calibration.mean_outcome:.3f}, mean score "
        f"{calibration.mean_before:.3f} before, {calibration.mean_after:.3f} after"
    )


def _forest_sentence(forest: ForestReport) -> str:
    if forest.prompts < forest.needed:
        return f"no forest: {forest.prompts} different prompts came with their text, needed are {forest.needed}"
    if forest.brier_without is None or forest.brier_with is None:
        return f"no forest: of {forest.prompts} different prompts, it predicts nothing of those held back"
    return (
        f"{'a forest' if forest.used else 'no forest'}, learned from {forest.prompts} different prompts: Brier on "
        f"judgements held back {forest.brier_without:.4f} without it, {forest.brier_with:.4f} with it"
    )


def _table(title: str, lines: Sequence[GroupLine]) -> Table:
    more = len(lines) - _SHOWN_GROUPS
    table = Table(title=title, title_justify="left", caption=f"and {more} more (--json has all)" if more > 0 else None)
    for heading in ("judged", "outcome", "prior", "posterior"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    table.add_column("begins with", no_wrap=True, overflow="ellipsis", max_width=_EXCERPT_CELLS)
    for line in lines[:_SHOWN_GROUPS]:
        table.add_row(
            f"{line.judged:.0f}",
            f"{line.mean_outcome:.3f}",
            f"{line.prior_score:.3f}",
            f"{line.posterior_score:.3f} ± {line.posterior_sd:.3f}",
            Text(line.key),
            Text(line.excerpt),
        )
    return table
