"""How long the answer will be: a linear model of the logarithm of its tokens, over features and cues.

The scale and the weights are set by hand (those of cues in `classifiers.length_cues`): nothing whose licence lets it
train what ships records answers in a chat. Training learns the shape of the law: how far its mean and its 95th
percentile lie above the median.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import exp, log, log1p
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifiers.base import Message, OutputLength, Prompt
from classifiers.features import Features, newest_text
from classifiers.length_cues import CUES, INDEX, Reading, read, tokens_of

# The median answer of a chat model of the small kind to a question that says nothing of length: by hand.
BASE_TOKENS = 300.0
BASE_SPREAD = 0.62
# The shape of the law, where nothing was learned that of the log-normal one: the logarithm of mean over median, in
# variances, and of the 95th percentile over the median, in standard deviations.
MEAN_SHARE, P95_DEVIATIONS = 0.5, 1.645
# A cue may be misheard, and then the answer is as long as any: this much of the upper end's logarithm stays the cues',
# the rest is what it would be without them. Of what is asked for in so many words, it is its trust squared.
_UPPER_TRUST = 0.5
LEAST_SPREAD, MOST_SPREAD = 0.2, 1.2
MOST_TOKENS = 8_192
_LOG_MOST = log(MOST_TOKENS)
# A count leaves less open than a question does.
_SPREAD_OF_TARGET = 0.4

# Features that the model knows, each squeezed to count / (count + half); hand-set location and spread.
SQUEEZED = {
    "code": (2.0, 0.1, 0.0),
    "mathematics": (3.0, 0.0, 0.0),
    "quantities": (3.0, -0.4, 0.0),
    "constraints": (2.0, 0.0, 0.0),
    "steps": (2.0, 0.0, 0.0),
    "reasoning": (1.0, 0.15, 0.0),
    "proof": (1.0, 0.1, 0.0),
    "structured_output": (1.0, -0.6, 0.2),
    "tools": (1.0, -1.0, 0.4),
    "images": (1.0, -0.2, 0.1),
}
_TYPICAL_UNITS = 20.0
UNITS = "units"
"""The logarithm of the prompt's words over those of a typical one; a longer question gets a longer answer."""
_UNITS_LOCATION = 0.03
WORKING = "working"
"""That logarithm times the squeezed quantities: of a sum in words, the longer one takes longer to work out."""
_WORKING_LOCATION = 0.1

# A conversation goes on as it went: the weight of its own answers' mean length.
_HISTORY_TRUST = 0.4
_HISTORY_MESSAGES = 6
_HALF_TRUSTED_TOKENS = 50.0
_SYSTEM_CHARACTERS = 300
_REMEMBERED_SYSTEMS = 256
# Those cues of a system prompt that are about the answers; the rest describe the task's material.
_SYSTEM_CUES = tuple(INDEX[name] for name in ("brief", "thorough", "only the answer", "verdict", "extract"))

# Signs of a short answer add up to no more than this, since models explain themselves even so; and they fade where
# there is something to work out: "what is" asks for a word in conversation and for a page in algebra.
_MOST_SHORTENING = 3.0
_STAYING = ("brief", "only the answer", "courtesy")
# So do counts of what an exercise may have by itself, such as points and lines.
_FIRM_TRUST = 0.75
_FADES = tuple(cue.location < 0.0 and cue.name not in _STAYING for cue in CUES)

NUMBERS = (UNITS, WORKING, *SQUEEZED)
NAMES = (*NUMBERS, *(cue.name for cue in CUES))
"""Of the weights, in the order of the arrays."""
KEYS = ("length_names", "length_location", "length_spread", "length_base")

_UNITS_AT = Features._fields.index("units")
_SQUEEZED_AT = tuple(
    (Features._fields.index(name), half, at) for at, (name, (half, _, _)) in enumerate(SQUEEZED.items(), start=2)
)
_FIRST_CUE = len(NUMBERS)
_CODE_AT, _MATHEMATICS_AT, _QUANTITIES_AT = (
    Features._fields.index(name) for name in ("code", "mathematics", "quantities")
)
_QUANTITIES_HALF = SQUEEZED["quantities"][0]

Arrays = Mapping[str, NDArray[Any]]


class Estimate(NamedTuple):
    """The logarithm of the median of the answer's tokens, its standard deviation, and how far both are believed."""

    location: float
    spread: float
    trust: float


def hand_set() -> dict[str, NDArray[Any]]:
    """The arrays of a model that has learned nothing."""
    location = [
        _UNITS_LOCATION,
        _WORKING_LOCATION,
        *(weight for _, weight, _ in SQUEEZED.values()),
        *(cue.location for cue in CUES),
    ]
    spread = [0.0, 0.0, *(weight for _, _, weight in SQUEEZED.values()), *(cue.spread for cue in CUES)]
    return {
        "length_names": np.array(NAMES),
        "length_location": np.array(location),
        "length_spread": np.array(spread),
        "length_base": np.array([log(BASE_TOKENS), BASE_SPREAD, MEAN_SHARE, P95_DEVIATIONS]),
    }


