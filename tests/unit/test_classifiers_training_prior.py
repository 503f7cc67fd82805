"""The hand-set weights name kinds and traits that exist, and come out in the order of the products."""

from __future__ import annotations

import pytest

from classifiers.training.prior import PRIOR, prior_weights
from classifiers.traits import KINDS, TRAITS


def test_every_kind_has_a_row_and_no_row_or_trait_is_misspelt() -> None:
    assert set(PRIOR) == set(KINDS)
    assert {trait for row in PRIOR.values() for trait in row} <= set(TRAITS)


def test_weights_lie_where_the_products_do() -> None:
    weights = prior_weights()
    assert weights.shape == (len(KINDS) * len(TRAITS),)
    for kind, row in PRIOR.items():
        for trait, weight in row.items():
            assert weights[KINDS.index(kind) * len(TRAITS) + TRAITS.index(trait)] == weight
    assert (weights != 0.0).sum() == sum(len(row) for row in PRIOR.values())


def test_no_belief_outweighs_all_others() -> None:
    assert abs(prior_weights()).max() <= 1.5


@pytest.mark.parametrize(
    ("kind", "trait", "sign"),
    [
        ("word_problem", "length", 1), ("choice", "negation", 1), ("code", "level", 1), ("open", "reasoning", 1),
        ("open", "length", -1), ("open", "routine", -1), ("choice", "chinese", 1), ("open", "chinese", 1),
    ],
)  # fmt: skip
def test_the_beliefs_that_its_words_state(kind: str, trait: str, sign: int) -> None:
    assert PRIOR[kind][trait] * sign > 0
