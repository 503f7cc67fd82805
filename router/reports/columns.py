"""Columns that the tables of reports have in common."""

from __future__ import annotations

from collections.abc import Sequence

from policies.drivers import DRIVERS
from router.reports.account import Account, Line
from router.reports.dimensions import CAUSE, CAUSES, DRIVER, title_of
from router.reports.tables import Column

COUNTS = (
    ("request_count", "requests", "requests"),
    ("measuring_count", "shadow and judge calls", "requests"),
    ("input_tokens", "input tokens", "tokens"),
    ("output_tokens", "output tokens", "tokens"),
    ("cached_input_tokens", "cached input tokens", "tokens"),
    ("reasoning_tokens", "reasoning tokens", "tokens"),
)
"""Of `Figures`: name, title, unit. Tokens are those of all calls."""
_WORDS: dict[str, dict[str, str]] = {DRIVER: {str(name): words for name, words in DRIVERS.items()}, CAUSE: CAUSES}


def by_columns(by: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, title_of(name), "text", dimension=True) for name in by)


def names_of(line: Line, by: Sequence[str]) -> tuple[str, ...]:
    """For people: drivers and causes in words."""
    return tuple(_WORDS.get(name, {}).get(label, label) for name, label in zip(by, line.names, strict=True))


def counts() -> tuple[Column, ...]:
    return tuple(
        Column(name, title, "count", unit, adds_up=True, detail=name != "request_count") for name, title, unit in COUNTS
    )


def money(
    name: str, title: str, currency: str, description: str = "", *, adds_up: bool = True, detail: bool = False
) -> Column:
    return Column(name, title, "money", currency, adds_up=adds_up, description=description, detail=detail)


def filters_of(account: Account) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, values in account.question.where.items() for value in values)
