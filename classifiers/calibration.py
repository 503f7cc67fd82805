"""A table of quality targets of the operator's own: `parsimony classifier calibrate` writes it, servers read it.

It holds for the scores that it was calibrated on and for no others, so it says whose they were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classifiers.adapted import AdaptedClassifier, name_of
from classifiers.base import Classifier
from classifiers.quality import MANIFEST_KEY, QualityTargets, parse_quality_targets

FORMAT = 1
FILE_LIMIT_BYTES = 1_000_000
_SHOWN_DIGITS = 8


class CalibrationError(ValueError):
    """A file that holds no table that can be used; says which key, what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that moved the scores: the file of `classifier fit`, and the small model that counted of it."""

    sha256: str
    small_model: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Whose scores: the classifier as it signs, and the evidence behind them where there is any."""

    classifier: str
    evidence: Evidence | None = None

    def __str__(self) -> str:
        if self.evidence is None:
            return self.classifier
        digits = self.evidence.sha256[:_SHOWN_DIGITS]
        return f"{self.classifier} (evidence on {self.evidence.small_model}, SHA-256 {digits}…)"


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """A file of judged prompts that calibrated: prompts of one stem count as one in the table's `examples`."""

    name: str
    sha256: str
    prompts: int
    stems: int


@dataclass(frozen=True, slots=True)
class OwnTable:
    """The table, whose scores it holds for and what it was calibrated on."""

    scores: Scores
    judged: tuple[JudgedFile, ...]
    table: QualityTargets

    def as_json(self) -> dict[str, Any]:
        """Plain data; `read` takes it back."""
        return {
            "format": FORMAT,
            **asdict(self.scores),
            "judged": [asdict(file) for file in self.judged],
            MANIFEST_KEY: self.table.as_json(),
        }

    def write(self, path: Path) -> None:
        """Replaces the file at once, so that whoever reads it meanwhile finds the old one or the new one."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(self.as_json(), allow_nan=False, indent=2) + "\n", encoding="utf-8")
        beside.replace(path)


def scores_of(classifier: Classifier, evidence_sha256: str) -> Scores:
    """Whose scores a classifier gives; the hash is that of its file of evidence, and counts only where it has one."""
    if not isinstance(classifier, AdaptedClassifier):
        return Scores(name_of(classifier))
    return Scores(name_of(classifier), Evidence(evidence_sha256, classifier.posterior.small_model))


def read(path: Path) -> OwnTable:
    """The table in a file. Raises CalibrationError that names the file, the key, what was found and what is allowed."""
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise CalibrationError(f"is larger than {FILE_LIMIT_BYTES} bytes")
        return _own_table(_parsed(path.read_bytes()))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}; `parsimony classifier calibrate` writes such files") from None


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"is no JSON ({error})") from None


def _own_table(value: object) -> OwnTable:
    top = _mapping(value, "the file")
    if top.get("format") != FORMAT:
        raise CalibrationError(f"format is {_shown(top.get('format'))}; this version reads {FORMAT}: calibrate anew")
    files = _get(top, "judged", "")
    if not isinstance(files, list):
        raise CalibrationError(f"judged is {_shown(files)}; needed is a list")
    return OwnTable(
        Scores(_text(top, "classifier", ""), _evidence(_get(top, "evidence", ""))),
        tuple([_judged_file(file, f"judged.{number}") for number, file in enumerate(files)]),
        parse_quality_targets(_get(top, MANIFEST_KEY, "")),
    )


def _evidence(value: object) -> Evidence | None:
    if value is None:
        return None
    fields = _mapping(value, "evidence")
    return Evidence(_text(fields, "sha256", "evidence."), _text(fields, "small_model", "evidence."))


def _judged_file(value: object, where: str) -> JudgedFile:
    fields = _mapping(value, where)
    prompts, stems = (_count(fields, key, f"{where}.") for key in ("prompts", "stems"))
    return JudgedFile(_text(fields, "name", f"{where}."), _text(fields, "sha256", f"{where}."), prompts, stems)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CalibrationError(f"{where} holds {_shown(value)}; needed is a mapping")
    return value


def _get(fields: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in fields:
        raise CalibrationError(f"{where}{key} is missing")
    return fields[key]


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = _get(fields, key, where)
    if not isinstance(value, str) or not value:
        raise CalibrationError(f"{where}{key} is {_shown(value)}; needed is a text that is not empty")
    return value


def _count(fields: Mapping[str, Any], key: str, where: str) -> int:
    value = _get(fields, key, where)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CalibrationError(f"{where}{key} is {_shown(value)}; needed is a whole number from 0 on")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"
