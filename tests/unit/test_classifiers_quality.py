"""The table of quality targets survives a manifest, is looked up on the safe side, and says what is wrong in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from classifiers.heuristic import HeuristicClassifier
from classifiers.quality import CalibratedThreshold, QualityTargets, parse_quality_targets, quality_targets_of

LOOSE = CalibratedThreshold(0.9, 0.6, 0.4, 0.92, 2_000, 0.9)
STRICT = CalibratedThreshold(0.95, 0.4, 0.7, 0.97, 2_000, 0.9, "2000 judged prompts are too few")
TABLE = QualityTargets("held-out prompts", "mistral-7b", "gpt-4", (LOOSE, STRICT))


def test_it_survives_a_manifest() -> None:
    assert parse_quality_targets(json.loads(json.dumps(TABLE.as_json()))) == TABLE


@pytest.mark.parametrize(
    ("target", "entry"), [(0.01, LOOSE), (0.9, LOOSE), (0.901, STRICT), (0.95, STRICT)], ids=str
)  # fmt: skip
def test_a_target_between_two_takes_the_stricter(target: float, entry: CalibratedThreshold) -> None:
    assert TABLE.threshold_for(target) is entry


@pytest.mark.parametrize("target", [0.96, 1.0, 0.0, -1.0, float("nan")])
def test_a_target_that_the_table_does_not_reach_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"no threshold is calibrated for .*; allowed: above 0 and up to 0\.95"):
        TABLE.threshold_for(target)


def changed(**changes: Any) -> dict[str, Any]:
    return TABLE.as_json() | changes


def entry(**changes: Any) -> dict[str, Any]:
    return changed(thresholds=[TABLE.as_json()["thresholds"][0] | changes])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "quality_targets: found a NoneType; it must be a mapping"),
        ([], "quality_targets: found a list"),
        ({}, "quality_targets: missing or unknown baseline_model, calibrated_on, small_model, thresholds"),
        (changed(extra=1), "missing or unknown extra"),
        (changed(small_model=""), "quality_targets.small_model: found ''"),
        (changed(calibrated_on=3), "quality_targets.calibrated_on: found 3"),
        (changed(thresholds={}), "quality_targets.thresholds: found a dict; it must be a list"),
        (changed(thresholds=[]), "needs at least one"),
        (changed(thresholds=[7]), "quality_targets.thresholds.0: found a int"),
        (changed(thresholds=TABLE.as_json()["thresholds"][::-1]), "targets must ascend"),
        (entry(target="high"), "quality_targets.thresholds.0.target: found 'high'; it must be a number"),
        (entry(target=True), "thresholds.0.target: found True"),
        (entry(target=0), "target must exceed 0"),
        (entry(target=1.5), r"target must lie in \[0, 1\], not 1.5"),
        (entry(threshold=float("nan")), "threshold must lie in"),
        (entry(examples=1.5), "thresholds.0.examples: found 1.5; it must be a whole number"),
        (entry(warning=5), "thresholds.0.warning: found 5"),
        (entry(surprise=5), "missing or unknown surprise"),
    ],
)
def test_what_is_wrong_is_named(value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_quality_targets(value)


def test_a_stricter_target_with_a_higher_threshold_is_refused() -> None:
    higher = CalibratedThreshold(0.95, 0.61, 0.7, 0.97, 2_000, 0.9)
    with pytest.raises(ValueError, match=r"0\.9 has 0\.6, 0\.95 has 0\.61"):
        QualityTargets("held-out prompts", "mistral-7b", "gpt-4", (LOOSE, higher))


def test_the_rules_have_no_table_and_a_classifier_may() -> None:
    class Calibrated(HeuristicClassifier):
        quality_targets = TABLE

    assert quality_targets_of(HeuristicClassifier()) is None
    assert quality_targets_of(Calibrated()) is TABLE
