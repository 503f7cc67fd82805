"""The packed forest says what scikit-learn's trees say, survives its file, and refuses what is no forest."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from classifiers.forest import DEPTH_LIMIT, Floats, Forest, ForestError, Stack
from classifiers.training.trees import grow, packed

WIDTH = 12


def grown(rows: int = 400, seed: int = 0) -> tuple[Any, Floats]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    inputs[:, 3] = np.round(inputs[:, 3])  # many equal numbers, so that thresholds are met
    gains = np.clip(np.sign(inputs[:, 0]) * (inputs[:, 3] > 0) + 0.1 * rng.normal(size=rows), -1.0, 1.0)
    return grow(inputs, gains, np.ones(rows), seed), inputs


def stump(**changed: Any) -> Forest:
    """One tree: at most .5 in the second number is 0.25, more is -1."""
    arrays = {
        "feature": [1, 0, 0],
        "threshold": [0.5, np.inf, np.inf],
        "left": [1, 1, 2],
        "value": [0.0, 0.25, -1.0],
        "roots": [0],
    }
    return Forest(2, {name: np.array(values) for name, values in (arrays | changed).items()})


def test_it_says_what_the_trees_say() -> None:
    trees, inputs = grown()
    forest = packed(trees, WIDTH)
    unseen = np.random.default_rng(1).normal(size=(300, WIDTH)).astype(np.float32)
    for rows in (inputs, unseen):
        assert [forest.predict(row) for row in rows] == pytest.approx(trees.predict(rows), abs=1e-6)
    assert forest.depth == max(tree.get_depth() for tree in trees.estimators_)


def test_a_number_on_the_threshold_goes_left() -> None:
    """Thresholds are float64 in scikit-learn and float32 here: just above and just below must part as there."""
    trees, _ = grown()
    forest = packed(trees, WIDTH)
    tree = trees.estimators_[0].tree_
    near = tree.threshold[tree.feature >= 0].astype(np.float32)
    for value in near:
        for beside in (np.nextafter(value, np.float32(-9)), value, np.nextafter(value, np.float32(9))):
            row = np.full(WIDTH, beside, np.float32)
            assert forest.predict(row) == pytest.approx(trees.predict(row[None])[0], abs=1e-6)


def test_what_a_stump_says() -> None:
    found = [stump().predict(np.array([9.0, value], np.float32)) for value in (0.5, 0.6, np.nan, np.inf, -np.inf)]
    assert found == [0.25, -1.0, 0.25, -1.0, 0.25]


def test_a_tree_may_be_a_leaf() -> None:
    leaf = stump(feature=[0], threshold=[np.inf], left=[0], value=[0.5])
    assert (leaf.depth, leaf.predict(np.zeros(2, np.float32))) == (0, 0.5)


def test_it_survives_its_file_and_is_small() -> None:
    trees, inputs = grown(rows=5000)
    forest = packed(trees, WIDTH)
    text = json.dumps(forest.as_json())
    assert len(text) < 300_000
    again = Forest.from_json(json.loads(text))
    assert [again.predict(row) for row in inputs[:50]] == [forest.predict(row) for row in inputs[:50]]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"feature": [2, 0, 0]}, r"feature\[0\] is 2: out of range"),
        ({"left": [0, 1, 2]}, r"threshold\[0\]"),
        ({"left": [2, 1, 2]}, r"left\[0\] is 2"),
        ({"left": [1, 0, 2]}, r"left\[1\] is 0"),
        ({"threshold": [np.nan, np.inf, np.inf]}, r"threshold\[0\] is nan"),
        ({"threshold": [0.5, 0.5, np.inf]}, r"threshold\[1\]"),
        ({"value": [0.0, 1.5, 0.0]}, r"value\[1\] is 1.5"),
        ({"value": [0.0, np.nan, 0.0]}, r"value\[1\] is nan"),
        ({"roots": [3]}, r"roots\[0\] is 3"),
        ({"roots": []}, "0 trees"),
        ({"value": [0.0]}, "needed is one length"),
    ],
)
def test_arrays_that_are_no_forest_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ForestError, match=said):
        stump(**changed)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    depth = DEPTH_LIMIT + 1
    left = [at + 1 if at % 2 == 0 and at < 2 * depth else at for at in range(2 * depth + 1)]
    inner = [left[at] != at for at in range(len(left))]
    left = [at + 1 if is_inner else at for at, is_inner in enumerate(inner)]
    threshold = [0.0 if is_inner else np.inf for is_inner in inner]
    zeros = [0] * len(left)
    with pytest.raises(ForestError, match="deeper than 16"):
        stump(left=left, threshold=threshold, feature=zeros, value=zeros)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 0}, "width: needed is a whole number"),
        ({"width": True}, "width: needed is a whole number"),
        ({"left": "not base64!"}, "left: no base64"),
        ({"left": "AAAA"}, "left: no base64"),
        ({"left": 7}, "left: needed is a string"),
        ({"left": "A" * 1_000_000}, "left: needed is a string of at most"),
        ({"more": 1}, "needed is a mapping with width"),
    ],
)
def test_a_file_that_holds_no_forest_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ForestError, match=said):
        Forest.from_json(stump().as_json() | changed)


def test_a_stack_weighs_classifier_and_forest() -> None:
    stack = Stack(stump(), 0.5, 2.0, 4.0)
    assert stack.logit(-1.0, np.zeros(2, np.float32)) == 0.5 - 2.0 + 1.0
    again = Stack.from_json(json.loads(json.dumps(stack.as_json())))
    assert again.logit(-1.0, np.zeros(2, np.float32)) == -0.5


@pytest.mark.parametrize("weight", [True, "1", None, 1e9, float("nan")])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(ForestError, match="forest_weight: needed is a number"):
        Stack.from_json(Stack(stump(), 0.0, 1.0, 1.0).as_json() | {"forest_weight": weight})


def test_what_is_no_mapping_is_no_stack() -> None:
    with pytest.raises(ForestError, match="needed is a mapping with forest, intercept"):
        Stack.from_json([1])
