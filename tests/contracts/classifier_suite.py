"""What every `Classifier` owes its callers, whatever it was trained on: checks to run over each in the registry."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from classifiers.base import TIERS, Classification, Classifier, Message, Prompt, ResponseFormat

# Any code point at all, lone surrogates and control characters too, beside words that classifiers react to.
ANY_TEXT = st.text(st.characters(), max_size=400)
WORDS = [
    "prove",
    "translate",
    "```",
    "x^2",
    "\\frac{1}{2}",
    "def f():",
    "must",
    "7",
    "证明",
    "翻译",
    "，求",
    "必须",
    "为什么",
]
ODDITIES = ["\ud800", "\udfff", "\x00", "\ufeff", "😀", "é", "привет", "مرحبا", "한국어", " ", "\n", "\u3000"]
TALKATIVE = st.lists(st.sampled_from(WORDS + ODDITIES), max_size=60).map("".join)
TEXT = st.one_of(ANY_TEXT, TALKATIVE)

MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", ""]),
    text=TEXT,
    image_count=st.integers(0, 10),
)
PROMPTS = st.builds(
    Prompt,
    messages=st.lists(MESSAGES, max_size=12).map(tuple),
    tool_count=st.integers(0, 10**6),
    response_format=st.sampled_from(get_args(ResponseFormat)),
    max_output_tokens=st.none() | st.integers(0, 2**63),
)


def check_answer(classifier: Classifier, prompt: Prompt) -> None:
    """The answer is well formed, and the same when asked again."""
    answer = classifier.classify(prompt)
    assert isinstance(answer, Classification)
    assert 0.0 <= answer.score <= 1.0
    assert answer.tier in TIERS
    assert all(isinstance(signal, str) and signal for signal in answer.signals)
    assert len(set(answer.signals)) == len(answer.signals)
    name, _, version = answer.classifier.partition("@")
    assert name
    assert version
    assert classifier.classify(prompt) == answer
