"""The trained classifier: what holds for any request of its kind, and what was seen of requests just like it.

Two estimates of what the large model would gain are mixed. The *universal* one weighs traits within kinds (`traits`)
and is all there is for a request unlike any trained on. The *local* one recognises the task by its words
(`encoding`): a softmax over the tasks trained on, each with its mean gain, and a linear correction. The nearer the
request lies to one of those tasks, the more the local estimate counts. A logistic curve makes the probability that
the small model falls short out of the mixture. Only numpy is needed, and no text makes it raise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import exp, log
from operator import mul
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifiers.artifact import Arrays, Artifact, ArtifactError
from classifiers.base import Classification, Prompt, tier_of
from classifiers.encoding import Encoder
from classifiers.features import (
    CARRY_EARLIER,
    CARRY_SYSTEM,
    CARRY_TO_ROUTINE,
    Conversation,
    Features,
    Text,
    count,
    extract_from,
    listen,
    take_apart,
)
from classifiers.lengths import LengthModel
from classifiers.quality import MANIFEST_KEY, QualityTargets, parse_quality_targets
from classifiers.traits import KINDS, TRAITS, Traits, measure

Floats = NDArray[np.float32]

# What benchmarks do not hold, and traffic does: set by hand as in the rules, whose logits they share. Each adds
# weight x count / (count + half) to the logit; what the words say, only where no task is recognised by them.
WORD_SIGNALS = (("proof", "proof", 1.2, 0.3),)
REQUEST_SIGNALS = (
    ("tools", "tools", 1.0, 2.0),
    ("structured output", "structured_output", 0.4, 1.0),
    ("images", "images", 0.8, 1.0),
    ("long conversation", "earlier_messages", 0.8, 8.0),
)
SIGNALS = tuple(
    tuple(kind.replace("_", " ") + (f": {trait.replace('_', ' ')}" if trait != "level" else "") for trait in TRAITS)
    for kind in KINDS
)
_KINDS, _TRAITS = len(KINDS), len(TRAITS)
INPUTS_BEFORE_POINT = _KINDS + _TRAITS + _KINDS * _TRAITS
FAR = -1.0
"""The nearness of what cannot be recognised at all."""
_PRODUCTS = slice(_KINDS + _TRAITS, INPUTS_BEFORE_POINT)
_NEVER = 1 << 30
# Less known than this, the local estimate would not show in the score.
_UNKNOWN_BELOW = 0.002
_UNKNOWN_WIDTHS = log(_UNKNOWN_BELOW / (1.0 - _UNKNOWN_BELOW))
_NAMED_FROM = 0.2
_MOST_SIGNALS = 4
_KNOWN_FROM = 0.5
_REMEMBERED_EXCERPTS = 512
_LARGEST_LOGIT = 30.0


class Judged(NamedTuple):
    """One text's estimated gain in standard deviations, how known it is in [0, 1], its nearest task and its point."""

    gain: float
    known: float
    task: int
    point: Floats


class Mixture(NamedTuple):
    """The few numbers of the artifact that are not weights; see `LearnedModel`."""

    gate_width: float
    slope: float
    offset: float


