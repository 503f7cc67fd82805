"""What a request came to: its usage, its cost, its counterfactual, its record. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import date
from functools import cache
from typing import Any

import orjson

from classifiers.base import Classification, Tier
from classifiers.records import record
from policies.baseline import Baseline, Counterfactual, counterfactual
from policies.catalog import Deployment
from policies.pricing import cost_nusd, cost_of_tokens_nusd
from policies.routing import Choice, Reason, RouteDecision
from policies.spend import SpendRecord, Status, UsageSource
from policies.usage import NO_USAGE, TokenUsage, disagree
from router.openai.requests import ChatRequest
from router.openai.responses import AnswerFacts
from router.pipeline.cached import CachedAnswer
from router.pipeline.dispatch import Attempt
from router.pipeline.reply import Headers
from router.stores.admission import Option
from router.stores.base import Principal
from router.tokenizers import TokenCounter

NOTHING_FORGONE = Counterfactual(input_tokens=0, output_tokens=0, cost_nusd=0, basis="no answer")

CHECKED_EVERY = 16
"""One in so many reports is checked where that takes a count of its own: 70 microseconds for a kilobyte, as much as
half of the rest of a request."""
CHECKED_BYTES = 65_536
"""Of request and answer; longer ones are not checked."""
_INCOMPARABLE = frozenset(
    {"audio", "function_call", "functions", "modalities", "prediction", "response_format", "tool_choice", "tools"}
)
"""Fields of requests that take, or make answers of, tokens that are in no text that we see."""


@record()
class Accepted:
    """A request that passed the door, and what was decided for it."""

    request_id: str
    started_s: float
    """On the monotonic clock; `started_at_ms` is the same moment in Unix time."""
    started_at_ms: int
    principal: Principal
    request: ChatRequest
    classification: Classification | None
    tier: Tier | None
    decision: RouteDecision
    options: tuple[Option, ...]
    """What each option of the decision can take at most, in their order."""
    cacheable: bool
    day: date
    quality: tuple[float, float] | None = None
    """The alias's quality target and the threshold that keeps it."""
    shadow_price: float = 0.0
    """Of the paced budgets: how much of the way to certainty the bar for larger models was raised."""
    caps: Mapping[str, int] = field(default_factory=dict)
    """How long the answers of deployments may be, in tokens, where they are told so."""
    rate_limits: Headers = ()
    """What is left of them, as headers."""
    end_user: str = ""
    """The request's `user`, where the key is trusted to name one."""
    tags: tuple[str, ...] = ()
    """The key's own, and what a trusted key added."""


@record()
class BilledAttempt:
    """An attempt that came to nothing, but whose prompt its provider may bill."""

    deployment: str
    input_tokens: int
    cost_nusd: int


@record()
class Charge:
    """What the provider's answer cost, and what the baseline's would have.

    `cost_nusd` is that of the answer's `usage` and of the attempts before it that may be `billed`. `counted` is our
    own count, where the provider's report is beyond what it explains.
    """

    usage: TokenUsage
    usage_source: UsageSource
    cost_nusd: int
    baseline: Counterfactual
    billed: tuple[BilledAttempt, ...] = ()
    counted: TokenUsage | None = None

    @property
    def input_tokens(self) -> int:
        return self.usage.input_tokens + sum([attempt.input_tokens for attempt in self.billed])


@record()
class Outcome:
    """How it ended. `choice` is None where no provider answered."""

    status: Status
    reason: Reason
    cache_hit: bool = False
    choice: Choice | None = None
    charge: Charge | None = None
    answer: AnswerFacts | None = None
    attempts: tuple[Attempt, ...] = ()
    error_code: str | None = None
    first_token_s: float | None = None
    """When the first bytes of the answer came, on the monotonic clock."""


