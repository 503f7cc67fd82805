"""What the length of one model's answer says of another's, before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from math import e

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.answer_lengths import ALL_ALIKE, KNEE_TOKENS, VERSION, AnswerLength, AnswerLengths

USUAL = AnswerLength("", 300.0, rambles=True)
TERSE = AnswerLength("terse-1", 60.0, rambles=False)
VERBOSE = AnswerLength("verbose-1", 600.0, rambles=True)


@pytest.fixture
def lengths() -> AnswerLengths:
    return AnswerLengths({"terse": TERSE, "terse-1": TERSE, "verbose": VERBOSE}, USUAL)


def test_a_model_is_known_by_each_of_its_names(lengths: AnswerLengths) -> None:
    assert lengths.of("terse") is lengths.of("terse-1") is TERSE
    assert lengths.of("verbose") is VERBOSE


def test_one_that_is_not_known_answers_like_the_usual(lengths: AnswerLengths) -> None:
    assert lengths.of("new") is USUAL
    assert lengths.expected_tokens("new", "newer", 300) == lengths.expected_tokens("newest", "new", 300)


def test_the_prediction_is_the_formula(lengths: AnswerLengths) -> None:
    """With KNEE_TOKENS * (e - 1) tokens the logarithm is 1, and what is left is the scale."""
    model = AnswerLength("", KNEE_TOKENS * (e - 1), rambles=False)
    known = AnswerLengths({"a": model, "b": AnswerLength("", 870.0, rambles=False)}, USUAL)
    assert known.expected_tokens("a", "b", round(KNEE_TOKENS * (e - 1))) == 1_001  # 258 tokens, not 257.74
    assert known.expected_tokens("a", "b", 0) == 0


def test_a_verbose_baseline_is_expected_to_write_more_and_a_terse_one_less(lengths: AnswerLengths) -> None:
    assert lengths.expected_tokens("terse", "verbose", 60) > 500
    assert lengths.expected_tokens("verbose", "terse", 600) < 80


@given(st.integers(0, 100_000), st.integers(1, 100_000))
def test_longer_answers_predict_longer_ones_but_less_than_in_proportion(written: int, more: int) -> None:
    lengths = AnswerLengths({}, AnswerLength("", 30_000.0, rambles=False))
    short, long = (lengths.expected_tokens("a", "b", tokens) for tokens in (written, written + more))
    assert short <= long
    assert long * written <= short * (written + more) + (2 * written + more)  # both are rounded


def test_no_answer_is_expected_beyond_the_limit_of_the_request(lengths: AnswerLengths) -> None:
    assert lengths.expected_tokens("terse", "verbose", 60, limit=100) == 100
    assert lengths.expected_tokens("verbose", "terse", 600, limit=10_000) < 100
    assert lengths.expected_tokens("terse", "verbose", 60, limit=0) == 0


def test_several_choices_are_as_many_answers(lengths: AnswerLengths) -> None:
    once = lengths.expected_tokens("terse", "verbose", 60)
    assert lengths.expected_tokens("terse", "verbose", 180, choices=3) == pytest.approx(3 * once, abs=2)
    assert lengths.expected_tokens("terse", "verbose", 180, limit=1_000, choices=3) == 1_000


def test_the_version_is_another_where_lengths_are(lengths: AnswerLengths) -> None:
    same = AnswerLengths({"verbose": VERBOSE, "terse-1": TERSE, "terse": TERSE}, USUAL)
    longer = AnswerLengths({"verbose": VERBOSE, "terse-1": TERSE, "terse": TERSE}, replace(USUAL, mean_tokens=301.0))
    assert same.version == lengths.version != longer.version
    assert lengths.version.startswith(f"{VERSION}.")


def test_where_nothing_is_known_all_answer_alike() -> None:
    assert ALL_ALIKE.of("one") == ALL_ALIKE.of("another")
    assert ALL_ALIKE.of("one").rambles
