"""The word lists keep the promises that the counting relies on."""

from __future__ import annotations

import pytest

from classifiers import vocabulary


@pytest.mark.parametrize("lists", [vocabulary.ENGLISH, vocabulary.CHINESE], ids=["English", "Chinese"])
def test_every_kind_has_words_and_no_word_has_two_kinds(lists: dict[int, str]) -> None:
    words = [word for line in lists.values() for word in line.split()]
    assert set(lists) == set(vocabulary.KINDS)
    assert sorted(words) == sorted(set(words))


def test_every_chinese_entry_is_one_pair() -> None:
    entries = [entry for line in vocabulary.CHINESE.values() for entry in line.split()]
    assert [entry for entry in entries if len(entry) != 2] == []


def test_no_word_of_reassurance_is_listened_for() -> None:
    english = " ".join([*vocabulary.ENGLISH.values(), vocabulary.ENGLISH_ROUTINE]).split()
    chinese = " ".join([*vocabulary.CHINESE.values(), vocabulary.CHINESE_ROUTINE]).split()
    assert not {"simple", "simply", "easy", "trivial", "quick", "just", "basic"} & set(english)
    assert not {"简单", "容易", "轻松", "基础", "快速"} & set(chinese)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("", []), ("设", []), ("设计", ["设计"]), ("设计表", ["设计", "计表"]), ("设计表格", ["设计", "表格", "计表"])],
)
def test_pairs_are_every_two_neighbours(text: str, pairs: list[str]) -> None:
    assert vocabulary.pairs_of(text) == [vocabulary.pairs_of(pair)[0] for pair in pairs]


def test_pairs_of_a_lone_surrogate_are_defined() -> None:
    assert len(vocabulary.pairs_of("设\ud800计")) == 2
