"""`parsimony classifier calibrate`: the quality targets' thresholds, from judged prompts of one's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from classifiers import registry
from classifiers.adapted import AdaptedClassifier
from classifiers.base import Classifier, Prompt
from classifiers.calibration import JudgedFile, OwnTable, scores_of
from classifiers.evidence import EvidenceError, prompt_of
from classifiers.learned import LearnedClassifier
from classifiers.posterior import read as read_fit
from classifiers.quality import QualityTargets
from classifiers.training.datasets import REQUEST, DatasetError, Example, by_pair, read
from classifiers.training.risk_control import DELTA, TARGETS, judged, quality_targets
from router.cli.options import FAILED, USAGE, ConfigOption, JsonOption, fail, targets_of, warn
from router.config import Config, default_config_path, load_config
from router.errors import ConfigError
from router.lineup import choose_classifier, sha256_of

_PIPED_COLUMNS = 120
_ALL_TARGETS = ",".join(map(str, TARGETS))
_OTHER_PROMPTS = (
    "the promise holds for prompts that the classifier has not learned from: those that `classifier fit` read must not "
    "be among these"
)


@dataclass(frozen=True, slots=True)
class _File:
    """A file of judged prompts, of one pair of models; `requests` are those of the examples, as they came."""

    path: Path
    sha256: str
    examples: Sequence[Example]
    requests: Sequence[Prompt]


def calibrate_targets(
    data: Annotated[
        list[Path], typer.Option("--data", help="JSON lines, gzip or not; more files may follow, or repeat it.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Where to write; name it as classifier.quality_targets.")],
    more_data: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", show_default=False)] = None,
    weak_model: Annotated[str | None, typer.Option("--weak-model", help="Only this small model's prompts.")] = None,
    strong_model: Annotated[str | None, typer.Option("--strong-model", help="Only this large model's.")] = None,
    classifier: Annotated[str | None, typer.Option("--classifier", help="In place of the configured one.")] = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", help="What `classifier fit` wrote, in place of the configured one.")
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Of each target, above 0 and below 1.")] = 1 - DELTA,
    targets: Annotated[
        str, typer.Option("--targets", help="Shares of the large model's quality to keep, with commas between.")
    ] = _ALL_TARGETS,
    config: ConfigOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Find the threshold of each quality target on judged prompts of your own, other than those `fit` learned from."""
    wanted = targets_of(targets)
    if not 0.0 < confidence < 1.0:
        fail(f"--confidence: found {confidence:g}; allowed: above 0 and below 1", USAGE)
    try:
        settings = _settings(config, classifier, evidence)
        if classifier or evidence:
            _keep_what_serves(settings, out)
        judge = choose_classifier(settings)
        files = _files([*data, *(more_data or ())], weak_model, strong_model)
        _refuse_learned_from(files, judge, settings.classifier.evidence)
        scores = scores_of(judge, sha256_of(settings.classifier.evidence))
    except (ConfigError, ValueError) as error:
        fail(str(error), USAGE)
    table = _calibrated(files, judge, wanted, 1.0 - confidence)
    own = OwnTable(scores, tuple(map(_judged_file, files)), table)
    if as_json_:
        typer.echo(orjson.dumps(own.as_json(), option=orjson.OPT_INDENT_2))
    else:
        _print(own)
    warn(_OTHER_PROMPTS)
    try:
        own.write(out)
    except OSError as error:
        fail(f"{out}: cannot be written ({error.strerror or error})", FAILED)
    warn(f"wrote {out}; name it as classifier.quality_targets, servers read it when they start")


def _settings(path: Path | None, name: str | None, evidence: Path | None) -> Config:
    """The configuration, with what the command line says of the classifier in place of what the file does."""
    settings = load_config(path or default_config_path())
    given = {"name": name, "evidence": evidence}
    update = {key: value for key, value in given.items() if value is not None}
    return settings.model_copy(update={"classifier": settings.classifier.model_copy(update=update)})


def _keep_what_serves(settings: Config, out: Path) -> None:
    """A table of other scores than those that serve ends a server as soon as one of its workers starts again."""
    served = settings.classifier.quality_targets
    if served is not None and out.resolve() == served.resolve():
        fail(
            f"{out}: serves with the configured classifier and evidence, and this table would be for others; "
            "allowed: another file as --out, then all of them in the configuration",
            USAGE,
        )


