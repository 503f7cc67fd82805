"""Every classifier in the registry, bare and with evidence, against the suite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from classifiers.adapted import AdaptedClassifier, name_of
from classifiers.base import Classifier, Message, Prompt
from classifiers.fingerprint import fingerprint, keys
from classifiers.forest import Forest, Measuring, Stack
from classifiers.posterior import LEVELS, Group, Level, Posterior
from classifiers.registry import CLASSIFIERS, create
from tests.contracts.classifier_suite import PROMPTS, check_answer


def with_evidence(inner: Classifier) -> Classifier:
    """Evidence on what the suite's prompts hold, and on what they do not."""
    seen = [Prompt((Message("user", text),)) for text in ("", "prove", "翻译")]
    known = {
        name: Group(1.0, 3.0, 5.0, 0.0)
        for prompt in seen
        for own, rest in keys(fingerprint(prompt))
        for name in (own, rest)
    }
    levels = tuple(Level(0.5, known) for _ in LEVELS)
    stack = _stack(inner.measured_width) if isinstance(inner, Measuring) else None
    return AdaptedClassifier(inner, Posterior(name_of(inner), "small", 0.3, 0.01, 0.0, 0.8, 0.5, 90.0, levels, stack))


def _stack(width: int) -> Stack:
    """One tree, which asks of the kind, the topic and the score."""
    arrays = {
        "feature": np.array([0, 30, width - 1, 0, 0, 0, 0]),
        "threshold": np.array([0.5, 0.0, 0.4, *[np.inf] * 4]),
        "left": np.array([1, 3, 5, 3, 4, 5, 6]),
        "value": np.array([0.0, 0.0, 0.0, -0.2, 0.3, 0.1, 0.9]),
        "roots": np.array([0]),
    }
    return Stack(Forest(width, arrays), 0.1, 0.7, 3.0)


@pytest.fixture(
    scope="module", params=[*sorted(CLASSIFIERS), *(f"{name} with evidence" for name in sorted(CLASSIFIERS))]
)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    name, _, evidence = request.param.partition(" ")
    return with_evidence(create(name)) if evidence else create(name)


@settings(max_examples=200, deadline=None)
@given(prompt=PROMPTS)
def test_any_prompt_has_a_well_formed_answer(classifier: Classifier, prompt: Prompt) -> None:
    check_answer(classifier, prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(()),
        Prompt((Message("user", ""),)),
        Prompt((Message("system", ""), Message("user", ""))),
        Prompt((Message("system", "Only this."),)),
        Prompt((Message("assistant", "Nobody asked."),)),
        Prompt((Message("user", bytes(range(256)).decode("latin-1") * 40),)),
        Prompt((Message("user", "\ud800" * 10_000),)),
        Prompt((Message("user", "\U0010ffff" * 10_000),)),
        Prompt((Message("user", "\u202e\u200b\u0000" * 10_000),)),
        Prompt((Message("user", "为什么 why 証明 가나다 " * 100_000),)),
        Prompt((Message("user", "hello"),) * 100_000),
        Prompt((Message("user", "hello"),), max_output_tokens=10**400),
    ],
    ids=[
        "no messages", "empty", "empty beside empty", "system alone", "assistant alone", "binary", "lone surrogates",
        "last code point", "invisible", "two million characters", "many messages", "absurd limit",
    ],
)  # fmt: skip
def test_the_odd_prompts_have_one_too(classifier: Classifier, prompt: Prompt) -> None:
    check_answer(classifier, prompt)


@pytest.mark.parametrize(
    ("greeting", "proof"),
    [
        ("Hello!", "Prove by induction that the sum of the first n odd integers is a square."),
        ("你好！", "用数学归纳法证明前n个奇数之和是平方数。"),
    ],
    ids=["English", "Chinese"],
)
def test_a_proof_is_harder_than_a_greeting(classifier: Classifier, greeting: str, proof: str) -> None:
    scores = [classifier.classify(Prompt((Message("user", text),))).score for text in (greeting, proof)]
    assert scores[0] < scores[1]
