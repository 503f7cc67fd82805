"""What a classifier is compared with: by which names, with which scores, and only what is installed."""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from classifiers import registry
from classifiers.base import DEFAULT_CLASSIFIER
from classifiers.training import contenders as compared
from classifiers.training.contenders import Contender, classifier, contenders, length, litellm_rules, score_texts
from classifiers.training.datasets import as_prompt
from classifiers.training.evaluation import Settings, evaluate
from tests.support.routing_examples import dev, needs_dev_files

needs_litellm = pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What litellm is told before its import is taken back afterwards."""
    for name, value in compared._LITELLM_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_the_classifier_in_question_comes_first_and_length_last() -> None:
    assert [each.name for each in contenders(DEFAULT_CLASSIFIER, with_litellm=False)] == [
        DEFAULT_CLASSIFIER,
        "rules",
        "prompt length",
    ]
    assert [each.name for each in contenders("heuristic", with_litellm=False)] == ["rules", "prompt length"]


@pytest.mark.parametrize("name", sorted(registry.CLASSIFIERS))
def test_a_classifier_gives_the_score_of_one_user_message(name: str) -> None:
    found = classifier(name)
    text = "Prove that there are infinitely many primes."
    assert found.is_probability
    assert found.score(text) == registry.create(name).classify(as_prompt(text)).score


def test_an_unknown_classifier_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"no classifier is named 'oracle'; allowed: .*heuristic.*learned"):
        contenders("oracle", with_litellm=False)


def test_length_counts_characters_and_states_no_probability() -> None:
    assert [length().score(text) for text in ("", "four", "四个汉字")] == [0.0, 4.0, 4.0]
    assert not length().is_probability


def test_each_distinct_text_is_scored_once() -> None:
    asked: list[str] = []

    def score(text: str) -> float:
        asked.append(text)
        return float(len(asked))

    judged: list[None] = []
    scores = score_texts(Contender("counts", score), ["b", "a", "b", "a", "c"], lambda: judged.append(None))
    assert scores == {"b": 1.0, "a": 2.0, "c": 3.0}
    assert asked == ["b", "a", "c"] and len(judged) == 3


@needs_litellm
@pytest.mark.usefixtures("environment")
def test_litellm_stands_between_the_rules_and_length() -> None:
    label = f"LiteLLM {'.'.join(version('litellm').split('.')[:2])}"
    found = contenders(DEFAULT_CLASSIFIER, with_litellm=True)
    assert [each.name for each in found[2:]] == [f"{label} rules", f"{label} v2", "prompt length"]
    for each in found[2:4]:
        easy, hard = map(each.score, ("Hello there!", "Write a Python function that sorts, and debug its algorithm."))
        assert easy < hard, each.name
        assert not each.is_probability and each.note


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "missing", ["litellm.router_strategy.adaptive_router.classifier", "litellm.router_strategy.complexity_router"]
)
def test_without_litellm_or_this_part_of_it_the_comparison_goes_on(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert litellm_rules() == ()
    assert [each.name for each in contenders("heuristic", with_litellm=True)] == ["rules", "prompt length"]


@needs_dev_files
@needs_litellm
@pytest.mark.usefixtures("environment")
def test_litellm_reaches_what_was_measured_with_the_data() -> None:
    if not version("litellm").startswith("1.106."):
        pytest.skip(f"the figures are those of litellm 1.106, here is {version('litellm')}")
    (found,) = evaluate("mtbench", dev("mtbench"), litellm_rules(), Settings(resamples=20))
    assert [each.figures.apgr.value for each in found.rows[:2]] == pytest.approx([0.681, 0.657], abs=0.002)
