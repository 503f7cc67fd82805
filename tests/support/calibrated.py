"""A classifier with a table of quality targets, before and beside any artefact that ships."""

from __future__ import annotations

from classifiers.heuristic import HeuristicClassifier
from classifiers.quality import CalibratedThreshold, QualityTargets

TOO_FEW = "60 judged prompts are too few for a quality target of 0.98, so the margin is wide; about 900 like them ..."


class CalibratedRules(HeuristicClassifier):
    """The rules, with thresholds as if somebody had calibrated them."""

    quality_targets = QualityTargets(
        "made-up prompts",
        "mistral-7b",
        "gpt-4",
        (
            CalibratedThreshold(0.9, 0.6, 0.4, 0.92, 2_000, 0.9),
            CalibratedThreshold(0.95, 0.52, 0.61, 0.96, 2_000, 0.9),
            CalibratedThreshold(0.98, 0.0, 1.0, 1.0, 60, 0.9, TOO_FEW),
        ),
    )
