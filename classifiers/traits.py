"""What kind of request this is, and the traits that make one of its kind hard: the learned model's own numbers.

One kind's hardship is another's routine. Among word problems and multiple-choice questions the longer is the harder;
among open requests length is mostly material, and among problems thick with notation the hardest defeat the large
model too. So every trait counts within its kind: the model sees the products of both. Only the newest message is
read, through the window of `features`; the text is bounded, so is the time, and no text makes it raise.
"""

from __future__ import annotations

import re
from math import log1p
from typing import NamedTuple

from classifiers.features import OPERATOR_LEADS, UNITS_PER_EXTRA_BYTE, Features, Text
from classifiers.vocabulary import ASK, CLASS_OF_MARK, CLASSES, CONDITION, NEGATION, NUMBER, PERSON, RECALL, STATEMENT

KINDS = ("choice", "code", "notation", "word_problem", "open")
TRAITS = (
    "level", "length", "people", "negation", "conditions", "statements", "option_length", "option_numbers",
    "notation_share", "recall", "explanation", "routine", "writing", "reasoning", "constraints", "chinese",
)  # fmt: skip

_CLASS_MARKS = tuple(kind + 1 for kind in CLASSES)
# An option's letter and what follows it: A. A) A: and their full-width forms, not within a word.
_OPTION = re.compile(rb"(?<![A-Za-z0-9])[A-J](?=[.):]|\xef\xbc[\x8e\x89\x9a]|\xe3\x80\x81)")
_OPTION_LETTERS = b"ABCDEFGHIJ"
_CHOICE_FROM = 3
# In bytes: an option says something after its letter, and a question stands before the first.
_LEAST_OPTION, _LEAST_STEM = 4, 4
_DIGITS = b"0123456789"
_NOT_ALPHANUMERIC = bytes(byte for byte in range(128) if not chr(byte).isalnum())
_NEUTRAL_LOG_UNITS, _LOG_UNITS_SPREAD = 3.0, 3.0


class Traits(NamedTuple):
    """The shares of the kinds, which sum to 1, and the traits of `TRAITS`, each within about [-1, 2]."""

    kinds: tuple[float, ...]
    traits: tuple[float, ...]


def measure(text: Text, features: Features) -> Traits:
    """The kinds and traits of the newest message, given the features of the whole prompt."""
    raw = text.raw
    stem_units, choices, options = _question(text)
    counts = _counts(text)
    notation = raw.count(b"\\") + raw.count(b"^")
    if text.extra_bytes:
        notation += sum([raw.count(lead) for lead in OPERATOR_LEADS])
    notation_share = _saturated(notation, 4.0)
    chinese_units = text.extra_bytes * UNITS_PER_EXTRA_BYTE if text.pairs else 0.0
    chinese = chinese_units / (chinese_units + len(text.words)) if chinese_units else 0.0
    return Traits(
        _kinds(features, counts, notation, options),
        (
            1.0,
            (log1p(stem_units) - _NEUTRAL_LOG_UNITS) / _LOG_UNITS_SPREAD,
            _saturated(counts[PERSON], 2.0),
            _saturated(counts[NEGATION], 1.0),
            _saturated(counts[CONDITION], 2.0),
            _saturated(counts[STATEMENT], 2.0),
            log1p(len(choices) / (6.0 * options)) / 3.0 if options else 0.0,
            _digit_share(choices) if options else 0.0,
            notation_share,
            _saturated(counts[RECALL], 1.0),
            _saturated(features.explanation, 1.0),
            features.routine,
            _saturated(features.writing, 1.0),
            _saturated(features.reasoning, 1.0),
            _saturated(features.constraints, 2.0),
            chinese * (1.0 - notation_share) * (1.0 - features.routine),
        ),
    )


def _kinds(features: Features, counts: list[int], notation: int, options: int) -> tuple[float, ...]:
    choice = 1.0 if options >= _CHOICE_FROM else 0.0
    code = max(0.0, min(1.0, (features.code - 0.5) / 2.0 - 0.2 * notation)) * (1.0 - 0.5 * choice)
    thick = max(0.0, min(1.0, (notation - 2.0) / 6.0)) * (1.0 - code)
    left = 1.0 - max(choice, code + thick)
    asks = min(1.0, counts[ASK] + max(0.0, features.quantities - 1.0))
    numbers = max(0.0, min(1.0, features.quantities + counts[NUMBER] - 1.0))
    word_problem = max(0.0, left) * asks * numbers
    plain_choice = max(0.0, 1.0 - code - thick) * choice
    return plain_choice, code, thick, word_problem, max(0.0, 1.0 - plain_choice - code - thick - word_problem)


def _question(text: Text) -> tuple[float, bytes, int]:
    """Units before the first option, the options' text, and how many there are (0 unless they run A, B, C ...)."""
    raw = text.raw
    first, last, expected = -1, -_LEAST_OPTION, 0
    for match in _OPTION.finditer(raw) if b"B" in raw and b"C" in raw else ():
        at = match.start()
        if expected < len(_OPTION_LETTERS) and raw[at] == _OPTION_LETTERS[expected] and at - last >= _LEAST_OPTION:
            first = at if expected == 0 else first
            last, expected = at, expected + 1
    if expected < _CHOICE_FROM or first < _LEAST_STEM:
        return len(text.words) + text.extra_bytes * UNITS_PER_EXTRA_BYTE, b"", 0
    stem = raw[:first]
    extra_bytes = len(stem) - len(stem.decode("utf-8", "ignore")) if text.extra_bytes else 0
    return len(stem.split()) + extra_bytes * UNITS_PER_EXTRA_BYTE, raw[first:], expected


def _counts(text: Text) -> list[int]:
    return [*map(text.marks.translate(CLASS_OF_MARK).count, _CLASS_MARKS)]


def _digit_share(raw: bytes) -> float:
    letters = raw.translate(None, _NOT_ALPHANUMERIC)
    return 1.0 - len(letters.translate(None, _DIGITS)) / len(letters) if letters else 0.0


def _saturated(count: float, half: float) -> float:
    return count / (count + half) if count > 0.0 else 0.0
