"""A forecast for people, for programs and for spreadsheets. Amounts are exact in JSON and CSV, as decimal dollars."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from policies.money import format_usd
from router.replay.answers import LENGTH_BASIS
from router.replay.forecast import Forecast, Interval, Outcome
from router.replay.picture import as_text, dollars

_PERCENT_PPM = 10_000
_FEW_REQUESTS = 100


def basis(forecast: Forecast) -> tuple[str, ...]:
    """What of this is an estimate, and what it rests on; one sentence each."""
    counts = forecast.counts
    said = [
        (
            f"{forecast.classifier} judged each prompt by itself: its score is the probability that the small model's "
            "answer falls short; nothing was called, and no answer of yours was judged"
        ),
        LENGTH_BASIS,
        "an exact repeat within the cache's time to live costs nothing; times are the log's own",
        (
            "intervals hold 95 of 100 draws of a bootstrap over requests that begin alike, and over the lengths of "
            "answers; what the classifier may be wrong by is not in them"
        ),
    ]
    if forecast.calibrated_on:
        said.insert(1, f"quality targets were calibrated on {forecast.calibrated_on}; yours may differ")
    if 0 < forecast.judged < _FEW_REQUESTS:
        said.append(f"{forecast.judged} judged requests are too few for these intervals to be relied on")
    if counts.priced:
        said.append(f"{counts.priced} requests name no cost: theirs is the list price of the day")
    if counts.counted:
        said.append(f"{counts.counted} requests name no tokens: theirs were counted from their texts")
    if counts.undated:
        said.append(f"{counts.undated} requests have no time: today's prices hold for them, and none is a repeat")
    if forecast.kept:
        said.append(
            f"{forecast.kept} requests stay as they were, at the same cost on all sides: {counts.without_text} without "
            f"the prompt's text, {counts.unroutable} that no deployment of the alias would take"
        )
    if counts.unanswered:
        said.append(f"{counts.unanswered} rows are no answered requests and count for nothing")
    return tuple(said)


# ---- for people ----------------------------------------------------------------------------------


def print_forecast(forecast: Forecast, console: Console) -> None:
    def say(text: str = "", style: str = "") -> None:
        console.print(text, markup=False, highlight=False, style=style, soft_wrap=not style)

    baseline, bad_rows = dollars(forecast.all_baseline_nusd.value), sum(bad.count for bad in forecast.bad)
    say(f"{_rows(forecast.rows)}: {forecast.judged} requests judged, {forecast.kept} as they were, {bad_rows} bad")
    say(f"paid {dollars(forecast.paid_nusd)}; everything on {forecast.baseline_model} would have been {baseline}")
    say()
    if forecast.judged:
        console.print(_table(forecast))
        say()
        say(as_text(forecast))
        say()
    for sentence in basis(forecast):
        say(f"- {sentence}")
    for bad in forecast.bad:
        say(f"{_rows(bad.count)}: {bad.kind}", style="yellow")
        for file, line, sentence in bad.first:
            say(f"    {file}:{line}: {sentence}")


def _table(forecast: Forecast) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("target", overflow="fold")
    for share in forecast.outcomes[0].shares:
        table.add_column(share.deployment, justify="right", overflow="fold")
    for heading in ("repeats", "cost", "saved", "of what was paid", "of the baseline", "as good"):
        table.add_column(heading, justify="right", no_wrap=True)
    for outcome in forecast.outcomes:
        table.add_row(
            outcome.setting.name,
            *(_share(share.requests, forecast.judged) for share in outcome.shares),
            _share(outcome.repeats, forecast.judged),
            dollars(outcome.cost_nusd.value),
            dollars(outcome.saved_nusd.value),
            _percent(outcome.saved_ppm),
            _percent(outcome.saved_of_baseline_ppm),
            _percent(outcome.as_good_ppm),
        )
    return table


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _percent(interval: Interval) -> str:
    """All to one place: bounds that are rounded more than the value would leave it out."""
    value, low, high = (ppm / _PERCENT_PPM for ppm in (interval.value, interval.low, interval.high))
    return f"{value:.1f}% ({low:.1f} to {high:.1f})"


# ---- for programs --------------------------------------------------------------------------------


def as_json(forecast: Forecast) -> dict[str, Any]:
    return {
        "logs": list(forecast.logs),
        "alias": forecast.alias,
        "baseline_model": forecast.baseline_model,
        "classifier": forecast.classifier,
        "rows": forecast.rows,
        "judged": forecast.judged,
        "kept": forecast.kept,
        "without_text": forecast.counts.without_text,
        "unroutable": forecast.counts.unroutable,
        "unanswered": forecast.counts.unanswered,
        "repeats": forecast.repeats,
        "tokens_counted_here": forecast.counts.counted,
        "cost_reckoned_here": forecast.counts.priced,
        "undated": forecast.counts.undated,
        "paid_usd": format_usd(forecast.paid_nusd),
        "all_baseline_usd": _usd(forecast.all_baseline_nusd),
        "settings": [_outcome_json(outcome) for outcome in forecast.outcomes],
        "curve": [
            {
                "threshold": point.threshold,
                "cost_usd": format_usd(point.cost_nusd),
                "as_good": _part(point.as_good_ppm),
            }
            for point in forecast.curve
        ],
        "bad_rows": [
            {
                "kind": bad.kind,
                "count": bad.count,
                "first": [{"file": file, "line": line, "found": found} for file, line, found in bad.first],
            }
            for bad in forecast.bad
        ],
        "basis": list(basis(forecast)),
    }


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    setting = outcome.setting
    return {
        "name": setting.name,
        "quality_target": setting.quality_target,
        "moderate_from": setting.moderate_from,
        "complex_from": setting.complex_from,
        "deployments": [
            {"name": share.deployment, "requests": share.requests, "cost_usd": format_usd(share.cost_nusd)}
            for share in outcome.shares
        ],
        "repeats": outcome.repeats,
        "cost_usd": _usd(outcome.cost_nusd),
        "saved_usd": _usd(outcome.saved_nusd),
        "saved_share": _parts(outcome.saved_ppm),
        "saved_of_baseline_usd": _usd(outcome.saved_of_baseline_nusd),
        "saved_of_baseline_share": _parts(outcome.saved_of_baseline_ppm),
        "as_good": _parts(outcome.as_good_ppm),
    }


def _usd(interval: Interval) -> dict[str, str]:
    return {name: format_usd(getattr(interval, name)) for name in ("value", "low", "high")}


def _parts(interval: Interval) -> dict[str, float]:
    return {name: _part(getattr(interval, name)) for name in ("value", "low", "high")}


def _part(ppm: int) -> float:
    return ppm / 1_000_000


def as_csv(forecast: Forecast) -> str:
    """A row for each setting."""
    rows = list(map(_csv_row, forecast.outcomes))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "paid_usd": format_usd(forecast.paid_nusd)} for row in rows)
    return text.getvalue()


def _csv_row(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"setting": outcome.setting.name, "quality_target": outcome.setting.quality_target}
    row |= {"moderate_from": outcome.setting.moderate_from, "complex_from": outcome.setting.complex_from}
    row |= {f"requests {share.deployment}": share.requests for share in outcome.shares}
    row |= {"repeats": outcome.repeats, "paid_usd": ""}
    row |= dict(_columns("cost_usd", _usd(outcome.cost_nusd)))
    row |= dict(_columns("saved_usd", _usd(outcome.saved_nusd)))
    row |= dict(_columns("saved_of_baseline_usd", _usd(outcome.saved_of_baseline_nusd)))
    row |= dict(_columns("as_good", _parts(outcome.as_good_ppm)))
    return row


def _columns(name: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for bound, value in values.items():
        yield (name if bound == "value" else f"{name}_{bound}"), value
