"""A picture of one setting: how the money goes, and what that makes of the days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes

from tests.benchmarks.pacing.simulation import GRID_MS, Results, Setting
from tests.benchmarks.pacing.traffic import DAY_MS, DAYS, START_MS

_PANEL_INCHES = (5.6, 4.0)
_INK, _FAINT, _GRID = "#222222", "#6b6b6b", "#e4e4e4"
# Okabe and Ito's colours: told apart with any kind of colour vision.
_COLOURS = {"first come": "#d55e00", "paced": "#0072b2", "hindsight": "#009e73"}
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "parsimony",  # with no date in the file either, the same figures give the same bytes
    "svg.fonttype": "path",
}


def draw(results: Results, setting: Setting, path: Path) -> None:
    """Writes means over the seeds of `setting` under each policy in `_COLOURS`."""
    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(figsize=(2 * _PANEL_INCHES[0], _PANEL_INCHES[1]), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        spend, quality = figure.subplots(1, 2)
        _draw_spend(spend, results, setting)
        _draw_quality(quality, results, setting)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def _draw_spend(panel: Axes, results: Results, setting: Setting) -> None:
    _set_up(panel, "Paced, the money lasts", f"spent so far, of a budget of {setting.budget_share:.0%} of the need")
    days = (GRID_MS - START_MS) / DAY_MS
    panel.plot([0, DAYS], [0, 1], color=_FAINT, linewidth=1.2, linestyle="--")
    for name, colour in _COLOURS.items():
        panel.plot(days, results[replace(setting, policy=name)].curve.mean(axis=0), color=colour, linewidth=2)
    panel.set_ylim(0, 1.04)
    _label(panel, [*_COLOURS.items(), ("pace of the window", _FAINT)])


def _draw_quality(panel: Axes, results: Results, setting: Setting) -> None:
    _set_up(panel, "and there is no cliff", "answered as well as by the large model, each day")
    for name, colour in _COLOURS.items():
        by_day = results[replace(setting, policy=name)].by_day.mean(axis=0)
        panel.plot(np.arange(DAYS) + 0.5, by_day, color=colour, linewidth=2)
    low, high = panel.get_ylim()
    panel.set_ylim(low - 0.4 * (high - low), high)
    _label(panel, list(_COLOURS.items()))


def _set_up(panel: Axes, title: str, what: str) -> None:
    panel.set_title(title, loc="left", fontweight="bold", pad=20)
    panel.text(0, 1.03, what, transform=panel.transAxes, color=_FAINT, fontsize=8.5)
    panel.grid(color=_GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(length=0)
    panel.set_xlim(0, DAYS)
    panel.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(7))
    panel.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    panel.set_xlabel("day of the month")


def _label(panel: Axes, names: list[tuple[str, str]]) -> None:
    """Names in the colours of their lines, in the lower right corner, where the lines leave room."""
    style = {"transform": panel.transAxes, "horizontalalignment": "right", "verticalalignment": "top"}
    for number, (name, colour) in enumerate(names):
        panel.text(0.98, 0.25 - 0.065 * number, name, color=colour, **style)
