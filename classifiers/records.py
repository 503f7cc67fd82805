"""`record`: a frozen dataclass for the path of a request. It lives in the lowest package since all use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=False)
def record(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Like `dataclass(frozen=True, slots=True)`, but it is the type checker that forbids assignment.

    At run time a frozen dataclass pays for its promise with a call for each field: three times as
    much for each of the two dozen values that every request makes. Use it for those alone.
    """
    return dataclass(slots=True, kw_only=kw_only)
