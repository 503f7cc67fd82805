"""The fits find what was put into made-up sources, and the arrays judge alike in training and in serving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from classifiers.features import take_apart
from classifiers.learned import LearnedModel, encoder_of, inputs_of
from classifiers.training import model
from classifiers.training.corpus import Corpus, corpus, measure
from classifiers.training.model import (
    FOLDS,
    LEAST_DOCUMENTS,
    PRIOR_SCALE,
    fit,
    fit_encoder,
    fit_universal,
    fold_of,
    local_inputs,
    mixed,
    parts,
    settled,
    standardised,
)
from classifiers.training.prior import prior_weights
from classifiers.traits import KINDS, TRAITS
from tests.support.outcomes import SOURCES, examples

COUNT = len(KINDS) * len(TRAITS)


def numbers(seed: int, weights: NDArray[np.float64], prompts: int = 3_000, noise: float = 0.5) -> Corpus:
    """A source of numbers alone: each prompt of one kind, its gain the weighted products and some noise."""
    rng = np.random.default_rng(seed)
    kinds = np.eye(len(KINDS))[rng.integers(0, len(KINDS), prompts)]
    values = rng.uniform(0, 6, (prompts, len(TRAITS)))
    values[:, 0] = 1.0
    empty = ("",) * prompts
    made = Corpus(f"s{seed}", empty, (), kinds, values, np.zeros(prompts), np.zeros(prompts), empty, empty)
    gain = made.products @ weights + rng.normal(0, noise, prompts)
    return Corpus(f"s{seed}", empty, (), kinds, values, gain, np.zeros(prompts), empty, empty)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Corpus]:
    folder = tmp_path_factory.mktemp("outcomes")
    return [corpus(source, examples(source, folder)) for source in SOURCES]


@pytest.fixture(scope="module")
def arrays(corpora: list[Corpus]) -> dict[str, NDArray[Any]]:
    return fit(corpora, seed=1)


def points_of(arrays: dict[str, NDArray[Any]], one: Corpus) -> NDArray[np.float64]:
    return model.encode(encoder_of(arrays), one.texts)


# the universal weights


def test_signs_that_sources_agree_on_are_found_against_the_prior() -> None:
    at = KINDS.index("word_problem") * len(TRAITS) + TRAITS.index("length")
    true = np.zeros(COUNT)
    true[at], true[at + 1] = -6.0, 6.0
    assert prior_weights()[at] > 0
    found = fit_universal([numbers(seed, true) for seed in range(3)])
    assert found[at] < 0 < found[at + 1]
    assert np.argmin(found) == at


def test_where_nothing_varies_the_prior_stays() -> None:
    still = numbers(0, np.zeros(COUNT), noise=0.0)
    still.traits[:] = still.traits[0]
    still.kinds[:] = still.kinds[0]
    assert fit_universal([still]) == pytest.approx(PRIOR_SCALE * prior_weights())


def test_sources_count_alike_whatever_their_size() -> None:
    small, other = numbers(1, np.full(COUNT, 0.5)), numbers(2, np.full(COUNT, -0.5))
    thrice = np.tile(np.arange(len(small)), 3)
    large = Corpus("large", small.prompts * 3, (), *(
        values[thrice] for values in (small.kinds, small.traits, small.gain, small.short)
    ), small.labels * 3, small.stems * 3)  # fmt: skip
    assert fit_universal([large, other]) == pytest.approx(fit_universal([small, other]))


def test_neither_a_sources_scale_nor_its_level_matters() -> None:
    one = numbers(1, np.full(COUNT, 0.5))
    scaled = Corpus(one.name, one.prompts, (), one.kinds, one.traits, 7 * one.gain, one.short, one.labels, one.stems)
    raised = Corpus(one.name, one.prompts, (), one.kinds, one.traits, one.gain + 3, one.short, one.labels, one.stems)
    assert fit_universal([scaled]) == pytest.approx(fit_universal([one]))
    assert fit_universal([raised]) == pytest.approx(fit_universal([one]))


def test_gains_that_do_not_vary_are_left_alone() -> None:
    one = numbers(1, np.zeros(COUNT), prompts=10, noise=0.0)
    assert standardised(one).tolist() == one.gain.tolist()
    assert standardised(numbers(2, np.ones(COUNT))).std() == pytest.approx(1.0)


# the encoder


def test_a_word_is_learned_from_enough_prompts_on() -> None:
    rng = np.random.default_rng(0)
    ends = ("an", "et", "il", "og", "up", "art", "ost", "unk", "ime", "ode", "eek", "ash")
    common = [start + end for start in "bdfgklmnprst" for end in ends]
    texts = [take_apart(" ".join(rng.choice(common, 40, replace=False))) for _ in range(300)]
    texts += [take_apart("seldom 稀少 " + " ".join(common[:20]))] * (LEAST_DOCUMENTS - 1)
    texts += [take_apart("enough 足够 " + " ".join(common[:20]))] * LEAST_DOCUMENTS
    found = fit_encoder(texts, np.ones(len(texts)), seed=0)
    encoder = encoder_of(found)
    assert found["vectors"].dtype == np.int8
    assert encoder.rows(take_apart("seldom 稀少")) == set()
    assert len(encoder.rows(take_apart("enough 足够"))) == 3  # the word, the pair, and the pair with the space before
    assert encoder.width == model.DIMENSIONS


def test_two_latin_letters_are_no_pair_to_learn() -> None:
    """In a text with a little Chinese all neighbours come as pairs; only those with Chinese in them say anything."""
    rng = np.random.default_rng(0)
    chinese = ["".join(map(chr, rng.integers(0x4E00, 0x4E00 + 20, 40))) for _ in range(300)]
    texts = [take_apart(text + " with some letters") for text in chinese]
    found = fit_encoder(texts, np.ones(len(texts)), seed=0)
    units = np.stack([found["pairs"] & 0xFFFF, found["pairs"] >> 16])
    assert (units >= 0x3400).any(axis=0).all()
    assert encoder_of(found).rows(take_apart("unseen lettres 謎")) == set()


# the whole


def test_the_same_seed_gives_the_same_arrays(corpora: list[Corpus], arrays: dict[str, NDArray[Any]]) -> None:
    again = fit(corpora, seed=1)
    assert set(again) == set(arrays)
    assert [name for name in arrays if again[name].tobytes() != arrays[name].tobytes()] == []


def test_a_template_is_recognised_and_a_topic_is_not(corpora: list[Corpus], arrays: dict[str, NDArray[Any]]) -> None:
    for one in corpora:
        near = parts(arrays, one, points_of(arrays, one))[2] > 0.0
        template = np.array([label.endswith(":template") for label in one.labels])
        assert near[template].mean() > 0.9, one.name
        assert near[~template].mean() < 0.1, one.name


def test_inputs_have_one_order(corpora: list[Corpus], arrays: dict[str, NDArray[Any]]) -> None:
    one = corpora[-1]
    points = points_of(arrays, one)
    rows = local_inputs(one, points)
    for at in (0, 1, 50):
        _, measured = measure(one.prompts[at])
        assert rows[at] == pytest.approx(inputs_of(measured, points[at].astype(np.float32)), abs=1e-6)


def test_training_and_serving_judge_alike(corpora: list[Corpus], arrays: dict[str, NDArray[Any]]) -> None:
    ready = settled(arrays, 0.7)
    served = LearnedModel(ready)
    for one in corpora:
        points = points_of(ready, one)
        trained, universal = mixed(ready, one, points), parts(ready, one, points)[0]
        for at, prompt in enumerate(one.prompts):
            judged = served.judge(*measure(prompt))
            assert judged.gain == pytest.approx(trained[at] if judged.known else universal[at], abs=1e-5)


def test_settling_scales_the_local_estimate_about_its_source(
    corpora: list[Corpus], arrays: dict[str, NDArray[Any]]
) -> None:
    one = corpora[0]
    points = points_of(arrays, one)
    nothing, half, whole = (parts(settled(arrays, scale), one, points) for scale in (0.0, 0.5, 1.0))
    assert half[1] - nothing[1] == pytest.approx(0.5 * (whole[1] - nothing[1]), abs=1e-5)
    assert nothing[0] == pytest.approx(whole[0])
    assert nothing[2] == pytest.approx(whole[2])
    assert "task_centres" in arrays
    assert "task_centres" not in settled(arrays, 1.0)


def test_an_easier_task_has_the_smaller_gain(corpora: list[Corpus]) -> None:
    one = corpora[0]
    template = np.array([label.endswith(":template") for label in one.labels])
    rigged = Corpus(
        one.name, one.prompts, one.texts, one.kinds, one.traits, np.where(template, -1.0, 1.0), one.short, one.labels,
        one.stems,
    )  # fmt: skip
    found = fit([rigged, corpora[1]], seed=1)
    gains = dict(zip(found["task_names"].tolist(), found["task_gains"].tolist(), strict=True))
    assert gains[f"{one.name}:template"] < 0 < gains[f"{one.name}:topic"]


def test_folds_keep_stems_together(corpora: list[Corpus]) -> None:
    one = corpora[0]
    folds = fold_of(one)
    by_stem = {
        stem: {int(fold) for fold, other in zip(folds, one.stems, strict=True) if other == stem} for stem in one.stems
    }
    assert {len(found) for found in by_stem.values()} == {1}
    assert set(folds.tolist()) == set(range(FOLDS))