class LengthModel:
    """Estimates the tokens of the small model's answer. Holds a few hundred numbers and no state."""

    def __init__(self, arrays: Arrays | None = None) -> None:
        """Of `arrays`, those in `KEYS` are used, the hand-set where None. A ValueError says which does not fit."""
        arrays = hand_set() if arrays is None else arrays
        _check(arrays)
        self._location: list[float] = arrays["length_location"].tolist()
        self._spread: list[float] = arrays["length_spread"].tolist()
        self._base, self._base_spread, self._mean_share, self._p95 = arrays["length_base"].tolist()

    def predict(self, features: Features, prompt: Prompt) -> OutputLength:
        """Mean and 95th percentile, each in [1, max_output_tokens]; `features` are the prompt's. Never raises."""
        location, spread, trust = self.estimate(features, prompt)
        mean = location + self._mean_share * spread * spread
        upper = trust * (location + self._p95 * spread) + (1.0 - trust) * (self._base + self._p95 * self._base_spread)
        limit = min(prompt.max_output_tokens or MOST_TOKENS, MOST_TOKENS)
        expected_tokens = max(min(round(exp(min(mean, _LOG_MOST))), limit), 1)
        return OutputLength(expected_tokens, max(min(round(exp(min(upper, _LOG_MOST))), limit), expected_tokens))

    def estimate(self, features: Features, prompt: Prompt) -> Estimate:
        """The law of the answer's length before the request's own limit."""
        newest = newest_text(prompt.messages)
        reading = read(newest)
        location, spread, believed = self._base, self._base_spread, _UPPER_TRUST
        for at, value in _present(features):
            location += self._location[at] * value
            spread += self._spread[at] * value
        cues = 0.0
        fade = _fade(features)
        for cue in _all_cues(reading, prompt.messages):
            value = fade if _FADES[cue] else 1.0
            cues += self._location[_FIRST_CUE + cue] * value
            spread += self._spread[_FIRST_CUE + cue] * value
        location += cues if cues >= 0.0 else _MOST_SHORTENING * (exp(cues / _MOST_SHORTENING) - 1.0)
        if reading.target is not None:
            tokens, trust = reading.target
            if trust < _FIRM_TRUST:
                trust *= fade
            location += trust * (log(tokens) - location)
            spread += trust * (_SPREAD_OF_TARGET - spread)
            believed = max(believed, trust * trust)
        if len(prompt.messages) > 1:
            location = _as_before(location, prompt.messages)
        location, spread = min(max(location, 0.0), _LOG_MOST), min(max(spread, LEAST_SPREAD), MOST_SPREAD)
        return Estimate(location, spread, believed)


def _check(arrays: Arrays) -> None:
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ValueError(f"the length model lacks {', '.join(missing)}")
    if tuple(arrays["length_names"].tolist()) != NAMES:
        raise ValueError("the length model was trained for other cues or features; train it anew")
    for key, shape in (("length_location", (len(NAMES),)), ("length_spread", (len(NAMES),)), ("length_base", (4,))):
        if arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} must be {shape} finite numbers, not of shape {arrays[key].shape}")


def _present(features: Features) -> list[tuple[int, float]]:
    """Which numbers speak, and what they say."""
    present = [(at, features[of] / (features[of] + half)) for of, half, at in _SQUEEZED_AT if features[of] > 0.0]
    units = log1p(max(features[_UNITS_AT], 0.0)) - log1p(_TYPICAL_UNITS)
    quantities = features[_QUANTITIES_AT]
    return [(0, units), (1, units * quantities / (quantities + _QUANTITIES_HALF)), *present]


def _fade(features: Features) -> float:
    return 1.0 / (1.0 + features[_MATHEMATICS_AT] + 0.3 * (features[_CODE_AT] + features[_QUANTITIES_AT]))


def _all_cues(reading: Reading, messages: tuple[Message, ...]) -> tuple[int, ...]:
    if len(messages) < 2 or messages[0].role not in ("system", "developer"):
        return reading.cues
    of_system = _system_cues(messages[0].text[:_SYSTEM_CHARACTERS])
    return reading.cues if not of_system else tuple({*reading.cues, *of_system})


@lru_cache(maxsize=_REMEMBERED_SYSTEMS)
def _system_cues(text: str) -> tuple[int, ...]:
    return tuple([cue for cue in read(text).cues if cue in _SYSTEM_CUES])


def _as_before(location: float, messages: tuple[Message, ...]) -> float:
    """The location drawn towards the mean length of the latest answers in this conversation.

    A call of a tool says nothing of answers, and a greeting little: they are trusted as far as they go.
    """
    answers = [
        tokens_of(message.text)
        for message in messages[-_HISTORY_MESSAGES:]
        if message.role == "assistant" and message.text
    ]
    total = sum(answers)
    if total < 1.0:
        return location
    trust = _HISTORY_TRUST * total / (total + _HALF_TRUSTED_TOKENS)
    return location + trust * (log(total / len(answers)) - location)
