"""Prompts in, numbers out."""

from __future__ import annotations

import pytest

from classifiers.base import Message, Prompt
from classifiers.features import (
    EARLIER_MESSAGES,
    NEWEST_HEAD,
    NEWEST_TAIL,
    SEARCHED_MESSAGES,
    Features,
    TextCounts,
    extract,
    measure,
    newest_text,
)


def user(*texts: str) -> Prompt:
    return Prompt(tuple(Message("user", text) for text in texts))


@pytest.mark.parametrize(
    ("feature", "english", "chinese"),
    [
        (
            "code",
            "Fix this:\n```\ndef area(r):\n    return r\n```",
            "修改这段代码：\n```\ndef area(r):\n    return r\n```",
        ),
        ("code", "Traceback (most recent call last): ValueError", "日志里的堆栈和异常如下"),
        ("mathematics", r"Evaluate $\int_0^1 x^2 dx$", r"计算积分 $\int_0^1 x^2 dx$"),
        ("mathematics", "Solve the equation for y", "解这个方程，求 y"),
        ("mathematics", "∑ k ≤ n", "∑ k ≤ n，求和"),
        ("quantities", "3 trays of 12 eggs, how many in total?", "3 盘鸡蛋，每盘 12 个，一共多少个？"),
        ("constraints", "It must use at least two sources.", "必须引用至少两个来源，不超过一页。"),
        ("steps", "First boil it, then peel it, finally slice it.", "首先煮熟，然后去皮，最后切片。"),
        ("reasoning", "Design and evaluate a seating chart.", "设计并评估一份座位安排。"),
        ("proof", "Prove the claim.", "证明这个结论。"),
        ("explanation", "Why is that, and how?", "为什么会这样，怎么做到的？"),
        ("writing", "An essay, please", "一篇作文，谢谢"),
        ("format", "Answer as a table in JSON", "用表格回答，分两个段落"),
    ],
)
def test_each_kind_is_heard_in_both_languages(feature: str, english: str, chinese: str) -> None:
    heard = [getattr(extract(user(text)), feature) for text in (english, chinese)]
    assert min(heard) > 0, heard


@pytest.mark.parametrize("text", ["我要求退款", "有一个请求", "市场需求很大"])
def test_a_request_is_not_the_mathematical_find(text: str) -> None:
    assert measure(text).mathematics == 0


def test_how_many_asks_for_a_number() -> None:
    asked = measure("How many cups, how much flour?")
    assert (asked.explanation, asked.quantities) == (0, 2)
    assert measure("Explain how many-sided it is").explanation == 1
    assert measure("Show me, or show many, how my plan works").explanation == 1


def test_typographic_quotes_and_accents_are_not_chinese() -> None:
    plain, curly = measure("the cafe's menu must close"), measure("the café’s menu must close")
    assert curly.constraints == plain.constraints == 1
    assert curly.units == pytest.approx(plain.units, abs=2)


def test_length_is_alike_in_both_languages() -> None:
    english = measure("The train to the coast leaves every morning at seven from the old station").units
    chinese = measure("开往海边的火车每天早上七点从老车站出发").units
    assert chinese == pytest.approx(english, rel=0.35)


@pytest.mark.parametrize(
    ("text", "routine"),
    [
        ("Translate this into Spanish: good evening", 1.0),
        ("请把这句话翻译成法语：晚上好", 1.0),
        ("A long note about the garden. " * 20 + "Summarize the above.", 1.0),
        ("Thanks!", 1.0),
        ("谢谢！", 1.0),
        ("Describe the garden", 0.0),
        ("描述一下花园", 0.0),
        ("什么是花园？", 0.0),
        ("花园为什么是绿的？", 0.0),
        ("The tutor and I " + "went on walking " * 30 + "and had to translate " + "many old letters " * 30, 0.0),
    ],
)
def test_a_mechanical_task_is_known_by_its_opening_or_its_close(text: str, routine: float) -> None:
    assert extract(user(text)).routine == routine


@pytest.mark.parametrize("text", ["Translate the lemma, then prove it", "翻译这个引理，然后证明它"])
def test_a_mechanical_word_fades_beside_reasoning(text: str) -> None:
    assert extract(user(text)).routine <= 0.5


def test_the_request_around_the_text_counts() -> None:
    prompt = Prompt((Message("user", "look", image_count=2),), 3, "json_schema", 900)
    features = extract(prompt)
    assert (features.tools, features.structured_output, features.images, features.max_output_tokens) == (3, 1, 2, 900)


def test_a_number_beyond_any_float_is_capped() -> None:
    prompt = Prompt((Message("user", "hi", image_count=10**400),), 10**400, "text", 10**400)
    assert extract(prompt).tools == extract(prompt).max_output_tokens == extract(prompt).images == 1_000_000


def test_no_messages_are_all_zeros() -> None:
    assert extract(Prompt(())) == Features()
    assert measure("") == TextCounts()


def test_a_system_message_alone_is_context_only() -> None:
    features = extract(Prompt((Message("system", "Prove it."),)))
    assert features.characters == 0
    assert 0 < features.proof < 1


@pytest.mark.parametrize("talk_in_between", [0, EARLIER_MESSAGES + 5])
def test_the_opening_message_still_counts_after_a_long_talk(talk_in_between: int) -> None:
    talk = ["Prove the lemma.", *["fine"] * talk_in_between, "go on"]
    assert extract(user(*talk)).proof == pytest.approx(0.8)


def test_the_newest_user_message_is_found_behind_tool_results() -> None:
    talk = (Message("user", "Prove it."), Message("assistant", ""), Message("tool", "must " * 5))
    features = extract(Prompt(talk))
    assert features.proof == 1.0
    assert features.constraints == pytest.approx(4.0)


@pytest.mark.parametrize("steps", [1, EARLIER_MESSAGES, SEARCHED_MESSAGES // 2 - 1])
def test_however_many_calls_and_results_follow_it(steps: int) -> None:
    """An agent works on one instruction for long; what it works on is neither the opening nor among the latest."""
    talk = (Message("user", "Hello!"), Message("assistant", "Hi!"), Message("user", "Prove it."))
    loop = (Message("assistant", ""), Message("tool", "written")) * steps
    features = extract(Prompt(talk + loop))
    assert features.proof == 1.0
    assert features.characters == len("Prove it.")


def test_the_newest_message_is_the_users_in_every_reading() -> None:
    loop = (Message("assistant", "a"), Message("tool", "b")) * SEARCHED_MESSAGES
    assert newest_text(()) == ""
    assert newest_text(loop) == "b"
    assert newest_text((Message("user", "far away"), *loop)) == "b"
    assert newest_text((Message("user", "near"), *loop[:9])) == "near"


def test_the_middle_of_an_enormous_message_is_not_read() -> None:
    filler = "word " * 50_000
    assert extract(user(filler + "prove" + filler)).proof == 0
    assert extract(user("prove " + filler + " prove")).proof == 2
    assert extract(user(filler)).units <= (NEWEST_HEAD + NEWEST_TAIL) / 5 + 2
    assert extract(user(filler)).characters == len(filler)
