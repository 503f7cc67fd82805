"""Requests of one template share a fingerprint, others do not, and no text breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.base import Message, Prompt
from classifiers.fingerprint import PARTS, fingerprint, keys, masked
from tests.contracts.classifier_suite import PROMPTS

MATERIAL = "The parcel came late and one of the cups in it was broken, so I would like to have a new one. " * 3


def user(text: str, **fields: object) -> Prompt:
    return replace(Prompt((Message("user", text),)), **fields)


def parts(prompt: Prompt) -> dict[str, str]:
    return dict(zip(PARTS, fingerprint(prompt).split("."), strict=True))


@settings(max_examples=300, deadline=None)
@given(prompt=PROMPTS, application=st.text(st.characters(), max_size=300))
def test_any_prompt_has_one_and_keeps_it(prompt: Prompt, application: str) -> None:
    asked = replace(prompt, application=application)
    first = fingerprint(asked)
    assert fingerprint(asked) == first
    assert len(first) <= 40
    assert first.replace(".", "").isalnum()
    assert len(first.split(".")) == len(PARTS)


@pytest.mark.parametrize(
    "text",
    [
        "\ud800" * 10_000,
        "\x00\xff" * 10_000,
        "7" * 1_000_000,
        '"' * 100_000,
        "aA1-" * 100_000,
        " " * 100_000,
        "#, " * 9,
    ],
    ids=["lone surrogates", "binary", "digits", "quotes", "mixed", "blank", "masks"],
)
def test_the_odd_texts_have_one(text: str) -> None:
    assert len(fingerprint(user(text)).split(".")) == len(PARTS)


def test_a_prompt_without_messages_has_an_application_alone() -> None:
    assert parts(Prompt(())) | {"application": ""} == dict.fromkeys(PARTS, "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Summarise ticket 4711 for Anna Smith, in two lines.", "Summarise ticket 23 for Bo Lee, in two lines."),
        ("Look at https://a.example/x?y=1 and list the faults.", "Look at http://b.example and list the faults."),
        ('Translate "good morning" into French.', 'Translate "see you" into French.'),
        ("Write to jo@a.example about the late parcel.", "Write to anna.k@b.example about the late parcel."),
        ("Explain order AB-77-x, please.", "Explain order 2024-05-01, please."),
        ("请把“早上好”翻译成英文，共12个词。", "请把“再见”翻译成英文，共7个词。"),
        ("总结《红楼梦》第３回的内容。", "总结《西游记》第１２回的内容。"),
    ],
    ids=["numbers and names", "addresses", "quotations", "mail", "codes", "Chinese quotations", "Chinese titles"],
)
def test_what_varies_by_its_looks_does_not_matter(one: str, other: str) -> None:
    assert fingerprint(user(one)) == fingerprint(user(other))


@given(number=st.integers(0, 10**12), quoted=st.text(st.characters(exclude_characters='"\n'), max_size=40))
def test_no_number_and_no_short_quotation_matters(number: int, quoted: str) -> None:
    text = f'Check claim {number} of the customer who says "{quoted}" for fraud.'
    plain = 'Check claim 1 of the customer who says "so" for fraud.'
    assert parts(user(text))["opening"] == parts(user(plain))["opening"]
    assert parts(user(text))["clause"] == parts(user(plain))["clause"]


@pytest.mark.parametrize(
    ("instruction", "material", "others"),
    [
        ("Summarise the customer's complaint in one sentence:\n", MATERIAL, "Hello, where is my order? It is late."),
        ("### Task:\nDecide which department should answer this.\n", MATERIAL, "I want my money back."),
        ("判断下面这句话的情感是正面还是负面。\n", "这家餐厅的菜很好吃，服务也不错。" * 9, "太差了，再也不来了。"),
        ("问题：请根据合同条款回答用户的问题。\n", "我可以提前解约吗？需要赔偿多少？", "押金什么时候退还？"),
    ],
    ids=["English", "under a heading", "Chinese", "Chinese heading"],
)
def test_an_instruction_at_the_head_names_the_task_whatever_follows(
    instruction: str, material: str, others: str
) -> None:
    one, other = parts(user(instruction + material)), parts(user(instruction + others))
    assert one["clause"] == other["clause"]
    assert one["opening"] == other["opening"]


@pytest.mark.parametrize(
    ("instruction", "materials"),
    [
        ("\n\nAnswer with yes or no.", ("Is it raining today?", "Can penguins fly at all, or swim?")),
        ("\n请用一句话概括以上内容。", ("今天股市大涨，投资者情绪高涨。", "昨晚本市发生了一起交通事故，无人伤亡。")),
    ],
    ids=["English", "Chinese"],
)
def test_an_instruction_at_the_tail_does_too(instruction: str, materials: tuple[str, str]) -> None:
    one, other = (parts(user(material + instruction)) for material in materials)
    assert one["closing"] == other["closing"] != ""
    assert one["clause"] != other["clause"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (user("Summarise the ticket below."), user("Translate the ticket below.")),
        (user("总结下面的投诉内容。"), user("翻译下面的投诉内容。")),
        (user("Hello"), user("Hello", application="team-2")),
        (user("Hello"), user("Hello", tool_count=2)),
        (user("Hello"), user("Hello", response_format="json_object")),
        (user("Hello"), Prompt((Message("system", "You are a lawyer."), Message("user", "Hello")))),
    ],
    ids=["instruction", "Chinese instruction", "application", "tools", "format", "system prompt"],
)
def test_another_task_has_another(one: Prompt, other: Prompt) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_a_system_prompt_is_known_whatever_day_it_names() -> None:
    def on(day: str) -> Prompt:
        return Prompt((Message("system", f"You help ACME's clerks. Today is {day}."), Message("user", "Hello")))

    assert fingerprint(on("2026-01-02")) == fingerprint(on("2026-11-30"))


def test_it_is_the_newest_user_message_that_counts() -> None:
    talk = (Message("user", "Hello"), Message("assistant", "Hi."), Message("user", "Prove it."), Message("tool", "42"))
    assert fingerprint(Prompt(talk)) == fingerprint(user("Prove it."))


def test_neighbouring_masks_are_one() -> None:
    assert masked("for Anna Smith, id_42 and 7 8") == "for # and #"


def test_evidence_is_kept_within_the_application() -> None:
    application, opening, clause, closing = keys("a.b.c.d")
    assert application == ("a", "")
    assert opening == ("a.b", "a.*")
    assert clause == ("a.b.c", "a.b.*")
    assert closing == ("a...d", "a...*")
    assert keys("a...")[1:] == (("", ""),) * 3


@given(name=st.text(max_size=30))
def test_any_string_may_stand_for_a_fingerprint(name: str) -> None:
    assert len(keys(name)) == len(PARTS)
    assert keys(name)[0][0] in (name, name.split(".")[0])