class Accountant:
    """Counts tokens where the provider did not, or what it says cannot be, and prices both sides."""

    def __init__(self, baseline: Baseline, counters: dict[str | None, TokenCounter]) -> None:
        self._baseline = baseline
        self._counters = counters
        self._baseline_counter = counters[baseline.tokenizer]
        self._answers: Counter[str] = Counter()

    @property
    def counters(self) -> Mapping[str | None, TokenCounter]:
        """By the name of the tokenizer."""
        return self._counters

    def charge(
        self, accepted: Accepted, choice: Choice, answer: AnswerFacts, attempts: Sequence[Attempt] = ()
    ) -> Charge:
        """The cost of an answer, whole or as far as it came, and of the `attempts` before it."""
        usage, usage_source = self._usage(accepted, choice, answer)
        billed = self._billed(accepted, attempts)
        return Charge(
            usage=usage,
            usage_source=usage_source,
            cost_nusd=cost_nusd(usage, choice.price) + sum([attempt.cost_nusd for attempt in billed]),
            baseline=self._counterfactual(accepted, choice, answer.output_text, usage),
            billed=billed,
            counted=self._disagreeing(accepted, choice, answer),
        )

    def charge_unanswered(self, accepted: Accepted, attempts: Sequence[Attempt]) -> tuple[Choice, Charge] | None:
        """The cost of a call that no answer came of, booked where it was sent last; None where nothing is billed."""
        billed = self._billed(accepted, attempts)
        if not billed:
            return None
        choice = _choice_of(accepted, billed[-1].deployment)
        cost = sum([attempt.cost_nusd for attempt in billed])
        return choice, Charge(NO_USAGE, "counted", cost, NOTHING_FORGONE, billed)

    def _usage(self, accepted: Accepted, choice: Choice, answer: AnswerFacts) -> tuple[TokenUsage, UsageSource]:
        """As reported, where that can be the whole of it.

        A budget must not believe that a text took no tokens; and of a stream that broke off, what was
        reported on the way is not the end. Then the larger count is booked.
        """
        reported = answer.usage
        ended = answer.finish_reasons and reported is not None and reported.output_tokens
        if reported is not None and reported.input_tokens and (ended or not answer.output_text):
            return reported, "provider"
        counted = self._counted(accepted, choice, answer.output_text)
        if reported is None:
            return counted, "counted"
        usage = replace(
            reported,
            input_tokens=reported.input_tokens or counted.input_tokens,
            output_tokens=max(reported.output_tokens, counted.output_tokens),
        )
        return usage, "provider" if usage == reported else "counted"

    def _counted(self, accepted: Accepted, choice: Choice, output_text: str) -> TokenUsage:
        """Our own count, which is never more than the deployment could have billed."""
        # Where a model's own tokenizer is not at hand, the baseline's is nearer the truth than an estimate.
        counter = self._counters.get(choice.deployment.tokenizer) or self._baseline_counter
        option = accepted.options[accepted.decision.options.index(choice)]
        longest = accepted.caps.get(option.deployment, option.longest) * option.tokens_per_token
        return TokenUsage(
            self._counted_input(accepted.request, choice.deployment), min(counter.count_text(output_text), longest)
        )

    def _counted_input(self, request: ChatRequest, deployment: Deployment) -> int:
        counter = self._counters.get(deployment.tokenizer) or self._baseline_counter
        return min(_input_tokens(counter, request, deployment.image_tokens), deployment.context_window)

    def _billed(self, accepted: Accepted, attempts: Sequence[Attempt]) -> tuple[BilledAttempt, ...]:
        billed = []
        for attempt in attempts:
            if attempt.billed:
                choice = _choice_of(accepted, attempt.deployment)
                input_tokens = self._counted_input(accepted.request, choice.deployment)
                cost = cost_of_tokens_nusd(input_tokens, 0, choice.price)
                billed.append(BilledAttempt(attempt.deployment, input_tokens, cost))
        return tuple(billed)

    def _disagreeing(self, accepted: Accepted, choice: Choice, answer: AnswerFacts) -> TokenUsage | None:
        """Our own count of what a provider reported otherwise; None where they agree, or are not compared."""
        deployment, request = choice.deployment, accepted.request
        if answer.usage is None or deployment.tokenizer is None or not answer.finish_reasons:
            return None
        counter = self._counters[deployment.tokenizer]
        if request.image_count or request.size_bytes + len(answer.output_text) > CHECKED_BYTES:
            return None
        if not _INCOMPARABLE.isdisjoint(request.body):
            return None
        number = self._answers[deployment.name]
        self._answers[deployment.name] = number + 1
        # The counterfactual has counted them already, with the same tokenizer, or every few are enough.
        already = counter is self._baseline_counter and deployment.prices.model != self._baseline.model
        if number % CHECKED_EVERY and not already:
            return None
        counted = TokenUsage(_input_tokens(counter, request), counter.count_text(answer.output_text))
        return counted if disagree(answer.usage, counted) else None

    def _counterfactual(
        self, accepted: Accepted, choice: Choice, output_text: str, usage: TokenUsage
    ) -> Counterfactual:
        if choice.deployment.prices.model == self._baseline.model:
            input_tokens, output_tokens = usage.input_tokens, usage.output_tokens
        else:
            counter = self._baseline_counter
            input_tokens, output_tokens = _input_tokens(counter, accepted.request), counter.count_text(output_text)
        return counterfactual(self._baseline, input_tokens, output_tokens, accepted.day)

    def provisional(self, accepted: Accepted) -> dict[str, Any]:
        """What is known before dispatch: the record of a request whose end nobody will have seen.

        The janitor takes from `options` the one that was chosen.
        """
        classification = accepted.classification
        return {
            "request_id": accepted.request_id,
            "started_at_ms": accepted.started_at_ms,
            "duration_ms": 0,
            "team_id": accepted.principal.team_id,
            "key_id": accepted.principal.key_id,
            "project_id": accepted.principal.project_id,
            "end_user": accepted.end_user,
            "tags": _joined(accepted.tags),
            "alias": accepted.request.model,
            "options": [_named(choice.deployment) for choice in accepted.decision.options],
            "reason": accepted.decision.reason,
            "tier": accepted.tier,
            "score": classification.score if classification else None,
            "classifier": classification.classifier if classification else None,
            "status": "abandoned",
            "stream": accepted.request.stream,
            "baseline_model": self._baseline.model,
        }

    def record(self, accepted: Accepted, outcome: Outcome, *, now_s: float, reserved_nusd: int = 0) -> SpendRecord:
        choice, charge, answer = outcome.choice, outcome.charge, outcome.answer
        usage = charge.usage if charge else NO_USAGE
        forgone = charge.baseline if charge else NOTHING_FORGONE
        deployment = choice.deployment if choice else None
        classification = accepted.classification
        return SpendRecord(
            request_id=accepted.request_id,
            started_at_ms=accepted.started_at_ms,
            duration_ms=_ms(now_s - accepted.started_s),
            first_token_ms=None if outcome.first_token_s is None else _ms(outcome.first_token_s - accepted.started_s),
            team_id=accepted.principal.team_id,
            key_id=accepted.principal.key_id,
            project_id=accepted.principal.project_id,
            end_user=accepted.end_user,
            tags=_joined(accepted.tags),
            alias=accepted.request.model,
            deployment=deployment.name if deployment else None,
            deployment_tier=deployment.tier if deployment else None,
            provider_name=deployment.provider_name if deployment else None,
            request_model=deployment.model if deployment else None,
            response_model=answer.response_model if answer else None,
            reason=outcome.reason,
            tier=accepted.tier,
            score=classification.score if classification else None,
            classifier=classification.classifier if classification else None,
            status=outcome.status,
            error_code=outcome.error_code,
            cache="hit" if outcome.cache_hit else "miss" if accepted.cacheable else "off",
            stream=accepted.request.stream,
            attempts=len(outcome.attempts),
            finish_reasons=answer.finish_reasons if answer else "",
            input_tokens=charge.input_tokens if charge else 0,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            usage_source=charge.usage_source if charge else "none",
            cost_nusd=charge.cost_nusd if charge else 0,
            reserved_nusd=reserved_nusd,
            price_effective_from=choice.price.effective_from.isoformat() if choice and charge else None,
            baseline_model=self._baseline.model,
            baseline_input_tokens=forgone.input_tokens,
            baseline_output_tokens=forgone.output_tokens,
            baseline_cost_nusd=forgone.cost_nusd,
            simulated=bool(deployment and deployment.simulated),
            detail=_detail(accepted, outcome),
        )

    def hit_record(self, accepted: Accepted, cached: CachedAnswer, *, now_s: float) -> SpendRecord:
        """A repeat: no cost, the counterfactual of the answer it repeats, the tokens it was spared."""
        return replace(
            self.record(accepted, Outcome("ok", "cache", cache_hit=True), now_s=now_s),
            deployment=cached.deployment,
            response_model=cached.response_model,
            finish_reasons=cached.finish_reasons,
            input_tokens=cached.input_tokens,
            output_tokens=cached.output_tokens,
            usage_source="cache",
            baseline_input_tokens=cached.baseline_input_tokens,
            baseline_output_tokens=cached.baseline_output_tokens,
            baseline_cost_nusd=cached.baseline_cost_nusd,
            simulated=cached.simulated,
        )


