"""Names to classifiers."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifiers import registry
from classifiers.artifact import WEIGHTS, Artifact, ArtifactError, ArtifactMissing, load
from classifiers.base import DEFAULT_CLASSIFIER, FALLBACK_CLASSIFIER
from classifiers.heuristic import HeuristicClassifier
from classifiers.learned import LearnedClassifier
from classifiers.registry import CLASSIFIERS, create, shipped


def test_the_rules_are_there_under_their_name() -> None:
    assert isinstance(create("heuristic"), HeuristicClassifier)


@pytest.mark.parametrize("name", ["", "Heuristic", "bert"])
def test_an_unknown_name_is_answered_with_the_allowed_ones(name: str) -> None:
    with pytest.raises(ValueError, match="allowed: ") as raised:
        create(name)
    assert all(allowed in str(raised.value) for allowed in CLASSIFIERS)
    assert repr(name) in str(raised.value)


def test_the_trained_one_is_the_default_and_the_rules_the_fallback() -> None:
    trained = create(DEFAULT_CLASSIFIER)
    assert isinstance(trained, LearnedClassifier)
    assert trained.name == shipped().name
    assert isinstance(create(FALLBACK_CLASSIFIER), HeuristicClassifier)


def test_each_is_made_anew_from_one_reading_of_the_files() -> None:
    assert create("learned") is not create("learned")
    assert shipped() is shipped()


def test_what_was_missing_is_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is not remembered: `make train` mends it for the next who asks."""
    whole = {path.name: path.read_bytes() for path in registry.SHIPPED.iterdir()}
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    shipped.cache_clear()
    try:
        with pytest.raises(ArtifactMissing, match=str(tmp_path)):
            create("learned")
        for name, raw in whole.items():
            (tmp_path / name).write_bytes(raw)
        (tmp_path / WEIGHTS).write_bytes(b"")
        with pytest.raises(ArtifactError, match=WEIGHTS):
            create("learned")
        (tmp_path / WEIGHTS).write_bytes(whole[WEIGHTS])
        assert isinstance(create("learned"), LearnedClassifier)
    finally:
        shipped.cache_clear()


def test_what_ships_is_what_lies_in_the_package() -> None:
    assert isinstance(shipped(), Artifact)
    assert shipped().manifest == load().manifest
