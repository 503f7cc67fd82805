"""What every section of the configuration is made of: its base class, and the scalars that it may hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from policies.budget_terms import parse_share
from policies.money import parse_usd

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
EnvironmentName = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Score = Annotated[float, Field(ge=0, le=1)]


def _dollars(value: Any) -> Any:
    parse_usd(value)
    return value


def _share(value: Any) -> Any:
    parse_share(value)
    return value


# Both stay as they were written: what they mean is asked of the section that holds them.
Dollars = Annotated[str | int, BeforeValidator(_dollars)]
Share = Annotated[str | float, BeforeValidator(_share)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, values: Any) -> Any:
        """A section with nothing but comments in it reads as null; it is empty."""
        return {} if values is None else values
