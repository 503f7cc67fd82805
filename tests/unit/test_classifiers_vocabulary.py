"""The word lists keep the promises that the counting relies on."""

from __future__ import annotations

import pytest

from classifiers import vocabulary
from classifiers.features import take_apart
from classifiers.vocabulary import pairs_of


@pytest.mark.parametrize("lists", [vocabulary.ENGLISH, vocabulary.CHINESE], ids=["English", "Chinese"])
def test_every_kind_has_words_and_no_word_has_two_kinds(lists: dict[int, str]) -> None:
    words = [word for line in lists.values() for word in line.split()]
    assert set(lists) == set(vocabulary.KINDS)
    assert sorted(words) == sorted(set(words))


def test_every_chinese_entry_is_one_pair() -> None:
    entries = [entry for line in vocabulary.CHINESE.values() for entry in line.split()]
    assert [entry for entry in entries if len(entry) != 2] == []


@pytest.mark.parametrize("lists", [vocabulary.ENGLISH_CLASSES, vocabulary.CHINESE_CLASSES], ids=["English", "Chinese"])
def test_every_class_has_words_and_no_word_has_two_classes(lists: dict[int, str]) -> None:
    words = [word for line in lists.values() for word in line.split()]
    assert set(lists) == set(vocabulary.CLASSES)
    assert all(line.split() for line in lists.values())
    assert sorted(words) == sorted(set(words))


def test_every_chinese_entry_of_a_class_is_one_pair() -> None:
    entries = [entry for line in vocabulary.CHINESE_CLASSES.values() for entry in line.split()]
    assert [entry for entry in entries if len(entry) != 2] == []


def test_every_english_entry_can_be_met_in_folded_text() -> None:
    lists = [*vocabulary.ENGLISH.values(), *vocabulary.ENGLISH_CLASSES.values(), vocabulary.ENGLISH_ROUTINE]
    entries = [entry for line in [*lists, vocabulary.ENGLISH_COURTESIES] for entry in line.split()]
    assert [entry for entry in entries if take_apart(entry).words != [entry.encode()]] == []


def test_no_word_of_reassurance_is_listened_for() -> None:
    lists = [vocabulary.ENGLISH, vocabulary.ENGLISH_CLASSES, vocabulary.CHINESE, vocabulary.CHINESE_CLASSES]
    words = {word for kinds in lists for line in kinds.values() for word in line.split()}
    words |= {*vocabulary.ENGLISH_ROUTINE.split(), *vocabulary.CHINESE_ROUTINE.split()}
    assert not {"simple", "simply", "easy", "easily", "trivial", "quick", "just", "basic", "beginner", "short"} & words
    assert not {"简单", "容易", "轻松", "基础", "快速", "不难", "随便"} & words


def decoded(mark: int) -> tuple[int | None, int | None]:
    kind, word_class = vocabulary.KIND_OF_MARK[mark], vocabulary.CLASS_OF_MARK[mark]
    return kind - 1 if kind else None, word_class - 1 if word_class else None


def of(lists: dict[int, str], word: str) -> int | None:
    return next((kind for kind, words in lists.items() if word in words.split()), None)


def test_a_mark_fits_a_byte_and_says_kind_and_class() -> None:
    """Both may be missing, not both at once: a mark is never 0, which says that nothing is known of a word."""
    marks = [*vocabulary.MARK_OF_WORD.values(), *vocabulary.MARK_OF_PAIR.values()]
    assert min(marks) > 0
    assert max(marks) < 256
    for kinds, classes, mark_of in (
        (vocabulary.ENGLISH, vocabulary.ENGLISH_CLASSES, lambda word: vocabulary.MARK_OF_WORD[word.encode()]),
        (vocabulary.CHINESE, vocabulary.CHINESE_CLASSES, lambda pair: vocabulary.MARK_OF_PAIR[pairs_of(pair)[0]]),
    ):
        for word in {word for lists in (kinds, classes) for line in lists.values() for word in line.split()}:
            assert decoded(mark_of(word)) == (of(kinds, word), of(classes, word)), word


def test_the_mark_of_nothing_is_nothing() -> None:
    assert decoded(0) == (None, None)
    assert len(vocabulary.KIND_OF_MARK) == len(vocabulary.CLASS_OF_MARK) == 256


def test_numbers_are_quantities() -> None:
    for number in ("7", "1990", "123456789012"):
        (mark,) = take_apart(number).marks
        assert decoded(mark)[0] == vocabulary.QUANTITY


@pytest.mark.parametrize(
    ("text", "pairs"),
    [("", []), ("设", []), ("设计", ["设计"]), ("设计表", ["设计", "计表"]), ("设计表格", ["设计", "表格", "计表"])],
)
def test_pairs_are_every_two_neighbours(text: str, pairs: list[str]) -> None:
    assert vocabulary.pairs_of(text) == [vocabulary.pairs_of(pair)[0] for pair in pairs]


def test_pairs_of_a_lone_surrogate_are_defined() -> None:
    assert len(vocabulary.pairs_of("设\ud800计")) == 2