class LearnedModel:
    """The artifact's arrays, ready to judge one text.

    `weights` has a row for each task's logit, for each task's nearness (the cosine to its centre, less the least that
    counts; zeros for a task that cannot be recognised), for the local correction and for the universal estimate. Its
    columns, and `bias`, are for kinds, traits, their products, then the point.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.encoder = encoder_of(arrays)
        self.task_gains = np.asarray(arrays["task_gains"], np.float32)
        self.mixture = Mixture(*map(float, arrays["mixture"]))
        weights, bias = np.asarray(arrays["weights"], np.float32), np.asarray(arrays["bias"], np.float32)
        tasks = len(self.task_gains)
        shape = 2 * tasks + 2, INPUTS_BEFORE_POINT + self.encoder.width
        if weights.shape != shape or bias.shape != shape[:1]:
            raise ArtifactError(f"weights: found shape {weights.shape} with bias {bias.shape}, needed {shape}")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all() and self.mixture.gate_width > 0.0):
            raise ArtifactError("weights, bias and mixture must be finite, the gate's width above 0")
        nearness = weights[tasks : 2 * tasks, INPUTS_BEFORE_POINT:]
        self._recognised = np.flatnonzero(nearness.any(axis=1)).tolist()
        self._centres = np.ascontiguousarray(nearness[self._recognised])
        self._least_near = -bias[tasks : 2 * tasks][self._recognised]
        self._least_words = np.asarray(arrays["task_least_words"])[self._recognised]
        self._least_words_of_any = int(self._least_words.min(initial=_NEVER))
        self._local = np.ascontiguousarray(weights[[*range(tasks), 2 * tasks]])
        self._local_bias = bias[[*range(tasks), 2 * tasks]]
        # Plain lists: for a dozen numbers numpy's calls cost more than the sums.
        self.weights_of_kind: list[list[float]] = weights[-1, _PRODUCTS].reshape(_KINDS, _TRAITS).tolist()

    def judge(self, text: Text, measured: Traits) -> Judged:
        """How hard one text is, by itself."""
        universal = self._universal(measured)
        rows = self.encoder.rows(text)
        point = self.encoder.point(rows)
        near, task = self._nearest(point, len(rows))
        known = logistic(near / self.mixture.gate_width)
        if known < _UNKNOWN_BELOW:
            return Judged(universal, 0.0, task, point)
        gain = known * self._local_gain(measured, point) + (1.0 - known) * universal
        return Judged(gain, known, task, point)

    def _universal(self, measured: Traits) -> float:
        gain = 0.0
        for share, weights in zip(measured.kinds, self.weights_of_kind, strict=True):
            if share > 0.0:
                gain += share * sum(map(mul, weights, measured.traits))
        return gain

    def _nearest(self, point: Floats, known_words: int) -> tuple[float, int]:
        """How much nearer than need be the text lies to a task, and to which; a few words lie near to anything."""
        if known_words < self._least_words_of_any:
            return FAR, 0
        nearness = self._centres @ point - self._least_near
        if float(nearness[nearness.argmax()]) < _UNKNOWN_WIDTHS * self.mixture.gate_width:  # max() takes 7 microseconds
            return FAR, 0
        nearness[self._least_words > known_words] = FAR
        at = int(nearness.argmax())
        return float(nearness[at]), self._recognised[at]

    def _local_gain(self, measured: Traits, point: Floats) -> float:
        outputs = self._local @ inputs_of(measured, point) + self._local_bias
        shares = np.exp(outputs[:-1] - outputs[:-1].max())
        return float(shares @ self.task_gains) / float(shares.sum()) + float(outputs[-1])

    def logit(self, gain: float) -> float:
        """Of the probability that the small model falls short where so much is gained."""
        return self.mixture.offset + self.mixture.slope * gain


def inputs_of(measured: Traits, point: Floats) -> Floats:
    """Kinds, traits, their products and the point, shape (inputs,)."""
    inputs = np.empty(INPUTS_BEFORE_POINT + len(point), np.float32)
    inputs[: _KINDS + _TRAITS] = measured.kinds + measured.traits
    kinds, values = inputs[:_KINDS, None], inputs[_KINDS : _KINDS + _TRAITS]
    inputs[_PRODUCTS] = (kinds * values).ravel()
    inputs[INPUTS_BEFORE_POINT:] = point
    return inputs


class LearnedClassifier:
    """Judges by a trained artifact, whose thresholds hold unless others are given.

    `quality_targets` are its calibrated thresholds, None where it has none.
    """

    def __init__(
        self, artifact: Artifact, moderate_from: float | None = None, complex_from: float | None = None
    ) -> None:
        try:
            shipped = artifact.manifest["thresholds"]
            self.quality_targets = _quality_targets(artifact)
            self.task_names: tuple[str, ...] = tuple(artifact.manifest["tasks"])
            self.model = LearnedModel(artifact.arrays)
            self._lengths = LengthModel(artifact.arrays)
            if len(self.task_names) != len(self.model.task_gains):
                raise ValueError(f"{len(self.task_names)} tasks are named, {len(self.model.task_gains)} have gains")
            self.moderate_from = float(shipped["moderate_from"] if moderate_from is None else moderate_from)
            self.complex_from = float(shipped["complex_from"] if complex_from is None else complex_from)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ArtifactError(f"{artifact.name}: its manifest or arrays do not fit this version: {error}") from error
        if not 0.0 <= self.moderate_from <= self.complex_from <= 1.0:
            # An ArtifactError is a ValueError: the shipped thresholds may be as wrong as those given.
            raise ArtifactError(
                f"{artifact.name}: 0 <= moderate_from <= complex_from <= 1 must hold, not {self.moderate_from}, "
                f"{self.complex_from}"
            )
        self.name = artifact.name
        self.measured_width = _KINDS + _TRAITS + self.model.encoder.width + 1
        self._remembered: Callable[[str], float] = lru_cache(_REMEMBERED_EXCERPTS)(self._gain_of_excerpt)

    def classify(self, prompt: Prompt) -> Classification:
        """Score, tier, signals, task and answer length; bounded time, never an exception."""
        return self._classify(prompt)[0]

    def examine(self, prompt: Prompt) -> tuple[Classification, Floats]:
        """The same, and what it rests on: kinds, traits, the text's point and the score, shape (measured_width,)."""
        said, measured, point = self._classify(prompt)
        inputs = np.empty(self.measured_width, np.float32)
        inputs[: _KINDS + _TRAITS] = measured.kinds + measured.traits
        inputs[_KINDS + _TRAITS : -1] = point
        inputs[-1] = said.score
        return said, inputs

    def _classify(self, prompt: Prompt) -> tuple[Classification, Traits, Floats]:
        heard = listen(prompt.messages)
        features = extract_from(prompt, heard)
        measured = measure(heard.text, features)
        judged = self.model.judge(heard.text, measured)
        around = self._around(heard, judged.gain, features.routine)
        asked = _asked(features, judged.known)
        score = logistic(self.model.logit(judged.gain + around) + sum([amount for amount, _ in asked]))
        said = Classification(
            score,
            tier_of(score, self.moderate_from, self.complex_from),
            self._signals(judged, measured, around, asked),
            self.name,
            output_length=self._lengths.predict(features, prompt),
            task=self._task(judged, measured),
        )
        return said, measured, judged.point

    def _around(self, heard: Conversation, own: float, routine: float) -> float:
        """What a harder system prompt or earlier message adds: "yes, do it" is the hard task going on."""
        if not heard.system and not heard.earlier:
            return 0.0
        carry = CARRY_EARLIER + (CARRY_TO_ROUTINE - CARRY_EARLIER) * routine
        harder = [carry * (self._remembered(text) - own) for text in heard.earlier if text]
        if heard.system:
            harder.append(CARRY_SYSTEM * (self._remembered(heard.system) - own))
        return max([0.0, *harder])

    def _gain_of_excerpt(self, excerpt: str) -> float:
        text = take_apart(excerpt)
        return self.model.judge(text, measure(text, Features(float(len(excerpt)), *count(text)))).gain

    def _task(self, judged: Judged, measured: Traits) -> str:
        if judged.known >= _KNOWN_FROM:
            return self.task_names[judged.task]
        return KINDS[_strongest_kind(measured)]

    def _signals(
        self, judged: Judged, measured: Traits, around: float, asked: list[tuple[float, str]]
    ) -> tuple[str, ...]:
        """The traits that count most within the strongest kind, and what else moved the score."""
        kind = _strongest_kind(measured)
        slope = self.model.mixture.slope
        share = slope * (1.0 - judged.known) * measured.kinds[kind]
        named = [(share * weight * value, name) for weight, value, name in zip(
            self.model.weights_of_kind[kind], measured.traits, SIGNALS[kind], strict=True
        )]  # fmt: skip
        named += asked
        named.append((slope * around, "harder context"))
        if judged.known >= _KNOWN_FROM:
            named.append((slope * judged.gain, f"like {self.task_names[judged.task]}"))
        named = [pair for pair in named if abs(pair[0]) >= _NAMED_FROM]
        named.sort(key=_size, reverse=True)
        return tuple([name for _, name in named[:_MOST_SIGNALS]])


