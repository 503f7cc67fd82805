"""Whatever the candidates: the choice fits, is good enough where one is, and no dearer than it must be."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.base import TIERS, Tier
from policies.catalog import Capability, Deployment, Price, PriceSchedule
from policies.routing import MAX_OPTIONS, REASONS, NoRoute, RouteDecision, RoutingFacts, decide, pin, within_budget

DAY = date(2026, 11, 1)
RANK = {tier: rank for rank, tier in enumerate(TIERS)}


def deployment(name: str, tier: Tier = "simple", cost: int = 1, **changes: Any) -> Deployment:
    """`cost` is the price of a million tokens, in or out, in nano-USD."""
    values: dict[str, Any] = {
        "provider_name": "p",
        "model": name,
        "context_window": 8_192,
        "max_output_tokens": 4_096,
        "capabilities": frozenset(),
        "prices": PriceSchedule(name, (Price(date(2024, 1, 1), cost * 1_000_000, cost * 1_000_000),)),
    }
    return Deployment(name=name, tier=tier, **{**values, **changes})


def facts(*candidates: Deployment, **changes: Any) -> RoutingFacts:
    values: dict[str, Any] = {
        "tier": "simple",
        "needs": frozenset(),
        "input_tokens": 100,
        "max_output_tokens": None,
        "allowed": None,
        "unavailable": frozenset(),
        "max_fallbacks": 2,
        "day": DAY,
    }
    return RoutingFacts(candidates=candidates, **{**values, **changes})


def chain(decision: RouteDecision | NoRoute) -> list[str]:
    assert isinstance(decision, RouteDecision), decision
    return [choice.deployment.name for choice in decision.chain]


CAPABILITIES: st.SearchStrategy[frozenset[Capability]] = st.frozensets(st.sampled_from(["tools", "images"]))
NAMES = "abcdef"


@st.composite
def any_facts(draw: st.DrawFn) -> RoutingFacts:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    candidates = [
        deployment(
            name,
            draw(st.sampled_from(TIERS)),
            draw(st.integers(0, 50)),
            context_window=draw(st.sampled_from([50, 1_000, 100_000])),
            capabilities=draw(CAPABILITIES),
        )
        for name in names
    ]
    return facts(
        *candidates,
        tier=draw(st.sampled_from(TIERS)),
        needs=draw(CAPABILITIES),
        input_tokens=draw(st.sampled_from([1, 500, 5_000])),
        max_output_tokens=draw(st.none() | st.integers(1, 5_000)),
        allowed=draw(st.none() | st.frozensets(st.sampled_from(NAMES))),
        unavailable=draw(st.frozensets(st.sampled_from(NAMES))),
        max_fallbacks=draw(st.integers(0, 4)),
    )


def fits(candidate: Deployment, given_facts: RoutingFacts) -> bool:
    permitted = given_facts.allowed is None or candidate.name in given_facts.allowed
    return (
        permitted
        and given_facts.needs <= candidate.capabilities
        and given_facts.input_tokens + (given_facts.max_output_tokens or 1) <= candidate.context_window
    )


def usable(given_facts: RoutingFacts) -> list[Deployment]:
    """Those that fit and answer; with every circuit open, those that fit."""
    fitting = [candidate for candidate in given_facts.candidates if fits(candidate, given_facts)]
    return [candidate for candidate in fitting if candidate.name not in given_facts.unavailable] or fitting


@given(any_facts())
def test_every_choice_fits_and_one_is_made_whenever_one_does(some: RoutingFacts) -> None:
    decision = decide(some)
    assert isinstance(decision, RouteDecision) == bool(usable(some))
    if isinstance(decision, RouteDecision):
        assert all(choice.deployment in usable(some) for choice in decision.chain)


@given(any_facts())
def test_the_first_choice_is_the_cheapest_that_is_good_enough(some: RoutingFacts) -> None:
    decision = decide(some)
    if not isinstance(decision, RouteDecision):
        return
    first = decision.chain[0]
    adequate = [d for d in usable(some) if RANK[d.tier] >= RANK[some.tier]]
    if adequate:
        assert first.deployment in adequate
        prices = [d.prices.at(DAY).input_nusd_per_mtok for d in adequate]
        assert first.price.input_nusd_per_mtok == min(prices)
        assert decision.reason in ("escalated", some.tier)
    else:
        assert RANK[first.deployment.tier] == max(RANK[d.tier] for d in usable(some))
        assert decision.reason == "degraded"


@given(any_facts())
def test_the_chain_is_bounded_ordered_and_without_repeats(some: RoutingFacts) -> None:
    decision = decide(some)
    if isinstance(decision, RouteDecision):
        names = chain(decision)
        assert len(names) == len(set(names)) == min(len(usable(some)), some.max_fallbacks + 1)
        ranks = [min(RANK[choice.deployment.tier], RANK[some.tier]) for choice in decision.chain]
        assert ranks == sorted(ranks, reverse=True)


@given(any_facts())
def test_every_candidate_is_chosen_or_passed_over_with_a_reason(some: RoutingFacts) -> None:
    decision = decide(some)
    chosen = chain(decision) if isinstance(decision, RouteDecision) else []
    passed = [name for name, _ in decision.passed_over]
    assert sorted([*chosen, *passed]) == sorted(candidate.name for candidate in some.candidates)
    assert all(why for _, why in decision.passed_over)


@given(any_facts())
def test_the_order_of_the_configuration_does_not_matter(some: RoutingFacts) -> None:
    backwards = facts(
        *some.candidates[::-1],
        **{name: getattr(some, name) for name in RoutingFacts.__slots__ if name != "candidates"},
    )
    one, other = decide(some), decide(backwards)
    assert type(one) is type(other)
    if isinstance(one, RouteDecision) and isinstance(other, RouteDecision):
        assert (chain(one), one.reason) == (chain(other), other.reason)


# single cases

SMALL, MEDIUM, LARGE = deployment("s", "simple", 1), deployment("m", "moderate", 5), deployment("l", "complex", 60)
ALL = (SMALL, MEDIUM, LARGE)


@pytest.mark.parametrize(("tier", "expected"), [("simple", "sml"), ("moderate", "mls"), ("complex", "lms")])
def test_good_enough_and_cheapest_first_then_weaker_ones(tier: Tier, expected: str) -> None:
    decision = decide(facts(*ALL, tier=tier))
    assert chain(decision) == list(expected)
    assert isinstance(decision, RouteDecision)
    assert decision.reason == tier


def test_a_stronger_model_that_is_cheaper_is_no_escalation() -> None:
    decision = decide(facts(SMALL, deployment("bargain", "complex", 0)))
    assert isinstance(decision, RouteDecision)
    assert (chain(decision)[0], decision.reason) == ("bargain", "simple")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"needs": frozenset({"tools"})}, "lacks tools"),
        ({"input_tokens": 8_192}, "context window of 8192 tokens is too small"),
        ({"input_tokens": 8_000, "max_output_tokens": 193}, "context window of 8192 tokens is too small"),
        ({"allowed": frozenset({"l"})}, "the key may not use it"),
        ({"unavailable": frozenset({"s"})}, "circuit open"),
    ],
)
def test_where_the_required_tier_does_not_fit_a_stronger_one_does(changes: dict[str, Any], why: str) -> None:
    strong = deployment("l", "complex", 60, context_window=100_000, capabilities=frozenset({"tools"}))
    decision = decide(facts(SMALL, strong, **changes))
    assert isinstance(decision, RouteDecision)
    assert (chain(decision), decision.reason, decision.passed_over) == (["l"], "escalated", (("s", why),))


def test_with_every_circuit_open_the_best_is_tried_all_the_same() -> None:
    assert chain(decide(facts(*ALL, unavailable=frozenset("sml")))) == ["s", "m", "l"]


def test_a_lower_limit_on_the_answer_changes_what_is_cheapest() -> None:
    talker = deployment("talker", prices=PriceSchedule("t", (Price(DAY, 1_000_000, 90_000_000),)))
    reader = deployment("reader", prices=PriceSchedule("r", (Price(DAY, 2_000_000, 2_000_000),)))
    assert chain(decide(facts(talker, reader)))[0] == "reader"
    assert chain(decide(facts(talker, reader, max_output_tokens=1)))[0] == "talker"


def test_the_price_is_the_days() -> None:
    changing = PriceSchedule("c", (Price(date(2024, 1, 1), 9_000_000, 9_000_000), Price(DAY, 1, 1)))
    candidates = (deployment("c", prices=changing), deployment("d", cost=5))
    assert chain(decide(facts(*candidates, day=date(2026, 10, 31))))[0] == "d"
    assert chain(decide(facts(*candidates)))[0] == "c"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"allowed": frozenset()}, "rights"),
        ({"needs": frozenset({"images"})}, "capabilities"),
        ({"needs": frozenset({"images"}), "input_tokens": 10**6}, "capabilities"),
        ({"input_tokens": 10**6}, "context"),
    ],
)
def test_where_nothing_fits_the_obstacle_is_named(changes: dict[str, Any], kind: str) -> None:
    decision = decide(facts(*ALL, **changes))
    assert isinstance(decision, NoRoute)
    assert (decision.kind, len(decision.passed_over)) == (kind, 3)


def test_a_pinned_deployment_is_taken_or_nothing_is() -> None:
    decision = pin(LARGE, facts(LARGE, unavailable=frozenset("l")))
    assert isinstance(decision, RouteDecision)
    assert (chain(decision), decision.reason, decision.passed_over) == (["l"], "pinned", ())
    refused = pin(LARGE, facts(LARGE, input_tokens=10**6))
    assert isinstance(refused, NoRoute)
    assert refused.kind == "context"


@pytest.mark.parametrize(
    ("carried", "left", "reason", "dropped"),
    [
        ((0, 1, 2), "lms", "complex", ""),
        ((1, 2), "ms", "budget", "l"),
        ((0, 2), "ls", "complex", "m"),
        ((2,), "s", "budget", "lm"),
    ],
)
def test_what_the_budgets_cannot_carry_leaves_the_chain(
    carried: tuple[int, ...], left: str, reason: str, dropped: str
) -> None:
    decision = decide(facts(*ALL, tier="complex"))
    assert isinstance(decision, RouteDecision)
    narrowed = within_budget(decision, carried)
    assert (chain(narrowed), narrowed.reason) == (list(left), reason)
    assert narrowed.passed_over == tuple((name, "the budgets cannot carry it") for name in dropped)


def test_budgets_may_choose_among_all_that_fit_though_fewer_are_tried() -> None:
    decision = decide(facts(*ALL, tier="complex", max_fallbacks=0))
    assert isinstance(decision, RouteDecision)
    assert (chain(decision), [choice.deployment.name for choice in decision.options]) == (["l"], ["l", "m", "s"])
    assert dict(decision.passed_over) == {"m": "others come first", "s": "others come first"}
    narrowed = within_budget(decision, (2,))
    assert (chain(narrowed), narrowed.reason) == (["s"], "budget")
    assert dict(narrowed.passed_over) == dict.fromkeys("lm", "the budgets cannot carry it")
    untouched = within_budget(decision, (0,))
    assert (chain(untouched), untouched.reason, len(untouched.options)) == (["l"], "complex", 1)
    assert untouched.passed_over == decision.passed_over


def test_the_cheapest_is_among_the_options_however_many_there_are() -> None:
    many = [replace(LARGE, name=f"l{number:02d}") for number in range(MAX_OPTIONS + 5)]
    decision = decide(facts(*many, SMALL, tier="complex", max_fallbacks=1))
    assert isinstance(decision, RouteDecision)
    names = [choice.deployment.name for choice in decision.options]
    assert names == [f"l{number:02d}" for number in range(MAX_OPTIONS - 1)] + [SMALL.name]


def test_every_reason_is_explained() -> None:
    of_routing = {"pinned", *TIERS, "escalated", "degraded", "paced", "budget", "fallback", "observed"}
    assert of_routing | {"shadow", "cache", "refused"} == set(REASONS)


def priced(name: str, input_nusd: int, output_nusd: int) -> Deployment:
    return deployment(name, prices=PriceSchedule(name, (Price(date(2024, 1, 1), input_nusd, output_nusd),)))


def test_the_length_of_the_answer_decides_between_dear_input_and_dear_output() -> None:
    reader, writer = priced("dear to read", 5_000_000, 1_000_000), priced("dear to write", 1_000_000, 5_000_000)
    assert chain(decide(facts(reader, writer, expected_output_tokens=10))) == ["dear to write", "dear to read"]
    assert chain(decide(facts(reader, writer, expected_output_tokens=900))) == ["dear to read", "dear to write"]


@pytest.mark.parametrize(
    ("expected", "limit", "tokens"), [(None, None, 300), (40, None, 40), (900, 50, 50), (None, 50, 50)]
)
def test_an_answer_is_priced_at_its_expected_length_or_its_limit(
    expected: int | None, limit: int | None, tokens: int
) -> None:
    asked = facts(priced("a", 0, 1_000_000), expected_output_tokens=expected, max_output_tokens=limit)
    decision = decide(asked)
    assert isinstance(decision, RouteDecision)
    assert decision.chain[0].expected_cost_nusd == tokens
