"""Classify a request and decide where it may go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache

from classifiers.base import Classification, Classifier, OutputLength, Tier, tier_of
from classifiers.records import record
from policies.catalog import Deployment
from policies.pacing import raised
from policies.routing import Choice, NoRoute, RouteDecision, RoutingFacts, decide, pin
from router.errors import ContextLengthExceeded, InvalidRequest, ModelNotAllowed, ParsimonyError
from router.openai.requests import ChatRequest
from router.pipeline.models import Models, allowed_deployments
from router.stores.base import Principal
from router.tokenizers import estimate_tokens

BYTES_PER_TOKEN = 4
"""Of compact JSON: tools and their calls."""

IMAGE_TOKENS = 1_445
"""Of a large image at high detail: 85, and 170 for each of at most 8 tiles (OpenAI, guide to vision, GPT-4o)."""


@record()
class Decided:
    """`classification` and `tier` are None for a pinned deployment, which nobody judges.

    `quality` is the quality target and the threshold that keeps it, where the alias has one. `price` is what
    paced budgets add to the bar for larger models, in [0, 1]. `observed` is where routing would have sent it, where
    that is only observed.
    """

    decision: RouteDecision
    classification: Classification | None
    tier: Tier | None
    day: date
    quality: tuple[float, float] | None = None
    price: float = 0.0
    observed: Choice | None = None


class Decider:
    def __init__(self, models: Models, classifier: Classifier, unavailable: Callable[[], frozenset[str]]) -> None:
        self._models = models
        self._classifier = classifier
        self._unavailable = unavailable

    def decide(self, principal: Principal, request: ChatRequest, now_s: float, price: float = 0.0) -> Decided:
        """`price` is the shadow price of the paced budgets.

        Raises ModelNotFound, ModelNotAllowed, ContextLengthExceeded or InvalidRequest.
        """
        model = self._models.resolve(request.model)
        allowed = allowed_deployments(principal, model)
        day = _day(int(now_s) // 86_400)
        if isinstance(model, Deployment):
            facts = self._facts(request, (model,), model.tier, None, allowed, 0, day)
            return Decided(_routed(pin(model, facts), request), None, None, day)
        classification = self._classifier.classify(request.prompt)
        tier = tier_of(classification.score, raised(model.moderate_from, price), raised(model.complex_from, price))
        length = classification.output_length
        facts = self._facts(request, model.candidates, tier, length, allowed, model.max_fallbacks, day)
        quality = None if model.quality_target is None else (model.quality_target, model.complex_from)
        routed = decide(facts)
        if model.answered_by is not None:
            decision = _observed(model.answered_by, facts, request)
            choice = routed.options[0] if isinstance(routed, RouteDecision) else None
            return Decided(decision, classification, tier, day, quality, price, choice)
        decision = _routed(routed, request)
        if price and decision.reason == tier != tier_of(classification.score, model.moderate_from, model.complex_from):
            decision = replace(decision, reason="paced")
        return Decided(decision, classification, tier, day, quality, price)

    def _facts(
        self,
        request: ChatRequest,
        candidates: tuple[Deployment, ...],
        tier: Tier,
        length: OutputLength | None,
        allowed: frozenset[str] | None,
        max_fallbacks: int,
        day: date,
    ) -> RoutingFacts:
        return RoutingFacts(
            candidates=candidates,
            tier=tier,
            needs=request.needs,
            input_tokens=input_tokens_estimate(request),
            max_output_tokens=request.max_output_tokens,
            allowed=allowed,
            unavailable=self._unavailable(),
            max_fallbacks=max_fallbacks,
            day=day,
            expected_output_tokens=None if length is None else length.expected_tokens,
        )


@lru_cache(maxsize=2)
def _day(days: int) -> date:
    """The date so many days after 1970-01-01, UTC."""
    return date(1970, 1, 1) + timedelta(days)


def input_tokens_estimate(request: ChatRequest) -> int:
    """About as many as the prompt holds: enough to compare prices and windows, too little to bill."""
    text_tokens = sum([estimate_tokens(message.text) for message in request.prompt.messages])
    return text_tokens + request.structure_bytes // BYTES_PER_TOKEN + request.image_count * IMAGE_TOKENS


def _observed(baseline: Deployment, facts: RoutingFacts, request: ChatRequest) -> RouteDecision:
    """Everything goes to the baseline, and to nobody else: as it does before there is any routing."""
    pinned = pin(baseline, replace(facts, candidates=(baseline,)))
    return replace(_routed(pinned, request), reason="observed")


def _routed(decision: RouteDecision | NoRoute, request: ChatRequest) -> RouteDecision:
    if isinstance(decision, NoRoute):
        raise _explained(decision, request)
    return decision


def _explained(no_route: NoRoute, request: ChatRequest) -> ParsimonyError:
    why = "; ".join(f"{name}: {obstacle}" for name, obstacle in no_route.passed_over)
    if no_route.kind == "rights":
        return ModelNotAllowed(f"This key may use none of the models behind {request.model!r}.", param="model")
    if no_route.kind == "capabilities":
        return InvalidRequest(f"No model behind {request.model!r} can take this request ({why}).", param="model")
    tokens = input_tokens_estimate(request)
    return ContextLengthExceeded(
        f"The prompt has about {tokens} tokens, too long for every model behind {request.model!r} ({why}).",
        param="messages",
    )