def _strongest_kind(measured: Traits) -> int:
    return measured.kinds.index(max(measured.kinds))


def encoder_of(arrays: Arrays) -> Encoder:
    """The vectors are stored as bytes with one scale a column, the words joined by line feeds."""
    words = bytes(arrays["words"]).split(b"\n")
    vectors, scale = np.asarray(arrays["vectors"], np.int8), np.asarray(arrays["vector_scale"], np.float32)
    return Encoder(words, arrays["pairs"].tolist(), vectors, scale)


def logistic(logit: float) -> float:
    return 1.0 / (1.0 + exp(-max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, logit))))


def _quality_targets(artifact: Artifact) -> QualityTargets | None:
    value: Any = artifact.manifest.get(MANIFEST_KEY)
    return None if value is None else parse_quality_targets(value)


def _asked(features: Features, known: float) -> list[tuple[float, str]]:
    """What the hand-set signals add to the logit."""
    return [
        (share * weight * features[at] / (features[at] + half), name)
        for share, table in ((1.0 - known, _OF_WORDS), (1.0, _OF_REQUEST))
        for at, weight, half, name in table
        if features[at] > 0.0
    ]


def _resolved(signals: tuple[tuple[str, str, float, float], ...]) -> tuple[tuple[int, float, float, str], ...]:
    return tuple((Features._fields.index(feature), weight, half, name) for name, feature, weight, half in signals)


_OF_WORDS, _OF_REQUEST = _resolved(WORD_SIGNALS), _resolved(REQUEST_SIGNALS)


def _size(contribution: tuple[float, str]) -> float:
    return abs(contribution[0])
