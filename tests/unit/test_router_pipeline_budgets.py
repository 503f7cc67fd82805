"""Which budgets apply to whom, in which window, and what a refusal says."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest

from policies.budget import Budget
from router.errors import BudgetExhausted, InvalidRequest, RateLimitExceeded
from router.openai.errors import error_headers
from router.openai.requests import parse_chat_request
from router.pipeline.budgets import (
    ApplicableBudgets,
    Applied,
    Paces,
    may_be_less,
    named_by,
    rate_limit_headers,
    refusal,
)
from router.stores.admission import Option, Refused
from router.stores.base import MAX_TAGS, Principal
from router.stores.counters import GRACE_SECONDS


def unix(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


NOW_S = unix(2026, 11, 10, 12)


def budget(kind: str = "team", subject: str = "t", limit: int = 1_000, **changes: Any) -> Budget:
    return Budget(subject_kind=kind, subject_id=subject, limit=limit, **changes)  # type: ignore[arg-type]


def principal(*budgets: Budget, **changes: Any) -> Principal:
    return Principal("k", "t", "application", None, budgets, **changes)


def applied(who: Principal, user: str = "", tags: tuple[str, ...] = (), now_s: float = NOW_S) -> Applied:
    return ApplicableBudgets().of(who, user, tags, now_s)


def ids(of: Applied) -> list[str]:
    return [one.id for one in of.budgets]


def labels(known: ApplicableBudgets, who: Principal, now_s: float) -> list[str]:
    return [counter.key.rpartition(":")[2] for counter in known.of(who, "", (), now_s).counters.all]


UTC_BUDGET = budget()
SHANGHAI = budget("key", "k", 500, timezone="Asia/Shanghai")

# ---- windows -------------------------------------------------------------------------------------


def test_each_budget_has_the_counter_of_its_own_window() -> None:
    known, who = ApplicableBudgets(), principal(UTC_BUDGET, SHANGHAI)
    evening = unix(2026, 11, 30, 20)  # December has begun in Shanghai
    assert labels(known, who, evening) == ["2026-11", "2026-12"]
    assert [counter.limit for counter in known.of(who, "", (), evening).counters.all] == [1_000, 500]


def test_a_window_ends_on_time_though_it_is_remembered() -> None:
    known, who = ApplicableBudgets(), principal(UTC_BUDGET)
    end_s = unix(2026, 12, 1)
    first = known.of(who, "", (), end_s - 100)
    assert known.of(who, "", (), end_s - 0.001) is first
    assert labels(known, who, end_s) == ["2026-12"]
    assert first.counters.all[0].expires_at_s == int(end_s) + GRACE_SECONDS


def test_a_budget_that_was_changed_counts_at_once() -> None:
    known = ApplicableBudgets()
    known.of(principal(UTC_BUDGET), "", (), 0)
    (counter,) = known.of(principal(budget(limit=7)), "", (), 0).counters.all
    assert counter.limit == 7
    assert known.of(principal(), "", (), 0).counters.all == ()


# ---- whose ---------------------------------------------------------------------------------------

EVERYBODY, ANNA = budget("user", "t/*", window="day"), budget("user", "t/anna", window="day")
ANNAS_MONTH = budget("user", "t/anna", window="month")


def test_an_end_users_own_budget_takes_the_place_of_everybodys() -> None:
    who = principal(EVERYBODY, ANNA, ANNAS_MONTH, trusted=True)
    assert ids(applied(who, "anna")) == [ANNA.id, ANNAS_MONTH.id]
    assert ids(applied(who, "ben")) == [EVERYBODY.id]
    assert ids(applied(principal(EVERYBODY, ANNAS_MONTH, trusted=True), "anna")) == [EVERYBODY.id, ANNAS_MONTH.id]


def test_each_end_user_has_a_counter_whose_name_tells_nobody_who_it_is() -> None:
    who = principal(EVERYBODY, trusted=True)
    keys = {applied(who, user).counters.all[0].key for user in ("anna", "ben", "anna:2026-11-10")}
    assert len(keys) == 3
    assert not any("anna" in key for key in keys)


def test_a_user_who_calls_herself_everybody_is_one_user() -> None:
    who = principal(EVERYBODY, ANNA, trusted=True)
    assert ids(applied(who, "*")) == [EVERYBODY.id]
    assert applied(who, "*").counters.keys != applied(who, "ben").counters.keys


def test_requests_of_nobody_in_particular_fall_under_no_users_budget() -> None:
    assert ids(applied(principal(EVERYBODY, ANNA, UTC_BUDGET, trusted=True), "")) == [UTC_BUDGET.id]


def test_budgets_of_tags_apply_where_the_tag_is() -> None:
    who = principal(budget("tag", "batch"), budget("tag", "nightly"), UTC_BUDGET)
    assert ids(applied(who, tags=("batch", "other"))) == ["tag:batch:month", UTC_BUDGET.id]


REQUEST = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}]}


def named(who: Principal, tags: bytes = b"", **fields: Any) -> tuple[str, tuple[str, ...]]:
    return named_by(who, parse_chat_request(orjson.dumps(REQUEST | fields)), tags)


def test_what_a_request_says_of_itself_counts_where_its_key_is_trusted() -> None:
    trusted = principal(trusted=True, tags=("prod",))
    assert named(trusted, b"nightly, batch,prod", user="anna") == ("anna", ("batch", "nightly", "prod"))
    assert named(trusted) == ("", ("prod",))
    assert named(principal(tags=("prod",)), b"batch", user="anna") == ("", ("prod",))
    assert named(principal(), user=["any", "thing"]) == ("", ())  # the provider's to judge


@pytest.mark.parametrize("tags", [b"Batch", b"a,,b", b"a b", b"\xff", b",".join([b"x"] * (MAX_TAGS + 1)), b"x" * 64])
def test_tags_that_cannot_be_are_refused(tags: bytes) -> None:
    with pytest.raises(InvalidRequest, match="x-parsimony-tags"):
        named(principal(trusted=True), tags)


@pytest.mark.parametrize("user", [1, ["anna"], {"id": 1}, "x" * 257, "anna\0", "an\nna"])
def test_a_user_that_cannot_be_is_refused(user: Any) -> None:
    with pytest.raises(InvalidRequest, match="'user' must be a string"):
        named(principal(trusted=True), user=user)


# ---- which deployments count ---------------------------------------------------------------------


def option(name: str, tier: Any) -> Option:
    return Option(name, tier, 0, 0, 1, 0, 1, 10, 10)


def test_a_budget_of_one_model_or_tier_says_which_options_count() -> None:
    options = (option("s", "simple"), option("l", "complex"), option("xl", "complex"))
    of_all = applied(principal(UTC_BUDGET))
    assert of_all.masks(options) == (b"",)
    some = applied(principal(UTC_BUDGET, budget(model="l"), budget(tier="complex"), budget(model="gone")))
    assert some.masks(options) == (b"", b"010", b"011", b"000")


# ---- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "now", "seconds"),
    [
        (UTC_BUDGET, (2026, 11, 30, 23, 59, 59), 1),
        (SHANGHAI, (2026, 11, 30, 15), 3_600),
        (UTC_BUDGET, (2026, 12, 1), 31 * 86_400),
        (budget(window="lifetime"), (2026, 12, 1), None),
    ],
)
def test_a_refusal_says_when_to_come_back(of: Budget, now: tuple[int, ...], seconds: float | None) -> None:
    error = refusal(applied(principal(of)), Refused(0, "limit", 990, 0, 60), unix(*now))
    assert isinstance(error, BudgetExhausted)
    assert error.retry_after_s == seconds


def test_what_others_only_hold_is_worth_asking_for_again() -> None:
    error = refusal(applied(principal(UTC_BUDGET)), Refused(0, "limit", 10, 980, 60), NOW_S)
    assert isinstance(error, BudgetExhausted)
    assert (error.retry_after_s, error.final) == (1.0, False)
    assert (b"x-should-retry", b"false") not in error_headers(error)
    spent = refusal(applied(principal(UTC_BUDGET)), Refused(0, "limit", 950, 0, 60), NOW_S)
    assert (b"x-should-retry", b"false") in error_headers(spent)


def test_a_request_that_is_larger_than_its_rate_limit_need_not_come_again() -> None:
    of = applied(principal(budget(limit=10, unit="tokens", window="minute")))
    error = refusal(of, Refused(0, "limit", 0, 0, 11), NOW_S)
    assert error.retry_after_s is None
    assert (b"x-should-retry", b"false") in error_headers(error)


def test_an_empty_purse_is_named_with_what_is_in_it() -> None:
    five = budget(limit=5_000_000_000)
    error = refusal(applied(principal(five)), Refused(0, "limit", 4_900_000_000, 60_000_000, 50_000_000), NOW_S)
    assert str(error) == (
        "The monthly budget of team 't' cannot carry this request: of 5.00 USD, 4.90 USD are spent and 0.06 USD held "
        "for requests under way; this one may take up to 0.05 USD (less with a lower max_tokens)."
    )


def test_a_ceiling_is_named_with_the_share_that_it_begins_at() -> None:
    of = budget(limit=5_000_000_000, downgrade_from=Fraction(4, 5))
    error = refusal(applied(principal(of)), Refused(0, "tier", 4_100_000_000, 0, 1), NOW_S)
    assert "has used 4.10 USD of 5.00 USD: from 4.00 USD on, only models of tier 'simple'" in str(error)


def test_a_rate_limit_is_an_error_of_its_own_that_says_when_there_is_room() -> None:
    of = applied(principal(budget(limit=10, unit="requests", window="minute")))
    error = refusal(of, Refused(0, "limit", 8, 2, 1, retry_at_ms=int(NOW_S * 1000) + 20_000), NOW_S)
    assert isinstance(error, RateLimitExceeded)
    assert (error.code, error.type, error.retry_after_s, error.limit, error.remaining) == (
        "rate_limit_exceeded", "requests", 20.0, 10, 0,
    )  # fmt: skip
    parallel = applied(principal(budget(limit=2, unit="parallel", window="now")))
    assert "of 2 requests at once" in str(refusal(parallel, Refused(0, "limit", 0, 2, 1), NOW_S))


def test_counting_may_help_where_room_is_left_and_tokens_matter() -> None:
    of = applied(principal(UTC_BUDGET, budget(limit=1_000, unit="requests", window="minute")))
    assert may_be_less(of, Refused(0, "limit", 900, 50, 60))
    assert not may_be_less(of, Refused(0, "limit", 900, 100, 60))
    assert not may_be_less(of, Refused(0, "tier", 900, 50, 60))
    assert not may_be_less(of, Refused(1, "limit", 900, 50, 60))


def test_headers_tell_of_the_tightest_limits_a_minute() -> None:
    of = applied(
        principal(
            UTC_BUDGET,
            budget(limit=100, unit="requests", window="minute"),
            budget("key", "k", 20, unit="requests", window="minute"),
            budget(limit=5_000, unit="tokens", window="minute"),
        )
    )
    assert dict(rate_limit_headers(of, [(50, 1), (2, 1), (0, 0)])) == {
        b"x-ratelimit-limit-requests": b"20",
        b"x-ratelimit-remaining-requests": b"17",
        b"x-ratelimit-reset-requests": b"1m0s",
        b"x-ratelimit-limit-tokens": b"5000",
        b"x-ratelimit-remaining-tokens": b"5000",
        b"x-ratelimit-reset-tokens": b"0s",
    }


# ---- pacing --------------------------------------------------------------------------------------


def test_the_price_is_that_of_the_paced_budget_that_is_furthest_ahead() -> None:
    steady, hasty = budget(limit=1_000, paced=True), budget("key", "k", 1_000, paced=True)
    of, paces = applied(principal(steady, hasty, budget(window="day"))), Paces()
    assert paces.price(of, NOW_S) == 0.0
    paces.saw(of, [(100, 0), (0, 0)])
    assert paces.price(of, NOW_S) == 0.0
    paces.saw(of, [(100, 0), (900, 0)])
    assert 0.5 < paces.price(of, NOW_S) < 1.0


def test_a_new_window_begins_without_a_price() -> None:
    who, paces = principal(budget(limit=1_000, paced=True)), Paces()
    paces.saw(applied(who), [(1_000, 0)])
    assert paces.price(applied(who), NOW_S) == 1.0
    december = unix(2026, 12, 1)
    assert paces.price(applied(who, now_s=december), december) == 0.0
