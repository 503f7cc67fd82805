"""Judged prompts -> a forest of extremely randomised trees (Geurts et al. 2006), packed for serving.

Depth and leaves were chosen on five sets from three train/ sources, 300 and 1,500 judged prompts, with a classifier
that had not seen the source: from 5 to 8 levels and from 5 to 15 judgements a leaf, the mean APGR moves by less than
.005.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from classifiers.forest import Floats, Forest
from classifiers.training.metrics import FloatArray

TREES, DEPTH, LEAST_LEAF, FEATURE_SHARE = 60, 6, 8, 0.3


def grow(measured: Floats, gains: FloatArray, weights: FloatArray, seed: int) -> ExtraTreesRegressor:
    """Trees for the gain, (n,) in [-1, 1], from what was measured, (n, width)."""
    trees = ExtraTreesRegressor(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAST_LEAF, max_features=FEATURE_SHARE, random_state=seed
    )
    return trees.fit(measured, gains, weights)


def packed(trees: ExtraTreesRegressor, width: int) -> Forest:
    """scikit-learn's trees, leaf for leaf: thresholds are rounded down, so that float32 numbers compare alike."""
    parts: dict[str, list[NDArray[np.generic]]] = {name: [] for name in ("feature", "threshold", "left", "value")}
    roots, start = [], 0
    for estimator in trees.estimators_:
        tree = estimator.tree_
        order, left = _breadth_first(tree.children_left, tree.children_right)
        inner = left != np.arange(len(order))
        parts["feature"].append(np.where(inner, tree.feature[order], 0))
        parts["threshold"].append(np.where(inner, _rounded_down(tree.threshold[order]), np.inf))
        parts["left"].append(left + start)
        parts["value"].append(np.clip(tree.value[order, 0, 0], -1.0, 1.0))
        roots.append(start)
        start += len(order)
    return Forest(width, {**{name: np.concatenate(each) for name, each in parts.items()}, "roots": np.array(roots)})


def _breadth_first(left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The old number of each new node, and its new left child's number (a leaf's own); siblings lie side by side."""
    order, children, at = [0], [], 0
    while at < len(order):
        old = order[at]
        children.append(at if left[old] < 0 else len(order))
        if left[old] >= 0:
            order += [int(left[old]), int(right[old])]
        at += 1
    return np.array(order), np.array(children)


def _rounded_down(thresholds: FloatArray) -> Floats:
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
