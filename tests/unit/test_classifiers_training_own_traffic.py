"""What is judged and what is ranked share no stem, and the figures are those of the classifier that would serve."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.heuristic import HeuristicClassifier
from classifiers.registry import create
from classifiers.training.datasets import Example
from classifiers.training.own_traffic import drawn, run, table, traffic


def examples(count: int) -> list[Example]:
    """Every other prompt is hard for the small model, and its words say so; two prompts a stem."""
    topics = ("train leaves the station and travels", "patient has a fever and swelling of the knee")
    words = "kidney hormone blood cell nerve river treaty empire court statute market price demand engine poem".split()
    rng = np.random.default_rng(0)
    return [
        Example(
            "made", str(at), "all", "en", f"A {topics[at % 2]}; consider {' '.join(rng.choice(words, 6))}. Which?",
            "small", "large", float(at % 2), 1.0, f"stem {at // 2}", False, {},
        )
        for at in range(count)
    ]  # fmt: skip


def test_whole_stems_are_drawn() -> None:
    stems = [f"stem {at // 2}" for at in range(40)]
    chosen, others = drawn(stems, 9, seed=1)
    assert len(chosen) == 10
    assert sorted([*chosen, *others]) == list(range(40))
    assert not {stems[at] for at in chosen} & {stems[at] for at in others}
    assert drawn(stems, 9, seed=2)[0] != chosen


def test_nothing_left_to_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="40 judged examples of 40 leave none"):
        drawn([str(at) for at in range(40)], 40, seed=0)


def test_words_that_tell_are_learned() -> None:
    known = traffic(examples(700), create("learned"))
    found = run(known, 400, seed=0)
    assert (found.judged, found.ranked, found.forest) == (400, 300, True)
    assert found.apgr_all > 0.7
    assert found.brier_all < found.brier_classifier
    assert "1 of 1" in table([found])


def test_a_classifier_that_measures_nothing_is_judged_without_a_forest() -> None:
    known = traffic(examples(60), HeuristicClassifier())
    assert not run(known, 30, seed=0).forest
