"""How long models' answers are, as published: configs/answer_lengths.yaml, beside the price file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from policies.answer_lengths import ALL_ALIKE, AnswerLength, AnswerLengths
from router.dated_entries import Part, read_entries
from router.errors import ConfigError

FILE_NAME = "answer_lengths.yaml"
CHARACTERS_PER_TOKEN = 4.7
"""Of English prose in cl100k_base."""


class AnswerLengthsError(ConfigError, ValueError):
    """The file cannot be used; the message names file, key, what was found and what is allowed."""


class _Entry(Part):
    characters: Annotated[int, Field(gt=0, strict=True)]
    rambles: Annotated[bool, Field(strict=True)]
    also: tuple[str, ...] = ()

    def of(self, model: str) -> AnswerLength:
        return AnswerLength(model, self.characters / CHARACTERS_PER_TOKEN, self.rambles)


class _File(Part):
    source: str
    usual: _Entry
    models: Mapping[str, _Entry]


def answer_lengths_beside(prices: Path) -> AnswerLengths:
    """Those of the file in the folder of the price file; without one, nothing is known. Raises AnswerLengthsError."""
    path = prices.with_name(FILE_NAME)
    return load_answer_lengths(path) if path.exists() else ALL_ALIKE


def load_answer_lengths(path: Path) -> AnswerLengths:
    """Raises AnswerLengthsError."""
    file = read_entries(path, _File, AnswerLengthsError)
    models: dict[str, AnswerLength] = {}
    for name, entry in file.models.items():
        for known_as in (name, *entry.also):
            if known_as in models:
                raise AnswerLengthsError(f"{path}: models.{name}: the name {known_as!r} is given twice")
            models[known_as] = entry.of(name)
    return AnswerLengths(models, file.usual.of(""))
