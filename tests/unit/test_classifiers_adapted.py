"""A classifier with evidence says so, keeps what the other said, and passes the suite for classifiers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from classifiers.adapted import AdaptedClassifier, adapt, name_of
from classifiers.base import Classification, Message, OutputLength, Prompt
from classifiers.fingerprint import fingerprint, keys
from classifiers.heuristic import NAME, HeuristicClassifier
from classifiers.posterior import LEVELS, Fit, Group, Level, Posterior

HELLO = Prompt((Message("user", "Hello"),), application="team-1")
NOTHING = Posterior(NAME, "small", 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, tuple(Level(0.5, {}) for _ in LEVELS))


class Sure:
    """Says the same of every prompt, and knows its kind."""

    def classify(self, prompt: Prompt) -> Classification:
        return Classification(0.5, "moderate", ("sure",), "sure@1", output_length=OutputLength(7, 9), task="chat")


def knowing(name: str, group: Group) -> Posterior:
    levels = list(NOTHING.levels)
    at = LEVELS.index(name)
    key = "chat" if name == "task" else keys(fingerprint(HELLO))[at - 1][0]
    levels[at] = Level(0.5, {key: group})
    return replace(NOTHING, levels=tuple(levels))


def test_evidence_moves_the_score_and_the_tier_with_it() -> None:
    judged = AdaptedClassifier(Sure(), knowing("opening", Group(2.5, 40.0, 36.7, 0.0))).classify(HELLO)
    assert judged.score > 0.85
    assert judged.tier == "complex"
    assert judged.score_sd is not None
    assert 0.0 < judged.score_sd < 0.1
    assert judged.signals == ("template judged 37 times", "sure")


def test_what_else_the_classifier_said_stays() -> None:
    judged = AdaptedClassifier(Sure(), NOTHING).classify(HELLO)
    assert (judged.classifier, judged.task, judged.prior_score) == ("sure@1+evidence", "chat", 0.5)
    assert judged.output_length == OutputLength(7, 9)
    assert judged.fingerprint == fingerprint(HELLO)
    assert judged.signals == ("never judged", "sure")


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("task", "kind judged 1 time"),
        ("application", "application judged 1 time"),
        ("opening", "template judged 1 time"),
    ],
)
def test_the_first_signal_says_what_was_judged_and_how_often(level: str, said: str) -> None:
    known = knowing(level, Group(0.0, 1.0, 1.2, 0.0))
    assert AdaptedClassifier(Sure(), known).classify(HELLO).signals[0] == said


def test_another_application_is_another_task() -> None:
    adapted = AdaptedClassifier(Sure(), knowing("opening", Group(2.5, 40.0, 36.0, 0.0)))
    assert adapted.classify(replace(HELLO, application="team-2")).score == pytest.approx(0.5)


def test_the_first_deployed_model_with_evidence_counts() -> None:
    fit = Fit(NAME, 0.0, 30.0, (NOTHING, replace(NOTHING, small_model="tiny")))
    assert adapt(HeuristicClassifier(), fit, ("none", "tiny", "small")).posterior.small_model == "tiny"


def test_evidence_on_what_is_not_deployed_is_refused() -> None:
    with pytest.raises(ValueError, match="holds evidence on small; deployed are large, huge"):
        adapt(HeuristicClassifier(), Fit(NAME, 0.0, 30.0, (NOTHING,)), ("large", "huge"))


def test_a_fit_to_another_classifiers_scores_is_refused() -> None:
    with pytest.raises(ValueError, match=r"was fitted to the scores of heuristic@1, not of sure@1: fit anew"):
        adapt(Sure(), Fit(NAME, 0.0, 30.0, (NOTHING,)), ("small",))


def test_a_classifier_signs_with_its_version() -> None:
    assert name_of(HeuristicClassifier()) == NAME
