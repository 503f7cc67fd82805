"""What a prompt says of its answer's length is heard in both languages, and not where it only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from classifiers.length_cues import CUES, HEAD, TAIL, Reading, read, tokens_of
from tests.contracts.classifier_suite import TEXT


def heard(text: str) -> set[str]:
    return {CUES[at].name for at in read(text).cues}


@pytest.mark.parametrize(
    ("cue", "english", "chinese"),
    [
        ("brief", "Tell me briefly about tides.", "请简要介绍潮汐。"),
        ("thorough", "A comprehensive overview of tides", "请详细介绍潮汐"),
        ("composition", "Write an essay about tides", "写一篇关于潮汐的文章"),
        ("snippet", "A slogan for a bakery", "给面包店想一句口号"),
        ("verdict", "Classify the sentiment of this note", "判断这句话的情感"),
        ("list", "Suggestions for a picnic", "列出野餐要带的东西"),
        ("explanation", "Explain the tides", "解释潮汐"),
        ("steps", "A recipe for soup", "做汤的步骤"),
        ("code", "Write a python function", "写一个函数"),
        ("courtesy", "Thanks!", "谢谢"),
        ("only the answer", "Reply with only the number.", "只需给出数字"),
        ("yes or no", "Is it raining, yes or no?", "是否下雨？"),
        ("choices", "Which one?\nA. ink\nB. tea\nC. oil", "选哪个？\nA. 墨\nB. 茶\nC. 油"),
        ("opens with who, when, where, which", "Who painted it?", "谁是画家？"),
        ("opens with what", "What's a tide?", "潮汐是什么？"),
        ("ends in a colon", "Name of the bird: ", "鸟的名字："),
    ],
)
def test_each_cue_is_heard_in_both_languages(cue: str, english: str, chinese: str) -> None:
    assert cue in heard(english)
    assert cue in heard(chinese)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("Thanks for the notes; now plan the whole harvest festival for our village.", "courtesy"),
        ("I am the only one here who can give a talk on moss, and this is about moss.", "opens with what"),
        ("The only bridge in the valley was closed, then we walked home in the rain to reply.", "only the answer"),
        ("What stands on line B and on line C", "choices"),
    ],
)
def test_what_only_looks_like_a_cue_is_none(text: str, absent: str) -> None:
    assert absent not in heard(text)


def test_chinese_words_of_cues_are_pairs() -> None:
    assert {len(word) for cue in CUES for word in cue.chinese.split()} == {2}


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("Write about frogs in 200 words", 220, 300),
        ("Write about frogs in a 200-word note", 220, 300),
        ("Write about frogs in 1,000 words", 700, 1_350),
        ("Write about frogs in no more than 50 words", 35, 60),
        ("Describe frogs in one sentence", 20, 40),
        ("Describe frogs in three short sentences", 70, 110),
        ("Two paragraphs about frogs", 150, 220),
        ("Give me 10 ideas for a frog pond", 200, 450),
        ("写一篇800字的作文", 600, 1_100),
        ("用一百字介绍青蛙", 100, 160),
        ("用两段介绍青蛙", 200, 320),
        ("用一句话介绍青蛙", 20, 50),
        ("不超过50字，介绍青蛙", 30, 65),
        ("列出十二条关于青蛙的事实", 250, 500),
        ("Translate into French: " + "the frog sits on a leaf and waits for rain. " * 6, 50, 90),
        ("把下面这段话翻译成英文：" + "青蛙坐在荷叶上等雨。" * 6, 60, 110),
        ("Summarize this: " + "the frog sits on a leaf and waits for rain. " * 300, 40, 200),
        ("请总结：" + "青蛙坐在荷叶上等雨。" * 300, 40, 200),
    ],
)
def test_a_length_asked_for_or_implied_is_a_target(text: str, least: int, most: int) -> None:
    target = read(text).target
    assert target is not None
    assert least <= target.tokens <= most


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How do frogs breathe?",
        "In the words of my uncle",
        "Summarize",
        "an idea",
        "Translate",
        "蛙有一个问题",
        "0 words",
    ],
)
def test_without_a_length_there_is_no_target(text: str) -> None:
    assert read(text).target is None


def test_long_targets_are_believed_less_and_less() -> None:
    asked = [read(f"{words} words about frogs").target for words in (400, 4_000, 99_999)]
    tokens = [target.tokens for target in asked if target is not None]
    assert tokens[0] < tokens[1] < tokens[2] < 16_000
    assert tokens[1] / tokens[0] < 10


def test_the_middle_of_a_long_message_is_not_read() -> None:
    assert read("x" * HEAD + " write an essay " + "x" * TAIL).cues == ()
    assert "composition" in heard("write an essay " + "x " * 5_000)
    assert "composition" in heard("x " * 5_000 + "write an essay")


def test_tokens_follow_the_script() -> None:
    assert tokens_of("") == 0
    assert tokens_of("frog " * 100) == pytest.approx(115, rel=0.3)
    assert tokens_of("青蛙" * 50) == pytest.approx(120, rel=0.3)


@settings(max_examples=300)
@given(TEXT)
def test_any_text_is_read(text: str) -> None:
    reading = read(text)
    assert isinstance(reading, Reading)
    assert len(set(reading.cues)) == len(reading.cues)
    assert all(0 <= at < len(CUES) for at in reading.cues)
    assert reading.target is None or (reading.target.tokens >= 1.0 and 0.0 < reading.target.trust <= 1.0)