def _files(paths: Sequence[Path], weak_model: str | None, strong_model: str | None) -> list[_File]:
    """The files' prompts. DatasetError where they are of several pairs of models: which holds is not ours to guess."""
    files = [_file(path, read(path, weak_model=weak_model, strong_model=strong_model)) for path in paths]
    counts = {pair: len(rows) for pair, rows in by_pair(e for file in files for e in file.examples).items()}
    if len(counts) > 1:
        found = ", ".join(f"{small} -> {large} ({count} prompts)" for (small, large), count in counts.items())
        raise DatasetError(f"found several pairs of models: {found}; choose one with --weak-model and --strong-model")
    repeated = {file.sha256 for file in files}
    if len(repeated) < len(files):
        raise DatasetError("found one file twice: its prompts would count as twice as many")
    return files


def _file(path: Path, examples: Sequence[Example]) -> _File:
    return _File(path, sha256_of(path), examples, [_request(path, example) for example in examples])


def _request(path: Path, example: Example) -> Prompt:
    """What evidence knows a task by: the whole request, if the line held it, else its prompt alone."""
    beside = {key: example.extra[key] for key in REQUEST if key in example.extra}
    try:
        return prompt_of({"prompt": example.prompt, **beside})
    except EvidenceError as error:
        raise DatasetError(f"{path}: id {example.id}: {error}") from None


def _refuse_learned_from(files: Sequence[_File], judge: Classifier, evidence: Path | None) -> None:
    """ValueError for a file that the scores were learned from, as far as hashes of whole files tell."""
    inner = judge.inner if isinstance(judge, AdaptedClassifier) else judge
    learned_from: dict[str, str] = {}
    if isinstance(inner, LearnedClassifier):
        sources = registry.shipped().manifest.get("sources", [])
        learned_from |= {source["sha256"]: "the classifier was trained on" for source in sources}
    if isinstance(judge, AdaptedClassifier) and evidence is not None:
        learned_from |= dict.fromkeys(read_fit(evidence).learned_from, f"{evidence} was fitted to")
    for file in files:
        if file.sha256 in learned_from:
            raise ValueError(
                f"{file.path}: is a file that {learned_from[file.sha256]}, so that its scores look better than they "
                "are; allowed: prompts of your own that were kept apart from those learned from"
            )


def _calibrated(files: Sequence[_File], judge: Classifier, targets: Sequence[float], delta: float) -> QualityTargets:
    """The table over all files as one: their mixture stands for the traffic."""
    examples = [example for file in files for example in file.examples]
    requests = [request for file in files for request in file.requests]
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        scores = [judge.classify(request).score for request in progress.track(requests)]
    data = judged(
        np.array(scores),
        np.array([example.weak_score for example in examples]),
        np.array([example.strong_score for example in examples]),
        [example.stem for example in examples],
    )
    small, large = examples[0].pair
    return quality_targets(data, ", ".join(file.path.name for file in files), small, large, targets, delta)


def _judged_file(file: _File) -> JudgedFile:
    return JudgedFile(file.path.name, file.sha256, len(file.examples), len({example.stem for example in file.examples}))


# ---- for people ----------------------------------------------------------------------------------


def _print(own: OwnTable) -> None:
    console = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
    prompts, one = sum(file.prompts for file in own.judged), own.table.thresholds[0]
    console.print(
        f"{own.table.small_model} beside {own.table.baseline_model}, scores of {own.scores}: {prompts} judged prompts "
        f"with {one.examples} stems in {own.table.calibrated_on}; {one.confidence:.0%} confidence",
        markup=False,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("target", "small model where score <", "to the large model", "quality kept there"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in own.table.thresholds:
        shares = (f"{entry.expected_strong_share:.1%}", f"{entry.expected_quality:.1%}")
        table.add_row(f"{entry.target:g}", f"{entry.threshold:.3f}", *shares)
    console.print(table)
    for entry in own.table.thresholds:
        if entry.warning:
            console.print(f"WARNING: {entry.warning}", style="yellow", markup=False, highlight=False)
