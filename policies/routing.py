"""RoutingFacts -> RouteDecision: the cheapest deployment that fits and is good enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from classifiers.base import TIERS, Tier
from classifiers.records import record
from policies.catalog import Capability, Deployment, Price
from policies.pricing import cost_of_tokens_nusd

Reason = Literal[
    "pinned",
    "simple",
    "moderate",
    "complex",
    "escalated",
    "degraded",
    "paced",
    "budget",
    "observed",
    "shadow",
    "fallback",
    "cache",
    "refused",
]
REASONS: dict[Reason, str] = {
    "pinned": "the application named this deployment",
    "simple": "the cheapest deployment that fits is good enough for a simple request",
    "moderate": "the cheapest deployment good enough for a moderate request",
    "complex": "the cheapest deployment good enough for a complex request",
    "escalated": "deployments of the required tier did not fit (context, capabilities, rights), so a stronger one",
    "degraded": "no deployment of the required tier was available, so the strongest below it",
    "paced": "a budget is spent ahead of its pace, so the bar for larger models was higher than the request",
    "budget": "the budgets could not carry the first choice, so a cheaper one",
    "observed": "its alias is in observe mode: everything goes to the baseline, whatever routing would have done",
    "shadow": "sent to the baseline, too, to measure what a request that went elsewhere would have cost there",
    "fallback": "the first choice failed, so the next one",
    "cache": "answered from the response cache",
    "refused": "nothing was called",
}

EXPECTED_OUTPUT_TOKENS = 300
"""Stands for an answer's length in comparing prices where the classifier estimates none, as for a pinned request."""

MAX_OPTIONS = 16
"""How many deployments budgets may choose from: they cost time to look at, each in every budget."""

_RANK: dict[Tier, int] = {tier: rank for rank, tier in enumerate(TIERS)}


@record()
class RoutingFacts:
    """All that a decision depends on.

    `allowed` are the deployments that the key may use (None: all). `unavailable` have an open
    circuit. `max_output_tokens` is the request's own limit, `expected_output_tokens` what its answer will
    likely take: an estimate for comparing prices, no bound. `day` chooses prices.
    """

    candidates: tuple[Deployment, ...]
    tier: Tier
    needs: frozenset[Capability]
    input_tokens: int
    max_output_tokens: int | None
    allowed: frozenset[str] | None
    unavailable: frozenset[str]
    max_fallbacks: int
    day: date
    expected_output_tokens: int | None = None


@record()
class Choice:
    """One deployment in the chain, and the price in force."""

    deployment: Deployment
    price: Price
    expected_cost_nusd: int


