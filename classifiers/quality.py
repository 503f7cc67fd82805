"""The table from a quality target to the score at which requests go to a stronger model, as a manifest carries it.

The table is calibrated by `classifiers.training.risk_control`; this module only reads, writes and looks up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from classifiers.base import Classifier

MANIFEST_KEY = "quality_targets"


@dataclass(frozen=True, slots=True)
class CalibratedThreshold:
    """The threshold that keeps a target: the small model answers where the score is below `threshold`.

    `target` is the share of the baseline's quality to keep, in (0, 1]; it holds with probability `confidence` over
    the draw of the calibration prompts. `expected_strong_share` (of requests that the baseline answers) and
    `expected_quality` (kept, as a share of the baseline's) are those of the calibration data. `examples` counts
    distinct prompts. `warning` says where they were too few, and how many would do.
    """

    target: float
    threshold: float
    expected_strong_share: float
    expected_quality: float
    examples: int
    confidence: float
    warning: str | None = None

    def __post_init__(self) -> None:
        shares = {"target": self.target, "confidence": self.confidence, "threshold": self.threshold}
        shares["expected_strong_share"] = self.expected_strong_share
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], not {value}")
        if self.target == 0.0:
            raise ValueError("target must exceed 0")


@dataclass(frozen=True, slots=True)
class QualityTargets:
    """One table: what it was calibrated on, for which pair of models, and a threshold for each target, ascending.

    A stricter target never has a higher threshold, so that rounding a target up is always safe.
    """

    calibrated_on: str
    small_model: str
    baseline_model: str
    thresholds: tuple[CalibratedThreshold, ...]

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError("a table of quality targets needs at least one")
        for looser, stricter in zip(self.thresholds, self.thresholds[1:], strict=False):
            if stricter.target <= looser.target or stricter.threshold > looser.threshold:
                raise ValueError(
                    f"targets must ascend and their thresholds must not: {looser.target} has {looser.threshold}, "
                    f"{stricter.target} has {stricter.threshold}"
                )

    def threshold_for(self, target: float) -> CalibratedThreshold:
        """The entry of `target`, or of the next stricter one in the table; a ValueError that lists them if none is."""
        for entry in self.thresholds:
            if entry.target >= target > 0.0:
                return entry
        raise ValueError(f"no threshold is calibrated for {target}; allowed: above 0 and up to {self.allowed()[-1]}")

    def allowed(self) -> tuple[float, ...]:
        """The targets of the table, ascending; any value in between takes the next stricter one."""
        return tuple([entry.target for entry in self.thresholds])

    def as_json(self) -> dict[str, Any]:
        """Plain data for a manifest; `parse_quality_targets` reads it back."""
        return {
            "calibrated_on": self.calibrated_on,
            "small_model": self.small_model,
            "baseline_model": self.baseline_model,
            "thresholds": [{f.name: getattr(entry, f.name) for f in fields(entry)} for entry in self.thresholds],
        }


def parse_quality_targets(value: object) -> QualityTargets:
    """The table in plain data; what is missing, unknown, of another type or contradictory is a ValueError naming it."""
    table = _mapping(value, MANIFEST_KEY, {"calibrated_on", "small_model", "baseline_model", "thresholds"})
    entries = table["thresholds"]
    if not isinstance(entries, list):
        raise ValueError(f"{MANIFEST_KEY}.thresholds: found a {type(entries).__name__}; it must be a list")
    parsed = tuple([_entry(entry, f"{MANIFEST_KEY}.thresholds.{index}") for index, entry in enumerate(entries)])
    names = {key: _text(value, f"{MANIFEST_KEY}.{key}") for key, value in table.items() if key != "thresholds"}
    try:
        return QualityTargets(**names, thresholds=parsed)
    except ValueError as error:
        raise ValueError(f"{MANIFEST_KEY}: {error}") from None


def quality_targets_of(classifier: Classifier) -> QualityTargets | None:
    """The table that a classifier was calibrated with, if any: the rules have none."""
    found = getattr(classifier, MANIFEST_KEY, None)
    return found if isinstance(found, QualityTargets) else None


def _entry(value: object, key: str) -> CalibratedThreshold:
    entry = _mapping(value, key, {field.name for field in fields(CalibratedThreshold)})
    numbers = ("target", "threshold", "expected_strong_share", "expected_quality", "confidence")
    for name in numbers:
        if isinstance(entry[name], bool) or not isinstance(entry[name], int | float):
            raise ValueError(f"{key}.{name}: found {entry[name]!r}; it must be a number")
    if isinstance(entry["examples"], bool) or not isinstance(entry["examples"], int):
        raise ValueError(f"{key}.examples: found {entry['examples']!r}; it must be a whole number")
    if entry["warning"] is not None:
        _text(entry["warning"], f"{key}.warning")
    try:
        return CalibratedThreshold(**entry)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _mapping(value: object, key: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: found a {type(value).__name__}; it must be a mapping")
    if set(value) != names:
        wrong = sorted(map(str, names ^ set(value)))
        raise ValueError(f"{key}: missing or unknown {', '.join(wrong)}; it must hold {', '.join(sorted(names))}")
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: found {value!r}; it must be a text that is not empty")
    return value
