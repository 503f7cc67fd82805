"""A classifier with a table of quality targets, before and beside any artefact that ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from classifiers.calibration import OwnTable, Scores
from classifiers.heuristic import NAME, HeuristicClassifier
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


OF_THE_RULES = Scores(NAME)
OWN_THRESHOLD = 0.31
"""What `own_table` has for every target."""


def own_table(path: Path, scores: Scores = OF_THE_RULES) -> Path:
    """A file with a table of an operator's own, as `parsimony classifier calibrate` writes it."""
    entries = tuple(replace(entry, threshold=OWN_THRESHOLD) for entry in CalibratedRules.quality_targets.thresholds)
    table = replace(CalibratedRules.quality_targets, calibrated_on="judged.jsonl", thresholds=entries)
    OwnTable(scores, (), table).write(path)
    return path
