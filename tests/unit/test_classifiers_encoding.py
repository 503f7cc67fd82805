"""Texts as points: what they hold counts, not its order; nothing collides, and too little known points nowhere."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.encoding import Encoder
from classifiers.features import take_apart
from classifiers.vocabulary import pairs_of
from tests.contracts.classifier_suite import TEXT

ROOT = Path(__file__).resolve().parents[2]
WORDS = "river bridge stone water lamp street night rain window paper".split()
PAIRS = ["桥梁", "石头", "河水", "街道", "夜雨", "窗户"]
SPLIT = [pairs_of(pair)[0] for pair in PAIRS]
SENTENCE = "river bridge stone water lamp street night rain"


def encoder(seed: int = 0, width: int = 8) -> Encoder:
    drawn = np.random.default_rng(seed)
    vectors = drawn.integers(-127, 128, size=(len(WORDS) + len(PAIRS), width), dtype=np.int8)
    return Encoder([word.encode() for word in WORDS], SPLIT, vectors, drawn.random(width, np.float32))


def one_hot() -> Encoder:
    """Each word and each pair its own axis, so that a point says which are in it."""
    count = len(WORDS) + len(PAIRS)
    return Encoder([word.encode() for word in WORDS], SPLIT, np.eye(count, dtype=np.int8), np.ones(count, np.float32))


@given(text=st.one_of(TEXT, st.lists(st.sampled_from(WORDS + PAIRS), max_size=40).map(" ".join)))
def test_a_text_lies_on_the_unit_sphere_or_at_the_origin(text: str) -> None:
    point = encoder().encode(take_apart(text))
    assert point.shape == (8,)
    assert point.dtype == np.float32
    assert float(np.linalg.norm(point)) == pytest.approx(1.0, abs=1e-5) or not point.any()


@pytest.mark.parametrize(
    "text", ["", "river", "river bridge stone water lamp", "river " * 100, "unknown " * 50, "桥梁"]
)
def test_too_few_known_words_point_nowhere(text: str) -> None:
    assert not encoder().encode(take_apart(text)).any()


def test_words_and_pairs_count_alike_and_each_once() -> None:
    point = one_hot().encode(take_apart("river bridge stone 桥梁 石头 河水 river river unknown"))
    expected = [word in ("river", "bridge", "stone", "桥梁", "石头", "河水") for word in WORDS + PAIRS]
    assert (point > 0).tolist() == expected
    assert point[point > 0] == pytest.approx(6**-0.5)


def test_no_two_words_share_a_vector() -> None:
    rows = [one_hot().rows(take_apart(word)) for word in WORDS + PAIRS]
    assert [len(found) for found in rows] == [1] * len(rows)
    assert len(set().union(*rows)) == len(WORDS) + len(PAIRS)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_words_and_their_case_do_not_matter(seed: int) -> None:
    shuffled = SENTENCE.split()
    random.Random(seed).shuffle(shuffled)
    there = encoder().encode(take_apart(" ".join(shuffled).upper()))
    assert there == pytest.approx(encoder().encode(take_apart(SENTENCE)), abs=1e-6)


def test_vectors_that_cancel_out_point_nowhere() -> None:
    halves = np.ones((len(WORDS) + len(PAIRS), 4), np.int8)
    halves[::2] = -1
    cancelling = Encoder([word.encode() for word in WORDS], SPLIT, halves, np.ones(4, np.float32))
    assert not cancelling.encode(take_apart(SENTENCE)).any()


def test_as_many_vectors_as_words_are_needed() -> None:
    with pytest.raises(ValueError, match="2 words and 0 pairs need as many vectors, not 3"):
        Encoder([b"a", b"b"], [], np.zeros((3, 4), np.int8), np.ones(4, np.float32))


def test_as_many_scales_as_columns_are_needed() -> None:
    with pytest.raises(ValueError, match=r"vectors of shape \(2, 4\) need as many scales as columns, not \(1,\)"):
        Encoder([b"a", b"b"], [], np.zeros((2, 4), np.int8), np.ones(1, np.float32))


def test_another_process_with_another_hash_seed_finds_the_same_bytes() -> None:
    """Sets of words are walked in an order of the process's own; training must not depend on it."""
    script = (
        "import sys; from tests.unit.test_classifiers_encoding import SENTENCE, encoder, take_apart\n"
        "text = take_apart(SENTENCE + ' 桥梁石头河水 unknown words')\n"
        "sys.stdout.write(encoder(width=64).encode(text).tobytes().hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True, timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1
