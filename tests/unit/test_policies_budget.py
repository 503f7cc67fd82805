"""What budgets can be, what they are called, and what is left of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.base import TIERS, Tier
from policies.budget import (
    ACTIONS,
    SUBJECT_KINDS,
    UNITS,
    Budget,
    BudgetState,
    SubjectKind,
    Unit,
)
from policies.money import MAX_NUSD

AMOUNTS = st.integers(0, MAX_NUSD)
SUBJECTS: dict[str, str] = {
    "organization": "default",
    "team": "search",
    "project": "web",
    "key": "key_1",
    "user": "search/ann",
    "tag": "batch",
}


def budget(**changes: Any) -> Budget:
    values: dict[str, Any] = {"id": "b", "subject_kind": "team", "subject_id": "search", "limit": 100}
    return Budget(**values | changes)


def state(limit: int, spent: int, reserved: int) -> BudgetState:
    return BudgetState(budget(limit=limit), "2026-11", spent, reserved)


# what is left


@pytest.mark.parametrize(
    ("limit", "spent", "reserved", "available"),
    [(100, 0, 0, 100), (100, 30, 20, 50), (100, 60, 40, 0), (100, 120, 0, 0), (0, 0, 0, 0)],
)
def test_available(limit: int, spent: int, reserved: int, available: int) -> None:
    assert state(limit, spent, reserved).available == available


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_what_is_available_never_exceeds_the_limit_nor_falls_below_zero(limit: int, spent: int, reserved: int) -> None:
    available = state(limit, spent, reserved).available
    assert 0 <= available <= limit
    assert available == 0 or available + spent + reserved == limit


# what they do


def test_two_of_the_actions_are_bounds_that_hold() -> None:
    assert {action for action in ACTIONS if budget(action=action).hard} == {"reject", "cache_only"}


@pytest.mark.parametrize(
    ("action", "share", "use"),
    [
        ("downgrade", None, 99),
        ("downgrade", Fraction(4, 5), 79),
        ("reject", Fraction(4, 5), 79),
        ("warn", Fraction(0), 0),
        ("warn", Fraction(1), 99),
        ("cache_only", None, None),
        ("warn", None, None),
    ],
)
def test_from_which_use_on_only_lower_tiers_serve(action: str, share: Fraction | None, use: int | None) -> None:
    assert budget(limit=99, action=action, downgrade_from=share).downgrades_from == use


@given(AMOUNTS, st.fractions(0, 1))
def test_lower_tiers_take_over_at_the_share_or_within_a_unit_before_it(limit: int, share: Fraction) -> None:
    use = budget(limit=limit, downgrade_from=share).downgrades_from
    assert use is not None
    assert use <= limit * share < use + 1


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, False),
        ({"window": "hour", "unit": "requests"}, False),
        ({"window": "minute", "unit": "requests"}, True),
        ({"window": "minute", "unit": "tokens"}, True),
        ({"window": "now", "unit": "parallel"}, True),
        ({"window": "rolling:1h", "unit": "tokens"}, False),
    ],
)
def test_what_is_a_rate_limit(changes: dict[str, Any], is_one: bool) -> None:
    assert budget(**changes).is_rate_limit is is_one


@pytest.mark.parametrize(
    ("kind", "subject_id", "is_one"),
    [("user", "search/*", True), ("user", "search/a/*", False), ("user", "search/a*", False), ("tag", "x/*", False)],
)
def test_only_a_whole_star_in_place_of_the_user_stands_for_everybody(
    kind: SubjectKind, subject_id: str, is_one: bool
) -> None:
    assert budget(subject_kind=kind, subject_id=subject_id).is_of_every_user is is_one


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "12.00 USD"),
        ({"unit": "tokens"}, "12000000000 tokens"),
        ({"unit": "requests"}, "12000000000 requests"),
        ({"unit": "parallel", "window": "now"}, "12000000000 requests at once"),
    ],
)
def test_amounts_are_written_with_their_unit(changes: dict[str, Any], text: str) -> None:
    assert budget(**changes).amount_text(12_000_000_000) == text


# what cannot be


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"subject_kind": "galaxy"}, r"subject_kind is 'galaxy'; allowed are organization, team, .*, tag"),
        ({"unit": "eur"}, r"unit is 'eur'; allowed are usd, tokens, requests, parallel"),
        ({"action": "panic"}, r"action is 'panic'; allowed are reject, cache_only, downgrade, warn"),
        ({"tier": "huge"}, r"tier is 'huge'; allowed are simple, moderate, complex"),
        ({"downgrade_to": "none"}, r"downgrade_to is 'none'; allowed are simple, moderate, complex"),
        ({"when_unavailable": "guess"}, r"when_unavailable is 'guess'; allowed are refuse, serve"),
        ({"source": "dream"}, r"source is 'dream'; allowed are admin, config"),
        ({"model": ""}, r"model is empty"),
        ({"window": "decade"}, r"window is 'decade'; allowed are hour, day"),
        ({"subject_kind": "organization"}, r"organization's budget is 'default', not 'search'"),
        ({"subject_id": ""}, r"1 to 256 printable characters"),
        ({"subject_id": "a\nb"}, r"1 to 256 printable characters"),
        ({"subject_id": "x" * 257}, r"1 to 256 printable characters"),
        ({"subject_kind": "user"}, r"'<team>/<user>' or '<team>/\*', not 'search'"),
        ({"subject_kind": "user", "subject_id": "/ann"}, r"'<team>/<user>'"),
        ({"subject_kind": "user", "subject_id": "search/"}, r"'<team>/<user>'"),
        ({"limit": -1}, r"between 0 and 9000000\.00 USD, not -0\.000000001"),
        ({"limit": MAX_NUSD + 1}, r"between 0 and 9000000\.00 USD, not 9000000\.000000001"),
        ({"limit": -1, "unit": "tokens"}, r"between 0 and 9000000000000000, not -1"),
        ({"limit": 0.5}, r"a whole number of nano-USD, not 0\.5"),
        ({"limit": True, "unit": "requests"}, r"a whole number of requests, not True"),
        ({"unit": "parallel"}, r"unit 'parallel' with window 'month': requests at once are counted in .*'now'"),
        ({"unit": "tokens", "window": "now"}, r"unit 'tokens' with window 'now'"),
        ({"window": "minute"}, r"a rate limit counts tokens or requests"),
        ({"downgrade_from": Fraction(-1, 10)}, r"downgrade_from is -0\.1; it must lie in 0\.\.1"),
        ({"downgrade_from": Fraction(11, 10)}, r"downgrade_from is 1\.1; it must lie in 0\.\.1"),
        ({"alert_shares": (Fraction(1), Fraction(0))}, r"alert's share is 0; it must lie above 0 and not above 2"),
        ({"alert_shares": (Fraction(5, 2),)}, r"alert's share is 2\.5"),
        ({"paced": True, "unit": "tokens"}, r"can be paced, not one of tokens in 'month'"),
        ({"paced": True, "window": "lifetime"}, r"can be paced, not one of usd in 'lifetime'"),
        ({"paced": True, "window": "rolling:7d"}, r"can be paced, not one of usd in 'rolling:7d'"),
        ({"timezone": "Mars/Olympus"}, r"'Mars/Olympus' is no time zone, such as UTC"),
        ({"timezone": "../etc/passwd"}, r"is no time zone"),
        ({"timezone": ""}, r"is no time zone"),
        ({"timezone": "Europe"}, r"is no time zone"),
    ],
)
def test_budgets_that_cannot_be(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        budget(**changes)


@pytest.mark.parametrize("kind", SUBJECT_KINDS)
@pytest.mark.parametrize("window", ["hour", "quarter", "lifetime", "rolling:24h"])
@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "parallel"])
def test_every_subject_can_be_limited_in_every_unit_and_window(kind: str, window: str, unit: str) -> None:
    made = budget(subject_kind=kind, subject_id=SUBJECTS[kind], window=window, unit=unit)
    assert made.parsed_window.name == window


# what they are called


@pytest.mark.parametrize(
    ("identity", "id_"),
    [
        (("team", "support", "usd", "month", None, None), "team:support:month"),
        (("key", "key_1", "tokens", "minute", None, None), "key:key_1:minute:tokens"),
        (("user", "support/*", "usd", "rolling:24h", None, None), "user:support/*:rolling-24h"),
        (("tag", "b", "requests", "day", "gpt-4", "complex"), "tag:b:day:requests:model=gpt-4:tier=complex"),
    ],
)
def test_a_budget_without_an_id_is_named_by_what_there_can_be_one_of_only(identity: Any, id_: str) -> None:
    made = _of(*identity)
    assert (made.id, made.identity, made.kind) == (id_, identity, identity[2:])


def test_an_id_that_is_given_stays() -> None:
    assert replace(budget(), window="day").id == "b"


# Colons, and the words that ids are made of: whatever could be taken for another part.
_PART = st.lists(
    st.sampled_from(["a", ":", "%", "3A", "month", "day", "tokens", "model=", "tier=simple"]), min_size=1, max_size=5
).map("".join)
_WHAT = st.tuples(
    st.sampled_from(["team", "tag"]),
    _PART,
    st.sampled_from(["usd", "tokens"]),
    st.sampled_from(["month", "day", "rolling:1h"]),
    st.none() | _PART,
    st.none() | st.sampled_from(TIERS),
)


@given(_WHAT, _WHAT)
def test_what_differs_in_anything_has_another_id(
    one: tuple[SubjectKind, str, Unit, str, str | None, Tier | None],
    other: tuple[SubjectKind, str, Unit, str, str | None, Tier | None],
) -> None:
    assert (_of(*one).id == _of(*other).id) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("tag", "a:month", "usd", "month", None, None), ("tag", "a", "usd", "month", None, None)),
        (("tag", "a", "usd", "day", "m:month", None), ("tag", "a:day:model=m", "usd", "month", None, None)),
        (("tag", "a", "usd", "day", "m", "simple"), ("tag", "a", "usd", "day", "m:tier=simple", None)),
        (("tag", "a:b", "usd", "day", None, None), ("tag", "a%3Ab", "usd", "day", None, None)),
    ],
)
def test_ids_that_could_be_taken_for_each_other(one: Any, other: Any) -> None:
    assert _of(*one).id != _of(*other).id


def _of(kind: SubjectKind, subject: str, unit: Unit, window: str, model: str | None, tier: Tier | None) -> Budget:
    return Budget(subject_kind=kind, subject_id=subject, limit=1, unit=unit, window=window, model=model, tier=tier)
