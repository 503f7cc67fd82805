"""What is held covers the worst that can happen; windows are worked out once and change on time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.budget import Budget
from policies.pricing import cost_nusd
from policies.routing import Choice, RouteDecision
from policies.usage import TokenUsage
from router.openai.requests import ChatRequest, parse_chat_request
from router.pipeline.reserve import IMAGE_TOKENS, BudgetWindows, plans, seconds_left, worst_cost_nusd
from router.stores.base import Principal
from router.stores.counters import GRACE_SECONDS
from router.tokenizers import TokenCounter
from tests.support.pipeline_bench import TOKENIZER, deployment

COUNTER = TokenCounter(TOKENIZER)


def choice(name: str = "small") -> Choice:
    made = deployment(name, "simple")
    return Choice(made, made.prices.prices[0], 1)


def request(text: str = "Hello", **changes: Any) -> ChatRequest:
    return parse_chat_request(
        orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]} | changes)
    )


def unix(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


@given(st.text(max_size=300), st.integers(1, 100), st.integers(1, 4))
def test_no_answer_costs_more_than_is_held(text: str, max_tokens: int, n: int) -> None:
    asked = request(text, max_tokens=max_tokens, n=n)
    most = TokenUsage(COUNTER.count_messages(asked.messages), max_tokens * n)
    assert cost_nusd(most, choice().price) <= worst_cost_nusd(choice(), asked)


def test_the_deployments_own_limits_bound_what_is_not_said() -> None:
    assert worst_cost_nusd(choice(), request()) == request().size_bytes * 1 + 100 * 2
    assert worst_cost_nusd(choice(), request(max_tokens=10**9)) == request(max_tokens=10**9).size_bytes + 8_192 * 2
    assert worst_cost_nusd(choice(), request("x" * 50_000)) == 8_192 * 1 + 100 * 2


def test_images_count_beside_the_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://images.example/1"}}
    asked = request(messages=[{"role": "user", "content": [image, image]}])
    assert worst_cost_nusd(choice(), asked) == asked.size_bytes + 2 * IMAGE_TOKENS + 100 * 2


def test_plans_are_the_worst_costs_dearest_first_each_once() -> None:
    decision = RouteDecision((choice("small"), choice("large"), choice("small")), "simple", ())
    amounts, worst = plans(decision, request())
    small, large = worst_cost_nusd(choice("small"), request()), worst_cost_nusd(choice("large"), request())
    assert (amounts, worst) == ((large, small), (small, large, small))


UTC_BUDGET = Budget("b1", "team", "t", 1_000)
SHANGHAI = Budget("b2", "key", "k", 500, timezone="Asia/Shanghai")


def principal(*budgets: Budget, key_id: str = "k") -> Principal:
    return Principal(key_id, "t", "application", None, budgets)


def labels(windows: BudgetWindows, who: Principal, now_s: float) -> list[str]:
    return [counter.key.rpartition(":")[2] for counter in windows.counters(who, now_s)]


def test_each_budget_has_the_counter_of_its_own_window() -> None:
    windows, who = BudgetWindows(), principal(UTC_BUDGET, SHANGHAI)
    evening = unix(2026, 11, 30, 20)  # December has begun in Shanghai
    assert labels(windows, who, evening) == ["2026-11", "2026-12"]
    assert [counter.limit_nusd for counter in windows.counters(who, evening)] == [1_000, 500]


def test_a_window_ends_on_time_though_it_is_remembered() -> None:
    windows, who = BudgetWindows(), principal(UTC_BUDGET)
    end_s = unix(2026, 12, 1)
    first = windows.counters(who, end_s - 100)
    assert windows.counters(who, end_s - 0.001) is first
    assert labels(windows, who, end_s) == ["2026-12"]
    assert first[0].expires_at_s == int(end_s) + GRACE_SECONDS


def test_a_budget_that_was_changed_counts_at_once() -> None:
    windows = BudgetWindows()
    windows.counters(principal(UTC_BUDGET), 0)
    (counter,) = windows.counters(principal(Budget("b1", "team", "t", 7)), 0)
    assert counter.limit_nusd == 7
    assert windows.counters(principal(), 0) == ()


@pytest.mark.parametrize(
    ("budget", "now", "seconds"),
    [
        (UTC_BUDGET, (2026, 11, 30, 23, 59, 59), 1),
        (SHANGHAI, (2026, 11, 30, 15), 3_600),
        (UTC_BUDGET, (2026, 12, 1), 31 * 86_400),
    ],
)
def test_the_time_until_the_window_ends(budget: Budget, now: tuple[int, ...], seconds: float) -> None:
    assert seconds_left(budget, unix(*now)) == seconds
