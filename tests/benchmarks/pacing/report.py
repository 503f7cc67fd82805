"""The figures of a simulation as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from tests.benchmarks.pacing.policies import STEEPNESSES
from tests.benchmarks.pacing.prompts import FloatArray, Prompts
from tests.benchmarks.pacing.simulation import Months, Results, Setting
from tests.benchmarks.pacing.traffic import MONTH, SCENARIOS

CONFIDENCE = 0.95
SMALLEST_GAP = 0.001
"""A gap to hindsight below this is none, and no share of it is told."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Quality of one policy less another's on the same months: the mean, and its interval by Student's t over seeds."""

    mean: float
    low: float
    high: float


def difference(ours: Months, theirs: Months) -> Difference:
    """Raises ValueError for fewer than two seeds, which know no spread."""
    each = ours.quality - theirs.quality
    if len(each) < 2:
        raise ValueError("an interval over seeds needs two of them or more")
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return Difference(float(each.mean()), float(each.mean()) - reach, float(each.mean()) + reach)


def gap_closed(results: Results, setting: Setting) -> float | None:
    """How much of what hindsight gains over first come `setting` gains; None where there is hardly anything to gain."""
    first, best, ours = [
        float(results[replace(setting, policy=name)].quality.mean())
        for name in ("first come", "hindsight", setting.policy)
    ]
    return (ours - first) / (best - first) if best - first >= SMALLEST_GAP else None


def render(
    results: Results, steeper: Results, prompts: Sequence[Prompts], requests: int, seeds: int, command: str
) -> str:
    """`steeper` holds what other powers of the pace make of some of the settings."""
    about = (
        f"A month ({MONTH.label}) of about {requests:,} requests, {seeds} seeds, prices of configs/prices.yaml on its "
        "first day. *First come*, *paced* and *hindsight* are quality: the share of requests answered as well as by "
        "the large model. The *budget* is what the large model may cost, as a share of what it costs unpaced. Arrows "
        "lead from first come to paced; *cost* is that of both models."
    )
    lines = ["# Pacing: what a shadow price of the budget is worth", "", f"Written by `{command}`; do not edit."]
    lines += ["How to read it: tests/benchmarks/README.md.", "", about]
    for source in prompts:
        lines += ["", f"## {source.name.capitalize()} prompts: {source.small} → {source.large}", ""]
        lines += [f"Scores from {source.threshold:g} on go to the large model.", ""]
        lines += [*_main_table(results, source.name), "", *_week_table(results, source.name)]
        lines += ["", *_steepness_table(steeper, source.name)]
    return "\n".join([*lines, "", "## Where pacing loses", "", *_losses(results), ""])


def _main_table(results: Results, source: str) -> Iterator[str]:
    yield (
        "| scenario | budget | first come | paced | hindsight | gained, points | of the gap | worst week | worst day "
        "| spent | in week 1 | cost |"
    )
    yield f"|---|{'--:|' * 11}"
    for scenario in SCENARIOS:
        for setting in _settings(results, source, scenario.name, "paced"):
            first, ours, best = [
                results[replace(setting, policy=name)] for name in ("first come", "paced", "hindsight")
            ]
            yield (
                f"| {scenario.name} | {setting.budget_share:.0%} | {_figure(first.quality)} | {_figure(ours.quality)} "
                f"| {_figure(best.quality)} | {_points(difference(ours, first))} "
                f"| {_share(gap_closed(results, setting))} "
                f"| {_figure(_worst(first.by_week))} → {_figure(_worst(ours.by_week))} "
                f"| {_figure(_worst(first.by_day))} → {_figure(_worst(ours.by_day))} "
                f"| {first.spent.mean():.1%} → {ours.spent.mean():.1%} "
                f"| {first.first_week.mean():.0%} → {ours.first_week.mean():.0%} "
                f"| ${first.cost_usd.mean():.2f} → ${ours.cost_usd.mean():.2f} |"
            )


def _week_table(results: Results, source: str) -> Iterator[str]:
    yield "Told the usual week instead of elapsed time alone (points gained over first come, worst week):"
    yield ""
    yield "| scenario | budget | elapsed time | told the week |"
    yield "|---|--:|--:|--:|"
    for scenario in SCENARIOS:
        for setting in _settings(results, source, scenario.name, "paced"):
            first = results[replace(setting, policy="first come")]
            ways = [results[setting], results[replace(setting, policy="paced, told the week")]]
            cells = [f"{_points(difference(way, first))}, {_figure(_worst(way.by_week))}" for way in ways]
            yield f"| {scenario.name} | {setting.budget_share:.0%} | {' | '.join(cells)} |"


def _steepness_table(steeper: Results, source: str) -> Iterator[str]:
    yield "Other powers of the pace (quality, worst week, share of the budget spent in week 1):"
    yield ""
    yield f"| scenario | budget | {' | '.join(STEEPNESSES)} |"
    yield f"|---|--:|{'--:|' * len(STEEPNESSES)}"
    for scenario in SCENARIOS:
        for setting in _settings(steeper, source, scenario.name, next(iter(STEEPNESSES))):
            ways = [steeper[replace(setting, policy=name)] for name in STEEPNESSES]
            cells = [f"{_figure(w.quality)}, {_figure(_worst(w.by_week))}, {w.first_week.mean():.0%}" for w in ways]
            yield f"| {scenario.name} | {setting.budget_share:.0%} | {' | '.join(cells)} |"


def _losses(results: Results) -> Iterator[str]:
    settings = [setting for setting in results if setting.policy == "paced"]
    lost = 0
    for setting in settings:
        found = difference(results[setting], results[replace(setting, policy="first come")])
        if found.high < 0:
            lost += 1
            yield f"- {setting.prompts}, {setting.scenario}, budget {setting.budget_share:.0%}: {_points(found)}"
    yield f"{'' if lost else 'Nowhere: '}{lost} of {len(settings)} settings, each with its whole interval below 0."


def _settings(results: Results, source: str, scenario: str, policy: str) -> list[Setting]:
    return [s for s in results if (s.prompts, s.scenario, s.policy) == (source, scenario, policy)]


def _worst(by_part: FloatArray) -> FloatArray:
    """The part of the month that is worst on average: chance picks a worst one of every single month."""
    worst: FloatArray = by_part.mean(axis=0).min(keepdims=True)
    return worst


def _figure(quality: FloatArray) -> str:
    return f"{quality.mean():.3f}".removeprefix("0")


def _points(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
