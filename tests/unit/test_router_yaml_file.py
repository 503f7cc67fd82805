"""Strict YAML: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from router.yaml_file import UnreadableFile, problems, read_yaml


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path, "a: [1, b]\n")) == {"a": [1, "b"]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "the key 'a' stands twice"),
        ("a: {b: 1, b: 2}\n", "the key 'b' stands twice"),
        ("a: [1\n", "is not YAML"),
        ("day: 2024-02-30\n", "is not YAML: day is out of range"),
        (b"\xff\xfe\xfa", "is not YAML"),
        ("? [a]\n: 1\n", "found unhashable key"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_yaml(write(tmp_path, text))
    assert says in str(refused.value)


def test_a_missing_file_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int
    name: str = "x"

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 3:
            raise ValueError("must have at most three letters")
        return name


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, ["count: is missing"]),
        ({"count": 1, "cuont": 2}, ["cuont: is not a known key, see there"]),
        (
            {"count": "many"},
            ["count: Input should be a valid integer, unable to parse string as an integer; found 'many'"],
        ),
        ({"count": None}, ["count: Input should be a valid integer; found nothing"]),
        ({"count": [1]}, ["count: Input should be a valid integer; found a list"]),
        ({"count": 1, "name": "long"}, ["name: must have at most three letters; found 'long'"]),
        (7, ["(top level): Input should be a valid dictionary or instance of _Part; found 7"]),
    ],
)
def test_problems_name_key_fault_and_find(values: object, lines: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        _Part.model_validate(values)
    assert list(problems(refused.value, ", see there")) == lines
