"""Pictures of an evaluation: cost against quality, and how far stated probabilities can be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.training.evaluation import GRID, KEPT_QUALITY, Evaluation, Standing
from classifiers.training.metrics import FloatArray, ReliabilityBin

SUFFIXES = (".svg", ".png")
MAX_PANELS = 12
_COLUMNS = 2
_PANEL_INCHES = (5.0, 3.7)
_INK, _FAINT, _GRID = "#222222", "#6b6b6b", "#e4e4e4"
# Okabe and Ito's colours: told apart with any kind of colour vision.
_OWN, _OTHERS = "#0072b2", ("#d55e00", "#009e73", "#a0528d", "#b8860b")
_Z = 1.959964
_ROOM_ON_THE_LEFT = 0.35
_STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.labelsize": 9.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "parsimony",  # with no date in the file either, the same figures give the same bytes
    "svg.fonttype": "path",
}


class PictureError(RuntimeError):
    """A picture that cannot be drawn; says what to do."""


def check(path: Path) -> None:
    """PictureError unless a picture of that name can be drawn here; to be asked before the work is done."""
    if path.suffix not in SUFFIXES:
        raise PictureError(f"{path}: the name of a picture ends in {' or '.join(SUFFIXES)}")
    _matplotlib()


def reliability_path(path: Path) -> Path:
    """Where the reliability diagram goes: beside the other picture."""
    return path.with_name(f"{path.stem}-reliability{path.suffix}")


def draw(evaluations: Sequence[Evaluation], path: Path) -> tuple[Path, Path]:
    """Writes both pictures, one panel a file and `MAX_PANELS` at most, and returns their paths.

    Of a file's pairs the first is drawn: pairs share their prompts, and a picture is for looking at.
    """
    check(path)
    chosen = list({each.source: each for each in reversed(evaluations)}.values())[::-1][:MAX_PANELS]
    second = reliability_path(path)
    _write(chosen, _draw_curves, path)
    _write(chosen, _draw_reliability, second)
    return path, second


def _matplotlib() -> Any:
    try:
        # Imported here alone: it is a development tool, and takes a second.
        import matplotlib
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError:
        raise PictureError("a picture needs matplotlib: pip install matplotlib, or leave --picture out") from None
    return matplotlib


def _write(evaluations: Sequence[Evaluation], draw_panel: Callable[[Any, Evaluation], None], path: Path) -> None:
    matplotlib = _matplotlib()
    columns = min(_COLUMNS, len(evaluations))
    rows = ceil(len(evaluations) / columns)
    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(
            figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained"
        )
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, evaluation in zip(panels, evaluations, strict=False):
            _set_up(matplotlib, panel, evaluation)
            draw_panel(panel, evaluation)
        for panel in panels[len(evaluations) :]:
            panel.axis("off")
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=160, metadata=metadata)


def _set_up(matplotlib: Any, panel: Any, evaluation: Evaluation) -> None:
    weak, strong = evaluation.pair
    panel.set_title(evaluation.source.split(".")[0], loc="left", fontweight="bold", pad=20)
    pair = panel.text(
        0, 1.03, f"{_short(weak)} → {_short(strong)}", transform=panel.transAxes, color=_FAINT, fontsize=8.5
    )
    pair.set_in_layout(False)  # else a long name narrows the panel
    panel.grid(color=_GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(length=0)
    panel.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=0))
    panel.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))


def _draw_curves(panel: Any, evaluation: Evaluation) -> None:
    cost = _cost(GRID, evaluation.settings.price_ratio)
    own = evaluation.rows[0]
    labels: list[tuple[Standing, str]] = []
    others = iter(_OTHERS)
    for row in evaluation.rows:
        if row.quality is None:
            continue
        colour = _OWN if row is own else _FAINT if row.kind == "expected" else next(others, _FAINT)
        style = {"linewidth": 2.4, "zorder": 4} if row is own else {"linewidth": 1.3, "zorder": 3}
        panel.plot(cost, row.quality, color=colour, linestyle="--" if row.kind == "expected" else "-", **style)
        labels.append((row, colour))
    if own.band is not None:
        panel.fill_between(cost, *own.band, color=_OWN, alpha=0.15, linewidth=0, zorder=2)
    _mark_kept_quality(panel, evaluation)
    _label_curves(panel, labels)
    panel.set_xlabel("cost, of sending all to the large model")
    panel.set_ylabel("mean score of the answers")
    panel.set_xlim(0, 1.02)


def _mark_kept_quality(panel: Any, evaluation: Evaluation) -> None:
    """A point where the classifier's curve first keeps enough of the large model's quality."""
    share = evaluation.rows[0].figures.calls.value
    cost = float(_cost(np.array(share), evaluation.settings.price_ratio))
    level = max(KEPT_QUALITY * evaluation.strong_mean, evaluation.weak_mean)
    left = cost > _ROOM_ON_THE_LEFT
    panel.plot([cost], [level], "o", color=_OWN, markersize=6, markeredgecolor="white", zorder=5)
    panel.annotate(
        f"{KEPT_QUALITY:.0%} of quality\nat {cost:.0%} of cost",
        (cost, level),
        xytext=(-7, 6) if left else (12, -54),
        textcoords="offset points",
        horizontalalignment="right" if left else "left",
        fontsize=8.5,
        color=_OWN,
        zorder=6,
    )
    panel.margins(y=0.14)


def _label_curves(panel: Any, labels: Iterable[tuple[Standing, str]]) -> None:
    """Names and APGR in the colours of the lines, best first, in the corner that a rising curve leaves empty."""
    ranked = sorted(labels, key=lambda label: label[0].figures.apgr.value)
    for number, (row, colour) in enumerate(ranked):
        value = row.figures.apgr.value
        # Only the figure loses its zero: a name may hold a version such as 10.2.
        figure = f"{value:.3f}".replace("0.", ".", 1)
        name = row.name if row.kind == "expected" or np.isnan(value) else f"{row.name} {figure}"
        panel.text(
            0.99,
            0.03 + 0.072 * number,
            name,
            transform=panel.transAxes,
            horizontalalignment="right",
            fontsize=9,
            color=colour,
            fontweight="bold" if colour == _OWN else "normal",
        )


def _draw_reliability(panel: Any, evaluation: Evaluation) -> None:
    own = evaluation.rows[0]
    panel.plot([0, 1], [0, 1], color=_FAINT, linewidth=1.2, linestyle="--", zorder=2)
    if own.reliability:
        stated = [each.mean_score for each in own.reliability]
        observed = [each.shortfall_share for each in own.reliability]
        panel.errorbar(stated, observed, yerr=_reach(own.reliability), color=_OWN, linewidth=1.1, fmt="none", zorder=3)
        panel.plot(stated, observed, color=_OWN, linewidth=1.1, alpha=0.5, zorder=3)
        panel.scatter(stated, observed, s=34, color=_OWN, edgecolor="white", linewidth=0.8, zorder=4)
    panel.text(
        0.98,
        0.04,
        f"Brier {own.figures.brier.value:.3f}\ncalibration error {own.figures.calibration_error.value:.3f}",
        transform=panel.transAxes,
        horizontalalignment="right",
        fontsize=9,
        color=_OWN,
    )
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_xlabel("stated: the small model falls short")
    panel.set_ylabel("it did")


def _reach(bins: Sequence[ReliabilityBin]) -> FloatArray:
    """How far Wilson's 95 % interval reaches below and above each observed share, [2, bins]."""
    bounds = np.array([_wilson(each.shortfall_share, each.count) for each in bins]).T
    observed = np.array([each.shortfall_share for each in bins])
    reach: FloatArray = np.maximum(0.0, np.stack([observed - bounds[0], bounds[1] - observed]))
    return reach


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson 1927, "Probable inference": an interval for a share that stays within [0, 1]."""
    scale = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / scale
    reach = _Z * sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / scale
    return middle - reach, middle + reach


def _cost(share: FloatArray, price_ratio: float) -> FloatArray:
    """Cost of a share of large-model calls, as a part of sending all there."""
    cost: FloatArray = share + (1.0 - share) / price_ratio
    return cost


def _short(model: str) -> str:
    """A model's name without its maker's, and no longer than a panel allows."""
    name = model.rsplit("/", 1)[-1]
    return name if len(name) <= 27 else name[:26] + "…"
