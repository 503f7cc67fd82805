"""How much to hold for a request, and in which budgets' windows."""

from __future__ import annotations

from datetime import UTC, datetime

from policies.budget import Budget
from policies.pricing import cost_of_tokens_nusd
from policies.routing import Choice, RouteDecision
from router.openai.requests import ChatRequest
from router.stores.admission import BudgetCounter
from router.stores.base import Principal
from router.stores.counters import counter_of, window_of

IMAGE_TOKENS = 1_536
"""More than an image costs at high detail: 85 and 170 for each of at most 8 tiles (OpenAI, guide to vision, GPT-4o)."""


def worst_cost_nusd(choice: Choice, request: ChatRequest) -> int:
    """The most that one call can cost: a byte is at least a token's worth of input in every BPE vocabulary."""
    deployment = choice.deployment
    input_tokens = min(request.size_bytes + request.image_count * IMAGE_TOKENS, deployment.context_window)
    output_tokens = min(request.max_output_tokens or deployment.max_output_tokens, deployment.context_window)
    return cost_of_tokens_nusd(input_tokens, output_tokens * request.choices, choice.price)


def plans(decision: RouteDecision, request: ChatRequest) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(amounts to try, dearest first; worst cost of each option): an amount admits what costs no more."""
    costs = tuple([worst_cost_nusd(choice, request) for choice in decision.options])
    return tuple(sorted(set(costs), reverse=True)), costs


class BudgetWindows:
    """The counters that apply to a principal at a time; worked out once a window."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Principal, tuple[BudgetCounter, ...], float]] = {}

    def counters(self, principal: Principal, now_s: float) -> tuple[BudgetCounter, ...]:
        known = self._known.get(principal.key_id)
        if known is not None and known[0] is principal and now_s < known[2]:
            return known[1]
        now = datetime.fromtimestamp(now_s, UTC)
        periods = [window_of(budget, now) for budget in principal.budgets]
        counters = tuple(counter_of(b, period) for b, period in zip(principal.budgets, periods, strict=True))
        until_s = min((period.end.timestamp() for period in periods), default=float("inf"))
        self._known[principal.key_id] = (principal, counters, until_s)
        return counters


def seconds_left(budget: Budget, now_s: float) -> float:
    """Until the budget's window ends."""
    return window_of(budget, datetime.fromtimestamp(now_s, UTC)).end.timestamp() - now_s
