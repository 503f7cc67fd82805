"""Names to classifiers."""

from __future__ import annotations

import pytest

from classifiers.heuristic import HeuristicClassifier
from classifiers.registry import CLASSIFIERS, create


def test_the_rules_are_there_under_their_name() -> None:
    assert isinstance(create("heuristic"), HeuristicClassifier)


@pytest.mark.parametrize("name", ["", "Heuristic", "bert"])
def test_an_unknown_name_is_answered_with_the_allowed_ones(name: str) -> None:
    with pytest.raises(ValueError, match="allowed: ") as raised:
        create(name)
    assert all(allowed in str(raised.value) for allowed in CLASSIFIERS)
    assert repr(name) in str(raised.value)
