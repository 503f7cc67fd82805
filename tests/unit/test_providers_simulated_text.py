"""What the simulated models say: about the question, in its language, and as long as asked."""

from __future__ import annotations

import random

import pytest

from router.providers.simulated_text import compose, kind_of, language_of, topic_of
from router.tokenizers import estimate_tokens


@pytest.mark.parametrize(
    ("question", "topics"),
    [
        ("什么是光合作用", {"“光合作用”"}),
        ("请用一句话解释什么是光合作用？", {"“光合作用”"}),
        ("为什么秋天树叶会变红？", {"“秋天树叶会变红”"}),
        ("请求头是什么", {"“请求头”"}),
        ("解释器和编译器", {"“解释器和编译器”"}),
        ("你好，介绍一下长城。", {"“你好”", "“长城”"}),
        ("为什么？", {"这个问题"}),
        ("一二三四五六七八九十一二三四五六七八九十", {"这个问题"}),
    ],
)
def test_no_chinese_word_is_cut(question: str, topics: set[str]) -> None:
    assert {topic_of(question, "zh", random.Random(seed)) for seed in range(50)} <= topics


def test_english_topics_are_words_of_the_question() -> None:
    topics = {topic_of("What is the photosynthesis of plants?", "en", random.Random(seed)) for seed in range(50)}
    assert topics == {'"photosynthesis"', '"plants"'}
    assert topic_of("Why?", "en", random.Random(1)) == "this question"


@pytest.mark.parametrize("question", ["什么是光合作用", "What is photosynthesis?"])
def test_an_answer_is_as_long_as_asked_in_its_language(question: str) -> None:
    for seed in range(20):
        text = compose(question, 150, random.Random(seed))
        assert language_of(text) == language_of(question)
        assert 135 <= estimate_tokens(text) <= 200


def test_the_kind_of_a_question_is_told_by_its_words() -> None:
    kinds = {"Classify this: a": "label", "列出要点": "extract", "证明勾股定理": "maths", "Why?": "explain"}
    assert {question: kind_of(question) for question in kinds} == kinds