@cache
def _named(deployment: Deployment) -> orjson.Fragment:
    """A deployment as the fields of a record, for whoever learns only later which one was chosen."""
    return orjson.Fragment(
        orjson.dumps(
            {
                "deployment": deployment.name,
                "deployment_tier": deployment.tier,
                "provider_name": deployment.provider_name,
                "request_model": deployment.model,
                "simulated": deployment.simulated,
            }
        )
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _joined(tags: tuple[str, ...]) -> str:
    """As `SpendRecord.tags` has them: between commas."""
    return f",{','.join(tags)}," if tags else ""


def _choice_of(accepted: Accepted, deployment_name: str) -> Choice:
    (choice,) = [choice for choice in accepted.decision.chain if choice.deployment.name == deployment_name]
    return choice


def _input_tokens(counter: TokenCounter, request: ChatRequest, image_tokens: int | None = None) -> int:
    return counter.count_messages(request.messages, request.body.get("tools"), image_tokens=image_tokens)


def _detail(accepted: Accepted, outcome: Outcome) -> dict[str, Any]:
    """What `parsimony explain` tells beyond the columns."""
    detail: dict[str, Any] = {
        "chain": [
            [
                choice.deployment.name,
                choice.expected_cost_nusd,
                option.base_nusd + option.nusd_per_token * option.longest,
            ]
            for choice, option in zip(accepted.decision.options, accepted.options, strict=True)
        ]
    }
    if accepted.decision.passed_over:
        detail["passed_over"] = accepted.decision.passed_over
    if accepted.classification is not None:
        detail["signals"] = accepted.classification.signals
    if accepted.quality is not None:
        detail["quality_target"], detail["threshold"] = accepted.quality
    if accepted.shadow_price:
        detail["shadow_price"] = accepted.shadow_price
    if accepted.caps:
        detail["max_tokens"] = dict(accepted.caps)
    if len(outcome.attempts) > 1 or outcome.status == "error":
        detail["attempts"] = [attempt.to_json() for attempt in outcome.attempts]
    if outcome.charge is not None:
        detail |= _reckoned(outcome.charge, outcome.answer)
    return detail


def _reckoned(charge: Charge, answer: AnswerFacts | None) -> dict[str, Any]:
    """Attempts that were charged though they failed, and a report that our count does not bear out."""
    found: dict[str, Any] = {}
    if charge.billed:
        found["billed_attempts"] = [[a.deployment, a.input_tokens, a.cost_nusd] for a in charge.billed]
    if charge.counted is not None and answer is not None and answer.usage is not None:
        reported, counted = answer.usage, charge.counted
        found["usage_check"] = {
            "reported": [reported.input_tokens, reported.output_tokens],
            "counted": [counted.input_tokens, counted.output_tokens],
        }
    return found
