"""An evaluation in words and numbers: cells for a table, Markdown, and values for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from classifiers.training.bootstrap import Estimate
from classifiers.training.evaluation import FIGURES, KEPT_QUALITY, Evaluation, Settings, Standing
from classifiers.training.latency import Latency

HEADINGS = {
    "apgr": "APGR",
    "cpt50": "CPT(50)",
    "cpt80": "CPT(80)",
    "calls": f"calls at {KEPT_QUALITY:.0%}",
    "saving": "saving there",
    "brier": "Brier",
    "calibration_error": "calib. error",
}
_SHARES = ("cpt50", "cpt80", "calls", "saving")
ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of `classifier evaluate` found."""

    classifier: str
    settings: Settings
    evaluations: tuple[Evaluation, ...]
    latency: tuple[Latency, ...]


def cell(figure: str, estimate: Estimate) -> tuple[str, str]:
    """A figure and its interval as text; the interval is empty where there is none."""
    if math.isnan(estimate.value):
        return ABSENT, ""
    written = _percent if figure in _SHARES else _decimal
    value = written(estimate.value) + (" %" if figure in _SHARES else "")
    if math.isnan(estimate.low):
        return value, ""
    return value, f"{written(estimate.low)}–{written(estimate.high)}"


def title(evaluation: Evaluation) -> str:
    """Which data, and which models."""
    weak, strong = evaluation.pair
    return f"{evaluation.source}: {weak} → {strong}"


def facts(evaluation: Evaluation) -> str:
    """What one has to know of the data to read its rows."""
    dropped = f", {evaluation.dropped_count:,} contaminated left out" if evaluation.dropped_count else ""
    langs = f" ({', '.join(evaluation.langs)})" if evaluation.langs else ""
    return (
        f"{evaluation.prompt_count:,} prompts{langs} of {evaluation.stem_count:,} stems{dropped}; mean score "
        f"{_decimal(evaluation.weak_mean)} → {_decimal(evaluation.strong_mean)}; "
        f"the small model falls short on {evaluation.shortfall_share:.1%}"
    )


def legend(settings: Settings) -> tuple[str, ...]:
    """What the columns mean, a line each."""
    kept = f"{KEPT_QUALITY:.0%} of the large model's quality"
    return (
        "APGR: mean part of the quality gap recovered, over all shares of large-model calls; .5 is random.",
        "CPT(x): share of large-model calls that recovers x % of the gap.",
        f"Calls: share of large-model calls that keeps {kept}.",
        f"Saving: part of the all-large cost saved there; a large call costs {settings.price_ratio:g} small ones.",
        "Brier: squared error of the stated probability that the small model falls short.",
        "Calib. error: mean distance of that probability from what happened, in ten bins of equal numbers.",
        f"Intervals: 95 %, {settings.resamples:,} resamples of stems, seed {settings.seed}.",
    )


def sources(evaluations: Iterable[Evaluation]) -> tuple[str, ...]:
    """Where rows come from that need saying, each once."""
    notes = (f"{row.name}: {row.note}" for each in evaluations for row in each.rows if row.note)
    return tuple(dict.fromkeys(notes))


def as_json(report: Report) -> dict[str, Any]:
    """The whole report for programs; what is undefined is NaN, which JSON writers turn to null."""
    return {
        "classifier": report.classifier,
        "settings": asdict(report.settings),
        "evaluations": [_evaluation_as_json(each) for each in report.evaluations],
        "latency": [asdict(each) for each in report.latency],
    }


def as_markdown(report: Report) -> str:
    """The whole report as a page."""
    lines = [f"# How good is the classifier `{report.classifier}`?", "", "Written by `make eval`; do not edit.", ""]
    for evaluation in report.evaluations:
        lines += [f"## {title(evaluation)}", "", f"{facts(evaluation)}.", "", *_markdown_table(evaluation), ""]
    lines += ["## Reading the tables", "", *(f"- {line}" for line in legend(report.settings))]
    lines += [f"- {line}." for line in sources(report.evaluations)]
    if report.latency:
        lines += ["", "## Time a classification", "", *_markdown_latency(report.latency)]
    return "\n".join(lines) + "\n"


def latency_cells(latency: Latency) -> tuple[str, str, str, str]:
    """Tokens, messages, p50 and p99 as text."""
    return f"{latency.tokens:,}", f"{latency.message_count}", f"{latency.p50_ms:.3f}", f"{latency.p99_ms:.3f}"


def _evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    weak, strong = evaluation.pair
    return {
        "source": evaluation.source,
        "dataset": evaluation.dataset,
        "weak_model": weak,
        "strong_model": strong,
        "langs": evaluation.langs,
        "prompt_count": evaluation.prompt_count,
        "stem_count": evaluation.stem_count,
        "dropped_count": evaluation.dropped_count,
        "weak_mean": evaluation.weak_mean,
        "strong_mean": evaluation.strong_mean,
        "shortfall_share": evaluation.shortfall_share,
        "noise_sd": evaluation.noise_sd,
        "rows": [_row_as_json(row) for row in evaluation.rows],
    }


def _row_as_json(row: Standing) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "note": row.note,
        **asdict(row.figures),
        "reliability": [asdict(each) for each in row.reliability],
    }


def _markdown_table(evaluation: Evaluation) -> Iterator[str]:
    yield f"| router | {' | '.join(HEADINGS.values())} |"
    yield f"|---|{'--:|' * len(HEADINGS)}"
    for row in evaluation.rows:
        cells = (cell(name, getattr(row.figures, name)) for name in FIGURES)
        yield f"| {row.name} | {' | '.join(f'{value} ({span})' if span else value for value, span in cells)} |"


def _markdown_latency(latencies: Sequence[Latency]) -> Iterator[str]:
    yield "Warm, in one process; prompts put together from the data, no two alike. Machines differ."
    yield ""
    yield "| tokens, about | messages | p50, ms | p99, ms |"
    yield "|--:|--:|--:|--:|"
    for latency in latencies:
        yield f"| {' | '.join(latency_cells(latency))} |"


def _decimal(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
