"""Which kind of request a text is, in English and Chinese, and the traits within it."""

from __future__ import annotations

import pytest
from hypothesis import given

from classifiers.base import Message, Prompt
from classifiers.features import extract_from, listen
from classifiers.traits import KINDS, TRAITS, Traits, measure
from tests.contracts.classifier_suite import TEXT

WORD_PROBLEMS = [
    "A farmer has 12 cows and sells 3 of them each week. How many cows remain after 2 weeks in total?",
    "小明有12个苹果，每天吃3个，又买了5个。一共还剩下多少个苹果？请计算。",
]
CODE = [
    "Fix this bug:\n```python\ndef f(x):\n    return x == 1\n```\nThe function should print null to stdout.",
    "用代码实现一个缓存接口：\n```python\ndef get(key):\n    return cache == key\n```\n程序报错，请调试异常。",
]
NOTATION = [
    r"Let $\alpha^2 + \beta^2 = \frac{1}{2}$ and $\gamma = \sqrt{\alpha\beta}$. Find $\sin(\gamma)^3$.",
    r"设函数 $f(x)=\frac{1}{x^2}+\sqrt{x}$，且 $\alpha\leq\beta$，求 $\sin(x)^2+\cos(x)^2$ 的值。",
]
CHOICES = [
    "Which planet is the largest?\nA. Mars\nB. Venus\nC. Jupiter\nD. Earth",
    "下列哪一项是最大的行星？\nA．火星\nB．金星\nC．木星\nD．地球",
]
OPEN = [
    "Describe the mood of the harbour in the early evening, and what the people there are waiting for.",
    "描写傍晚港口的气氛，以及那里的人们在等待什么。",
]


def measured(text: str) -> Traits:
    request = Prompt((Message("user", text),))
    heard = listen(request.messages)
    return measure(heard.text, extract_from(request, heard))


def kinds(text: str) -> dict[str, float]:
    return dict(zip(KINDS, measured(text).kinds, strict=True))


def traits(text: str) -> dict[str, float]:
    return dict(zip(TRAITS, measured(text).traits, strict=True))


@given(text=TEXT)
def test_kinds_are_shares_and_traits_are_bounded(text: str) -> None:
    found = measured(text)
    assert len(found.kinds) == len(KINDS)
    assert len(found.traits) == len(TRAITS)
    assert all(0.0 <= share <= 1.0 for share in found.kinds)
    assert sum(found.kinds) == pytest.approx(1.0)
    assert all(-1.01 <= value <= 2.0 for value in found.traits)
    assert found.traits[TRAITS.index("level")] == 1.0


@pytest.mark.parametrize(
    "text",
    ["A. B. C. " * 3_000, "\\^" * 5_000, "不" * 50_000, "``` == -> " * 5_000, "a" * 1_000_000, "\ud800\ud801" * 9],
    ids=["options", "notation", "one character", "code", "one word", "surrogates"],
)
def test_extreme_texts_are_bounded_too(text: str) -> None:
    found = measured(text)
    assert sum(found.kinds) == pytest.approx(1.0)
    assert all(-1.01 <= value <= 2.0 for value in found.traits)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kind, text)
        for kind, texts in (
            ("word_problem", WORD_PROBLEMS), ("code", CODE), ("notation", NOTATION), ("choice", CHOICES), ("open", OPEN)
        )
        for text in texts
    ],
)  # fmt: skip
def test_each_kind_is_told_in_both_languages(kind: str, text: str) -> None:
    shares = kinds(text)
    assert max(shares, key=shares.__getitem__) == kind
    assert shares[kind] > 0.5


@pytest.mark.parametrize("mark", [".", ")", ":", "．", "）", "：", "、"])
def test_options_have_half_and_full_width_marks(mark: str) -> None:
    text = f"Which one? A{mark} red B{mark} green C{mark} blue"
    assert kinds(text)["choice"] == 1.0
    assert kinds(text.replace("A" + mark, "A").replace("C" + mark, "C"))["choice"] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Who is J. K. Rowling, and did she know C. S. Lewis?",
        "Compare plan A. with plan B. and say which one you prefer.",
        "NASA: the history. FAQ: the answers. ABC: the station.",
        "C. first, B. second, A. third",
        "D. Knuth, E. Dijkstra, A. Turing and B. Liskov walk into a bar.",
    ],
)
def test_letters_that_do_not_run_from_a_to_c_are_no_options(text: str) -> None:
    assert kinds(text)["choice"] == 0.0
    assert traits(text)["option_length"] == 0.0


def test_initials_before_the_options_do_not_hide_them() -> None:
    text = "What did J. K. Rowling write?\nA. Novels\nB. Laws\nC. Maps"
    assert kinds(text)["choice"] == 1.0


def test_numbers_among_the_options_are_told_from_numbers_in_the_question() -> None:
    asked = "In 1990 there were 17 of 25. How many were left?"
    words, digits = (f"{asked}\nA. {a}\nB. {b}\nC. {c}" for a, b, c in (("few", "some", "all"), ("10", "20", "30")))
    assert traits(words)["option_numbers"] < 0.2 < 0.5 < traits(digits)["option_numbers"]


def test_a_question_is_as_long_as_what_stands_before_its_options() -> None:
    short, long = "Which?\nA. x\nB. y\nC. z", "Which of them?\nA. x" + " x" * 200 + "\nB. y\nC. z"
    assert traits(short)["length"] < traits(long)["length"] < 0.0
    assert traits(long)["option_length"] > traits(short)["option_length"]


@pytest.mark.parametrize(
    ("trait", "without", "with_it"),
    [
        ("negation", "Which of these is true of whales", "Which of these is not true of whales"),
        ("negation", "下列说法符合原意的是", "下列说法不符合原意的是"),
        ("people", "The contract was signed late", "She told him that her contract was signed late"),
        ("people", "合同签订得很晚", "被告与原告签订合同很晚"),
        ("conditions", "The pump stops", "If the pump stops before noon, suppose it stays off until six"),
        ("conditions", "水泵停了", "如果水泵停了，假设之后不再启动"),
        ("recall", "Tell me about telephones", "Who invented telephones, and in which year"),
        ("recall", "电话的历史", "电话的发明者是哪位"),
        ("statements", "Read this", "Statement 1 is true; judge the second statement and its conclusion"),
        ("statements", "阅读材料", "判断下列说法和结论"),
        ("reasoning", "The harbour at night", "Analyze and optimize the harbour at night"),
        ("writing", "The harbour at night", "A poem and a story of the harbour at night"),
        ("notation_share", "x equals y", r"x^2 = \frac{y}{2}"),
        ("chinese", "harbour", "描写傍晚的港口"),
    ],
)
def test_a_trait_rises_with_what_it_is_named_for(trait: str, without: str, with_it: str) -> None:
    assert traits(without)[trait] < traits(with_it)[trait] <= 1.0


def test_only_the_newest_message_counts_as_the_question() -> None:
    alone = measured(OPEN[0])
    request = Prompt((Message("user", CHOICES[0]), Message("assistant", "C."), Message("user", OPEN[0])))
    heard = listen(request.messages)
    among = measure(heard.text, extract_from(request, heard))
    assert among.kinds[KINDS.index("choice")] == alone.kinds[KINDS.index("choice")] == 0.0


@pytest.mark.parametrize("letters", ["A. B. C. ", " A. B. C.", "A) B) C) D)"])
def test_bare_letters_are_no_options(letters: str) -> None:
    hard = "Prove by induction that the sum of the first n odd integers is a square."
    assert kinds(letters + hard)["choice"] == kinds(hard + " " + letters)["choice"] == 0.0
