"""A share is reached by what is settled, to the nano-dollar, and one sentence tells people of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.alerts import Alert, alert_text, alert_window, shares_reached
from policies.budget import Budget, BudgetState
from policies.money import NUSD_PER_USD, parse_usd

NOW = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
HALF, MOST, ALL = Fraction(1, 2), Fraction(4, 5), Fraction(1)


def budget(**changes: object) -> Budget:
    settings: dict[str, object] = {
        "id": "team:support:month",
        "subject_kind": "team",
        "subject_id": "support",
        "limit": 500 * NUSD_PER_USD,
    }
    return Budget(**(settings | changes))  # type: ignore[arg-type]


def state(spent: int, reserved: int = 0, label: str = "2026-11", end_user: str = "", **changes: object) -> BudgetState:
    return BudgetState(budget(**changes), label, spent, reserved, end_user)


def text(state: BudgetState, also_passed: tuple[Fraction, ...] = (), runs_out_at: datetime | None = None) -> str:
    return alert_text(Alert("alert_1", state, state.window_label, MOST, also_passed, NOW, runs_out_at))


@pytest.mark.parametrize(
    ("spent", "reached"),
    [
        (0, ()),
        (400 * NUSD_PER_USD - 1, ()),
        (400 * NUSD_PER_USD, (MOST,)),
        (500 * NUSD_PER_USD - 1, (MOST,)),
        (500 * NUSD_PER_USD, (ALL, MOST)),
        (900 * NUSD_PER_USD, (ALL, MOST)),
    ],
)
def test_a_share_is_reached_at_its_very_nano_dollar(spent: int, reached: tuple[Fraction, ...]) -> None:
    assert shares_reached(state(spent)) == reached


def test_what_is_only_reserved_alarms_nobody() -> None:
    assert shares_reached(state(399 * NUSD_PER_USD, reserved=101 * NUSD_PER_USD)) == ()


@given(
    st.integers(0, 10**16),
    st.integers(0, 10**16),
    st.lists(st.fractions(Fraction(1, 1000), 2, max_denominator=1000), max_size=5),
)
def test_reached_are_exactly_the_shares_that_the_use_is_at_or_above(
    spent: int, limit: int, shares: list[Fraction]
) -> None:
    limit = min(limit, 9 * 10**15)
    found = shares_reached(state(spent, limit=limit, alert_shares=tuple(shares)))
    assert list(found) == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    assert set(found) == {share for share in shares if spent and Fraction(spent) >= limit * share}


def test_a_budget_that_pays_for_no_request_any_more_counts_as_used_up() -> None:
    exhausted = replace(state(499 * NUSD_PER_USD), exhausted=True)
    assert shares_reached(exhausted) == (ALL, MOST)
    assert text(exhausted).endswith("(499.00 USD); what is left pays for no request")


def test_a_budget_of_nothing_tells_of_its_first_use() -> None:
    assert shares_reached(state(0, limit=0)) == ()
    assert shares_reached(state(1, limit=0)) == (ALL, MOST)
    assert text(state(NUSD_PER_USD, limit=0)) == "team support has used more than its 0.00 USD for 2026-11 (1.00 USD)"


def test_rate_limits_tell_nobody() -> None:
    assert shares_reached(state(100, limit=100, unit="tokens", window="minute", label="rolling")) == ()
    assert shares_reached(state(4, limit=4, unit="parallel", window="now", label="now")) == ()


def test_a_calendar_window_is_its_label() -> None:
    assert alert_window(state(1), NOW) == "2026-11"
    assert alert_window(state(1, window="lifetime", label="lifetime"), NOW) == "lifetime"


def test_a_rolling_window_is_told_of_once_in_its_length() -> None:
    rolling = state(1, window="rolling:7d", label="rolling")
    spans = [alert_window(rolling, NOW + timedelta(hours=hours)) for hours in range(28 * 24)]
    changes = [hour for hour in range(1, len(spans)) if spans[hour] != spans[hour - 1]]
    assert len(set(spans)) == len(changes) + 1
    assert {after - before for before, after in pairwise(changes)} == {7 * 24}


def test_the_sentence_says_who_used_how_much_of_what() -> None:
    used = state(parse_usd("402.127"))
    assert text(used) == "team support has used 80 % of its 500.00 USD for 2026-11 (402.13 USD)"
    ends = datetime(2026, 11, 27, 15, tzinfo=UTC)
    assert text(used, runs_out_at=ends).endswith("(402.13 USD); at this rate it runs out on 2026-11-27")
    assert text(used, runs_out_at=NOW) == text(used)


def test_what_was_passed_at_once_is_said_in_the_same_breath() -> None:
    used = state(parse_usd("600"))
    assert text(used, (MOST,)).endswith("120 % of its 500.00 USD for 2026-11 (600.00 USD), "
                                        "passing the alert at 80 % as well")  # fmt: skip
    assert text(used, (Fraction(33, 40), HALF)).endswith("passing the alerts at 82.5 % and 50 % as well")


@pytest.mark.parametrize(
    ("changes", "label", "expected"),
    [
        ({"subject_kind": "organization", "subject_id": "default"}, "2026-11", "the organization has used 50 % of "),
        ({"subject_kind": "key", "subject_id": "key_1"}, "2026-11", "key key_1 has used 50 % of "),
        ({"subject_kind": "user", "subject_id": "support/amy"}, "2026-11", "user amy of team support has used 50 % "),
        ({"unit": "tokens", "limit": 5000}, "2026-11", "its 5000 tokens for 2026-11 (2500 tokens)"),
        ({"window": "rolling:7d"}, "rolling", "its 500.00 USD for any 7d (250.00 USD)"),
        ({"window": "lifetime"}, "lifetime", "its 500.00 USD for good (250.00 USD)"),
        ({"model": "openai/gpt-4"}, "2026-11", "its 500.00 USD on openai/gpt-4 for 2026-11 "),
        ({"tier": "complex"}, "2026-11", "its 500.00 USD on models of tier complex for 2026-11 "),
        ({"limit": parse_usd("0.003")}, "2026-11", "its 0.003 USD for 2026-11 (0.0015 USD)"),
    ],
)
def test_every_kind_of_budget_has_its_words(changes: dict[str, Any], label: str, expected: str) -> None:
    bare = state(0, label=label, **changes)
    assert expected in text(replace(bare, spent=bare.budget.limit // 2))


def test_an_end_user_cannot_write_the_log() -> None:
    everyone = state(parse_usd("400"), end_user="amy\n2026 ERROR \x1b[2J" + "x" * 300, subject_kind="user",
                     subject_id="support/*")  # fmt: skip
    told = text(everyone)
    assert told.isprintable()
    assert told.startswith("user amy?2026 ERROR ?[2Jxxx")
    assert len(told) < 220
