"""Classifiers by the name that configuration gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from classifiers.artifact import SHIPPED, Artifact, load
from classifiers.base import DEFAULT_CLASSIFIER, FALLBACK_CLASSIFIER, Classifier
from classifiers.heuristic import HeuristicClassifier
from classifiers.learned import LearnedClassifier


def _learned() -> Classifier:
    return LearnedClassifier(shipped())


CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    FALLBACK_CLASSIFIER: HeuristicClassifier,
    DEFAULT_CLASSIFIER: _learned,
}


def create(name: str) -> Classifier:
    """The classifier of that name with its default thresholds.

    An unknown name is a ValueError that lists the known; so is an artifact that cannot be used (ArtifactError), or
    that is not there (ArtifactMissing).
    """
    try:
        construct = CLASSIFIERS[name]
    except KeyError:
        raise ValueError(f"no classifier is named {name!r}; allowed: {', '.join(sorted(CLASSIFIERS))}") from None
    return construct()


@lru_cache(maxsize=1)
def shipped() -> Artifact:
    """The artifact that came with the package, read and verified once."""
    return load(SHIPPED)
