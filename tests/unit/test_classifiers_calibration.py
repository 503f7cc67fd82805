"""A table of one's own survives its file, says whose scores it holds for, and what is wrong in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classifiers.adapted import AdaptedClassifier
from classifiers.calibration import (
    FILE_LIMIT_BYTES,
    CalibrationError,
    Evidence,
    JudgedFile,
    OwnTable,
    Scores,
    read,
    scores_of,
)
from classifiers.heuristic import NAME, HeuristicClassifier
from classifiers.posterior import LEVELS, Level, Posterior
from tests.support.calibrated import CalibratedRules

OWN = OwnTable(Scores(NAME), (JudgedFile("j.jsonl", "ab" * 32, 60, 50),), CalibratedRules.quality_targets)
MOVED = replace(OWN, scores=Scores(NAME + "+evidence", Evidence("0123456789", "small")))


@pytest.mark.parametrize("own", [OWN, MOVED])
def test_it_survives_its_file(tmp_path: Path, own: OwnTable) -> None:
    path = tmp_path / "t.json"
    own.write(path)
    assert read(path) == own
    assert list(tmp_path.iterdir()) == [path]


def test_it_says_whose_scores_they_are() -> None:
    levels = tuple(Level(0.5, {}) for _ in LEVELS)
    adapted = AdaptedClassifier(HeuristicClassifier(), Posterior(NAME, "small", 0.0, 0.0, 0.0, 1.0, 1.0, 5.0, levels))
    assert scores_of(adapted, "0123456789") == MOVED.scores
    assert scores_of(HeuristicClassifier(), "0123456789") == OWN.scores
    assert str(OWN.scores) == NAME
    assert str(MOVED.scores) == f"{NAME}+evidence (evidence on small, SHA-256 01234567…)"


def changed(**fields: Any) -> str:
    return json.dumps(MOVED.as_json() | fields)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in MOVED.as_json().items() if name != key})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", r"the file holds \[\]; needed is a mapping"),
        ("{}", "format is null; this version reads 1: calibrate anew"),
        (changed(format=2), "format is 2"),
        (without("classifier"), "classifier is missing"),
        (changed(classifier=""), 'classifier is ""; needed is a text'),
        (without("evidence"), "evidence is missing"),
        (changed(evidence=[]), r"evidence holds \[\]"),
        (changed(evidence={"sha256": "a"}), "evidence.small_model is missing"),
        (changed(evidence={"sha256": 5, "small_model": "s"}), "evidence.sha256 is 5"),
        (changed(judged={}), "judged is {}; needed is a list"),
        (changed(judged=[7]), "judged.0 holds 7"),
        (changed(judged=[{"name": "j", "sha256": "a", "prompts": True, "stems": 1}]), "judged.0.prompts is true"),
        (changed(judged=[{"name": "j", "sha256": "a", "prompts": 1, "stems": -1}]), "judged.0.stems is -1"),
        (without("quality_targets"), "quality_targets is missing"),
        (changed(quality_targets=3), "quality_targets: found a int"),
        (" " * (FILE_LIMIT_BYTES + 1), f"is larger than {FILE_LIMIT_BYTES} bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CalibrationError, match=said) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "`parsimony classifier calibrate` writes such files" in str(raised.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(CalibrationError, match="is no JSON"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.json: cannot be read \(No such file"):
        read(tmp_path / "none.json")