@record()
class RouteDecision:
    """`options` are the deployments that fit, best first; the first `most` that budgets carry are tried in order.

    `passed_over` says of each other candidate why not.
    """

    options: tuple[Choice, ...]
    most: int
    reason: Reason
    passed_over: tuple[tuple[str, str], ...]

    @property
    def chain(self) -> tuple[Choice, ...]:
        """What is tried where no budget stands in the way."""
        return self.options[: self.most]


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No candidate fits. `kind` is the first obstacle that stopped the last of them."""

    kind: Literal["rights", "capabilities", "context"]
    passed_over: tuple[tuple[str, str], ...]


def decide(facts: RoutingFacts) -> RouteDecision | NoRoute:
    """The chain: those good enough, cheapest first; then weaker ones, strongest first."""
    fitting: list[Deployment] = []
    passed_over: list[tuple[str, str]] = []
    for deployment in facts.candidates:
        obstacle = _obstacle(deployment, facts)
        if obstacle is None:
            fitting.append(deployment)
        else:
            passed_over.append((deployment.name, obstacle))
    if not fitting:
        return NoRoute(_kind(facts), tuple(passed_over))
    # With every circuit open, trying one anyway is better than refusing unheard.
    available = [deployment for deployment in fitting if deployment.name not in facts.unavailable] or fitting
    ranked = sorted([_choice(deployment, facts) for deployment in available], key=lambda choice: _order(choice, facts))
    most = facts.max_fallbacks + 1
    options = _among_the_first(ranked, max(most, MAX_OPTIONS))
    chosen = {choice.deployment.name for choice in options[:most]}
    for deployment in fitting:
        if deployment.name not in chosen:
            why = "circuit open" if deployment.name in facts.unavailable else "others come first"
            passed_over.append((deployment.name, why))
    return RouteDecision(options, most, _reason(options[0].deployment, facts), tuple(passed_over))


def _among_the_first(ranked: list[Choice], count: int) -> tuple[Choice, ...]:
    """The first `count`, and the cheapest of all among them: for budgets that can carry nothing else."""
    if len(ranked) <= count:
        return tuple(ranked)
    first = ranked[:count]
    cheapest = min(ranked, key=lambda choice: choice.expected_cost_nusd)
    return tuple(first if cheapest in first else [*first[:-1], cheapest])


def pin(deployment: Deployment, facts: RoutingFacts) -> RouteDecision | NoRoute:
    """The decision for an application that named its deployment: that one or none."""
    obstacle = _obstacle(deployment, facts)
    if obstacle is not None:
        return NoRoute(_kind(facts), ((deployment.name, obstacle),))
    return RouteDecision((_choice(deployment, facts),), 1, "pinned", ())


def within_budget(decision: RouteDecision, carried: tuple[int, ...]) -> RouteDecision:
    """The decision with a chain of those options, by their indices, that the budgets carry."""
    if carried == tuple(range(len(decision.options))):
        return decision
    chain = tuple([decision.options[index] for index in carried])
    if carried == tuple(range(decision.most)):
        return RouteDecision(chain, len(chain), decision.reason, decision.passed_over)
    names = {choice.deployment.name for choice in chain}
    dropped = [decision.options[index].deployment.name for index in range(carried[-1]) if index not in carried]
    passed_over = [pair for pair in decision.passed_over if pair[0] not in names and pair[0] not in dropped]
    reason: Reason = decision.reason if carried[0] == 0 else "budget"
    not_carried = [(name, "the budgets cannot carry it") for name in dropped]
    return RouteDecision(chain, len(chain), reason, (*passed_over, *not_carried))


def _obstacle(deployment: Deployment, facts: RoutingFacts) -> str | None:
    if facts.allowed is not None and deployment.name not in facts.allowed:
        return "the key may not use it"
    if not facts.needs <= deployment.capabilities:
        return f"lacks {', '.join(sorted(facts.needs - deployment.capabilities))}"
    # The answer shares the window: as much of it as was asked for, or at least a token.
    if facts.input_tokens + (facts.max_output_tokens or 1) > deployment.context_window:
        return f"context window of {deployment.context_window} tokens is too small"
    return None


def _kind(facts: RoutingFacts) -> Literal["rights", "capabilities", "context"]:
    allowed = [d for d in facts.candidates if facts.allowed is None or d.name in facts.allowed]
    if not allowed:
        return "rights"
    return "context" if any(facts.needs <= d.capabilities for d in allowed) else "capabilities"


def _choice(deployment: Deployment, facts: RoutingFacts) -> Choice:
    price = deployment.prices.at(facts.day)
    output_tokens = facts.expected_output_tokens or EXPECTED_OUTPUT_TOKENS
    if facts.max_output_tokens is not None and facts.max_output_tokens < output_tokens:
        output_tokens = facts.max_output_tokens
    return Choice(deployment, price, cost_of_tokens_nusd(facts.input_tokens, output_tokens, price))


def _order(choice: Choice, facts: RoutingFacts) -> tuple[int, int, str]:
    shortfall = max(_RANK[facts.tier] - _RANK[choice.deployment.tier], 0)
    return shortfall, choice.expected_cost_nusd, choice.deployment.name


def _reason(first: Deployment, facts: RoutingFacts) -> Reason:
    required, got = _RANK[facts.tier], _RANK[first.tier]
    if got == required:
        return facts.tier
    if got < required:
        return "degraded"
    # Stronger than required is an escalation only where one of the required tier was configured but did not fit.
    exact = [d for d in facts.candidates if d.tier == facts.tier]
    if exact and all(_obstacle(d, facts) or d.name in facts.unavailable for d in exact):
        return "escalated"
    return facts.tier
