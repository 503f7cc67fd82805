"""A small forest of regression trees, served from plain arrays: what judged prompts have taught of their own kind.

Groups of requests (`classifiers.posterior`) help where a template recurs. Where every prompt is worded anew there are
none, and what carries over from one prompt to the next is what the classifier measured of it: its kind, its traits,
its place among known topics. `classifiers.training.stacking` learns the trees from these; here they are walked, all of
them at once, and their mean is combined with the classifier's own score. Nothing is unpickled.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from classifiers.base import Classification, Prompt

Floats = NDArray[np.float32]

TREE_LIMIT, NODE_LIMIT, DEPTH_LIMIT, WIDTH_LIMIT = 512, 65_535, 16, 4_096
_ARRAYS = {"feature": "<u2", "threshold": "<f4", "left": "<u2", "value": "<f4", "roots": "<u2"}
_LARGEST_WEIGHT = 1_000.0


class ForestError(ValueError):
    """Arrays that are no forest; says what was found and what is needed."""


@runtime_checkable
class Measuring(Protocol):
    """A classifier that tells what it measured of a prompt, too: `measured_width` numbers, the last one its score."""

    moderate_from: float
    complex_from: float
    measured_width: int

    def classify(self, prompt: Prompt) -> Classification: ...

    def examine(self, prompt: Prompt) -> tuple[Classification, Floats]: ...


class Forest:
    """Trees whose nodes lie in one list; `width` is how many numbers they choose from.

    A node sends what is at most `threshold` in `feature` to the node `left`, all else to the one after that. A leaf's
    `left` is itself, its threshold infinite; children come after their parents. `value` in [-1, 1] is what a leaf says.
    Shapes (nodes,), and `roots` (trees,). Raises ForestError.
    """

    def __init__(self, width: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.width = width
        self.arrays = {name: np.asarray(arrays[name], type_) for name, type_ in _ARRAYS.items()}
        self._feature = self.arrays["feature"].astype(np.intp)
        self._threshold = self.arrays["threshold"].astype(np.float32)
        self._left = self.arrays["left"].astype(np.intp)
        self._value = self.arrays["value"].astype(np.float64)
        self._roots = self.arrays["roots"].astype(np.intp)
        self._check()
        self.depth = self._depth()

    def predict(self, inputs: Floats) -> float:
        """The trees' mean, for one request's numbers, shape (width,); of what is no number, each goes left."""
        follows = self._left + (inputs.take(self._feature) > self._threshold)
        nodes = self._roots
        for _ in range(self.depth):
            nodes = follows.take(nodes)
        return float(self._value.take(nodes).sum()) / len(nodes)

    def as_json(self) -> dict[str, Any]:
        packed = {name: b64encode(array.tobytes()).decode("ascii") for name, array in self.arrays.items()}
        return {"width": self.width, **packed}

    @classmethod
    def from_json(cls, values: Any) -> Forest:
        """What `as_json` gave. Raises ForestError."""
        if not isinstance(values, dict) or set(values) != {"width", *_ARRAYS}:
            raise ForestError(f"needed is a mapping with width, {', '.join(_ARRAYS)}")
        width = values["width"]
        if isinstance(width, bool) or not isinstance(width, int) or not 0 < width <= WIDTH_LIMIT:
            raise ForestError(f"width: needed is a whole number in [1, {WIDTH_LIMIT}]")
        return cls(width, {name: _unpacked(name, values[name]) for name in _ARRAYS})

    def _check(self) -> None:
        nodes, trees = len(self._left), len(self._roots)
        if not 0 < nodes <= NODE_LIMIT or not 0 < trees <= TREE_LIMIT:
            raise ForestError(f"{nodes} nodes, {trees} trees; allowed are 1 to {NODE_LIMIT} and 1 to {TREE_LIMIT}")
        shapes = {name: array.shape for name, array in self.arrays.items() if name != "roots"}
        if set(shapes.values()) != {(nodes,)} or self.arrays["roots"].ndim != 1:
            raise ForestError(f"nodes: found shapes {shapes}; needed is one length")
        at = np.arange(nodes)
        inner = self._left != at
        wrong = {
            "feature": self._feature >= self.width,
            "left": inner & ((self._left <= at) | (self._left + 1 >= nodes)),
            "threshold": np.where(inner, ~np.isfinite(self._threshold), self._threshold != np.inf),
            "value": ~(np.abs(self._value) <= 1.0),
            "roots": self._roots >= nodes,
        }
        for name, where in wrong.items():
            if where.any():
                raise ForestError(f"{name}[{int(where.argmax())}] is {self.arrays[name][where.argmax()]}: out of range")

    def _depth(self) -> int:
        front = self._roots
        for depth in range(DEPTH_LIMIT + 1):
            front = np.unique(front[self._left[front] != front])
            if not len(front):
                return depth
            front = np.concatenate([self._left[front], self._left[front] + 1])
        raise ForestError(f"deeper than {DEPTH_LIMIT}")


class Stack(NamedTuple):
    """The forest beside the classifier: what each counts, in logits, and what is added to them.

    The forest estimates the baseline's gain over the small model, in [-1, 1].
    """

    forest: Forest
    intercept: float
    classifier_weight: float
    forest_weight: float

    def logit(self, prior_logit: float, measured: Floats) -> float:
        """Of a request of which the classifier said so much, and measured that."""
        gain = self.forest.predict(measured)
        return self.intercept + self.classifier_weight * prior_logit + self.forest_weight * gain

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "forest": self.forest.as_json()}

    @classmethod
    def from_json(cls, values: Any) -> Stack:
        """What `as_json` gave. Raises ForestError."""
        if not isinstance(values, dict) or set(values) != set(cls._fields):
            raise ForestError(f"needed is a mapping with {', '.join(cls._fields)}")
        weights = [_weight(name, values[name]) for name in cls._fields[1:]]
        return cls(Forest.from_json(values["forest"]), *weights)


def _unpacked(name: str, text: Any) -> NDArray[Any]:
    kind = np.dtype(_ARRAYS[name])
    if not isinstance(text, str) or len(text) > NODE_LIMIT * kind.itemsize * 4 // 3 + 4:
        raise ForestError(f"{name}: needed is a string of at most {NODE_LIMIT} numbers in base64")
    try:
        return np.frombuffer(b64decode(text, validate=True), kind)
    except (binascii.Error, ValueError) as error:
        raise ForestError(f"{name}: no base64 of {kind} ({error})") from None


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST_WEIGHT:
        raise ForestError(f"{name}: needed is a number in [-{_LARGEST_WEIGHT:g}, {_LARGEST_WEIGHT:g}]")
    return float(value)
