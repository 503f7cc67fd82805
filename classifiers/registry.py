"""Classifiers by the name that configuration gives."""

from __future__ import annotations

from collections.abc import Callable

from classifiers.base import Classifier
from classifiers.heuristic import HeuristicClassifier

CLASSIFIERS: dict[str, Callable[[], Classifier]] = {"heuristic": HeuristicClassifier}


def create(name: str) -> Classifier:
    """The classifier of that name with its default thresholds; an unknown name is a ValueError that lists the known."""
    try:
        construct = CLASSIFIERS[name]
    except KeyError:
        raise ValueError(f"no classifier is named {name!r}; allowed: {', '.join(sorted(CLASSIFIERS))}") from None
    return construct()
