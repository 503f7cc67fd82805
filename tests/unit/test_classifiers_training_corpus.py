"""A source as arrays: one row a prompt, gains compared within a pair of models only."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.base import Message, Prompt
from classifiers.features import extract_from, listen
from classifiers.training.corpus import corpus, measure, products
from classifiers.training.datasets import Example
from classifiers.traits import KINDS, TRAITS
from classifiers.traits import measure as measure_traits


def example(
    prompt: str, weak: float, strong: float, *, pair: str = "a", subset: str = "sums", stem: str = ""
) -> Example:
    return Example("d", "1", subset, "en", prompt, f"small-{pair}", "large", weak, strong, stem or prompt, False, {})


def test_a_prompt_has_one_row_whatever_the_pairs() -> None:
    rows = [example("one", 0, 1), example("two", 1, 1), example("one", 1, 1, pair="b"), example("two", 1, 0, pair="b")]
    found = corpus("source", rows)
    assert len(found) == 2
    assert found.prompts == ("one", "two")
    assert found.kinds.shape == (2, len(KINDS))
    assert found.traits.shape == (2, len(TRAITS))
    assert found.short.tolist() == [0.5, 0.0]


def test_gains_are_compared_within_a_pair() -> None:
    """A pair that is worse on everything makes no prompt harder than another."""
    good = [example(prompt, weak, 1.0) for prompt, weak in (("one", 0.9), ("two", 0.7), ("three", 0.5))]
    bad = [example(prompt, 0.0, 1.0, pair="b") for prompt in ("one", "two")]
    found = corpus("source", [*good, *bad])
    assert dict(zip(found.prompts, found.gain, strict=True)) == pytest.approx({"one": -0.1, "two": 0.0, "three": 0.2})
    assert corpus("source", good).gain.mean() == pytest.approx(0.0)


def test_short_counts_pairs_in_which_the_large_model_did_better() -> None:
    rows = [
        example("one", weak, strong, pair=pair) for pair, weak, strong in (("a", 0.2, 0.3), ("b", 1, 1), ("c", 1, 0))
    ]
    assert corpus("source", rows).short.tolist() == pytest.approx([1 / 3])


def test_labels_name_source_and_task_and_stems_the_question() -> None:
    found = corpus("source", [example("one", 0, 1, stem="s"), example("two", 0, 1, subset="proofs")])
    assert found.labels == ("source:sums", "source:proofs")
    assert found.stems == ("s", "two")


def test_a_prompt_is_measured_as_the_classifier_reads_it() -> None:
    text = "A farmer has 12 cows and sells 3. How many remain in total?" + " and so on" * 1_000
    request = Prompt((Message("user", text),))
    heard = listen(request.messages)
    assert measure(text) == (heard.text, measure_traits(heard.text, extract_from(request, heard)))
    found = corpus("source", [example(text, 0, 1)])
    assert found.texts == (heard.text,)
    assert tuple(found.traits[0]) == measure(text)[1].traits


def test_only_keeps_every_column_in_step() -> None:
    rows = [example(f"prompt {at}", at / 10, 1.0, subset=f"task {at}") for at in range(6)]
    whole = corpus("source", rows)
    part = whole.only(np.array([False, True, False, False, True, True]))
    again = corpus("source", [rows[at] for at in (1, 4, 5)])
    assert (part.name, part.prompts, part.texts, part.labels, part.stems) == (
        again.name, again.prompts, again.texts, again.labels, again.stems,
    )  # fmt: skip
    assert (part.traits == again.traits).all() and (part.kinds == again.kinds).all()
    assert part.gain.tolist() == whole.gain[[1, 4, 5]].tolist()
    assert len(whole.only(np.zeros(6, bool))) == 0


def test_products_have_kinds_outermost() -> None:
    kinds, values = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([[2.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    assert products(kinds, values).tolist() == [[2, 3, 5, 0, 0, 0], [1, 2, 3, 1, 2, 3]]
    found = corpus("source", [example("What is the capital of France?", 0, 1)])
    assert found.products.shape == (1, len(KINDS) * len(TRAITS))
    assert (found.products == products(found.kinds, found.traits)).all()
