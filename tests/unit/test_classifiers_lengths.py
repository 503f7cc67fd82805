"""Expected and 95th-percentile tokens: ordered, within the request's limit, and longer where more was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifiers.base import Message, OutputLength, Prompt
from classifiers.features import extract
from classifiers.lengths import KEYS, MOST_TOKENS, NAMES, LengthModel, hand_set
from tests.contracts.classifier_suite import PROMPTS

MODEL = LengthModel()


def predict(prompt: Prompt, model: LengthModel = MODEL) -> OutputLength:
    return model.predict(extract(prompt), prompt)


def expected(*texts: str) -> int:
    """Of a conversation that ends with the user; user and assistant take turns."""
    roles = ["user", "assistant"] if len(texts) % 2 else ["assistant", "user"]
    messages = tuple(Message(roles[at % 2], text) for at, text in enumerate(texts))
    return predict(Prompt(messages)).expected_tokens


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("Thanks!", "How do tides work?"),
        ("Who painted the ceiling?", "How do tides work?"),
        ("Is this note spam? Answer only yes or no.", "Is this note spam?"),
        ("Explain tides briefly", "Explain tides"),
        ("Explain tides", "Write a comprehensive article on tides"),
        ("Write 50 words on tides", "Write 300 words on tides"),
        ("A caption for the photo", "A story for the photo"),
        ("简要解释潮汐", "解释潮汐"),
        ("用一句话解释潮汐", "写一篇800字的潮汐文章"),
        (
            "Translate: the tide is in, and the boats are out.",
            "Translate: " + "the tide is in and the boats are out. " * 20,
        ),
    ],
)
def test_more_asked_for_is_more_expected(shorter: str, longer: str) -> None:
    assert expected(shorter) * 1.2 < expected(longer)


def test_short_questions_in_algebra_take_working_out() -> None:
    assert expected("What is the name of the bird?") < expected("What is the integral of $x^2 \\sin x$, and its limit?")


def test_a_conversation_goes_on_as_it_went() -> None:
    terse = expected("Tides?", "The moon pulls.", "And why twice a day?")
    wordy = expected("Tides?", "The moon pulls at the water on both sides. " * 80, "And why twice a day?")
    assert terse < expected("And why twice a day?") < wordy


def test_a_system_prompt_that_asks_for_brevity_is_heard() -> None:
    asked = Message("user", "Explain tides")
    plain, terse = (
        Prompt((Message("system", text), asked)) for text in ("You know the sea.", "You are concise. Be brief.")
    )
    assert predict(terse).expected_tokens < predict(plain).expected_tokens


def test_what_is_asked_for_in_words_is_surer() -> None:
    asked, open_ended = (
        predict(Prompt((Message("user", text),))) for text in ("Write 60 words on tides", "How do tides work?")
    )
    assert asked.p95_tokens / asked.expected_tokens < 4
    assert asked.p95_tokens < open_ended.p95_tokens


@settings(max_examples=300)
@given(PROMPTS)
def test_any_prompt_has_an_answer_within_its_limit(prompt: Prompt) -> None:
    length = predict(prompt)
    limit = min(prompt.max_output_tokens or MOST_TOKENS, MOST_TOKENS)
    assert 1 <= length.expected_tokens <= length.p95_tokens <= limit
    assert isinstance(length.expected_tokens, int)
    assert isinstance(length.p95_tokens, int)


@settings(max_examples=50)
@given(PROMPTS, st.integers(0, 2**32 - 1))
def test_no_weights_make_it_fail(prompt: Prompt, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = hand_set() | {key: rng.normal(0.0, 50.0, hand_set()[key].shape) for key in KEYS[1:]}
    length = predict(prompt, LengthModel(arrays))
    assert 1 <= length.expected_tokens <= length.p95_tokens <= MOST_TOKENS


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "x" * 1_000_000, "字" * 300_000, "\n" * 100_000])
def test_odd_text_has_an_answer(text: str) -> None:
    assert expected(text) >= 1


def test_no_message_at_all_has_an_answer() -> None:
    assert predict(Prompt(())).expected_tokens >= 1


def test_without_an_artefact_the_hand_set_weights_serve() -> None:
    prompt = Prompt((Message("user", "How do tides work?"),))
    assert predict(prompt) == predict(prompt, LengthModel(hand_set()))


def test_weights_move_the_estimate() -> None:
    arrays = hand_set()
    arrays["length_location"] = arrays["length_location"].copy()
    arrays["length_location"][NAMES.index("thorough")] += 1.0
    prompt = Prompt((Message("user", "A thorough text on tides"),))
    assert predict(prompt, LengthModel(arrays)).expected_tokens > 2 * predict(prompt).expected_tokens


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: {key: value for key, value in arrays.items() if key != "length_spread"}, "length_spread"),
        (lambda arrays: arrays | {"length_names": np.array(["x"])}, "train it anew"),
        (lambda arrays: arrays | {"length_location": np.zeros(3)}, "length_location must be"),
        (lambda arrays: arrays | {"length_base": np.full(4, np.nan)}, "length_base must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    change: Callable[[dict[str, NDArray[np.float64]]], dict[str, NDArray[np.float64]]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        LengthModel(change(hand_set()))


def test_a_greeting_and_a_tool_call_say_little_of_the_answers_to_come() -> None:
    """A short earlier answer draws the estimate a little, an empty one not at all."""
    task = "Explain in detail how a compiler turns a loop into machine code, step by step."

    def expected(*answers: str) -> int:
        talk = [message for answer in answers for message in (Message("user", "Hi"), Message("assistant", answer))]
        prompt = Prompt((*talk, Message("user", task)))
        return LengthModel().predict(extract(prompt), prompt).expected_tokens

    alone, greeted, called = expected(), expected("Hi, how can I help?"), expected("")
    assert called == pytest.approx(alone, rel=0.1)
    assert 0.7 * alone < greeted <= 1.1 * alone
