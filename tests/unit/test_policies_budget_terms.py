"""Limits and shares as people write them, and what they must not write."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest

from policies.budget import Budget, SubjectKind, Unit
from policies.budget_terms import (
    amount_in_unit,
    budget_name,
    format_share,
    parse_limit,
    parse_share,
    window_or_default,
)


def budget(kind: SubjectKind, subject_id: str, limit: int = 1, **terms: Any) -> Budget:
    return Budget(id="b", subject_kind=kind, subject_id=subject_id, limit=limit, **terms)


@pytest.mark.parametrize(
    ("written", "unit", "limit"),
    [
        ("500", "usd", 500 * 10**9),
        (5, "usd", 5 * 10**9),
        ("0.000000001", "usd", 1),
        ("60", "requests", 60),
        ("1,000,000", "tokens", 10**6),
        (0, "parallel", 0),
    ],
)
def test_a_limit_is_read_in_its_unit(written: str | int, unit: Unit, limit: int) -> None:
    assert parse_limit(written, unit) == limit


@pytest.mark.parametrize(
    ("written", "unit", "words"),
    [
        (0.5, "usd", "a float cannot hold every decimal amount"),
        ("-1", "usd", "is not an amount"),
        ("0.0000000001", "usd", "finer than a nano-dollar"),
        ("1.5", "requests", "'1.5' is not a number of requests"),
        ("-3", "tokens", "'-3' is not a number of tokens"),
        (2.0, "parallel", "2.0 is not a number of parallel"),
        ("$5", "tokens", "is not a number of tokens"),
    ],
)
def test_what_is_no_limit_is_said(written: Any, unit: Unit, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_limit(written, unit)


@pytest.mark.parametrize(
    ("written", "unit", "window"),
    [
        (None, "usd", "month"),
        (None, "requests", "month"),
        (None, "parallel", "now"),
        ("", "tokens", "month"),
        ("day", "usd", "day"),
        ("day", "parallel", "day"),
    ],
)
def test_a_window_that_is_left_out_is_the_month_or_now(written: str | None, unit: Unit, window: str) -> None:
    assert window_or_default(written, unit) == window


@pytest.mark.parametrize("written", ["80%", "80 %", "0.8", 0.8, ".80"])
def test_a_share_may_be_written_either_way(written: str | float) -> None:
    assert parse_share(written) == Fraction(4, 5)


@pytest.mark.parametrize("written", ["", "%", "much", "-5%", True, float("nan"), float("inf"), "80%%"])
def test_what_is_no_share_is_said(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is not a share, such as 80% or 0\.8"):
        parse_share(written)


@pytest.mark.parametrize("percent", ["0%", "0.5%", "66.6%", "80%", "100%", "200%"])
def test_a_share_is_shown_as_it_can_be_written(percent: str) -> None:
    assert format_share(parse_share(percent)) == percent


def test_a_budget_is_named_by_what_sets_it_apart() -> None:
    assert budget_name(budget("team", "support", 1)) == "team support"
    assert budget_name(budget("organization", "default", 1, unit="tokens")) == "organization, tokens"
    at_once = budget("key", "key_1", 4, unit="parallel", window="now", model="large", tier="complex")
    assert budget_name(at_once) == "key key_1, at once, large, complex"


def test_amounts_are_written_in_their_unit() -> None:
    assert amount_in_unit(budget("team", "support", 1), 1_500_000_000) == "1.50"
    assert amount_in_unit(budget("team", "support", 1, unit="tokens"), 1_500) == "1500"
