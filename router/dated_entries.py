"""What files of dated prices are made of, exact amounts, days, entries without unknown keys; and how one is read."""

from __future__ import annotations

from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from policies.money import parse_amount
from router.errors import ConfigError
from router.yaml_file import UnreadableFile, problems, read_yaml


def _exact(value: Any) -> Fraction:
    if value is None or not isinstance(value, (str, int, float)):
        raise ValueError('must be a decimal number written as a string, such as "0.15"')
    return parse_amount(value)  # type: ignore[arg-type]  # it refuses floats, saying why


def _day(value: Any) -> date:
    """A date as YAML reads it, or as text; pydantic alone would take a number for seconds since 1970."""
    if isinstance(value, str):
        value = date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("must be a date such as 2024-01-25")
    return value


Amount = Annotated[Fraction, BeforeValidator(_exact)]
Positive = Annotated[Fraction, BeforeValidator(_exact), Field(gt=0)]
Share = Annotated[Fraction, BeforeValidator(_exact), Field(gt=0, le=1)]
Day = Annotated[date, BeforeValidator(_day)]
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


P = TypeVar("P", bound=Part)


def read_entries(path: Path, kind: type[P], failure: type[ConfigError]) -> P:
    """The file at `path`. Raises `failure`, which names the file, the keys, what was found and what is allowed."""
    try:
        return kind.model_validate(read_yaml(path))
    except UnreadableFile as error:
        raise failure(f"{path}: {error}") from error
    except ValidationError as error:
        raise failure("\n".join(f"{path}: {line}" for line in problems(error))) from error
