"""What a request came to: its usage, its cost, its counterfactual, its record. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import orjson

from policies.baseline import Baseline
from policies.catalog import Deployment, Price
from policies.pricing import cost_nusd, cost_of_tokens_nusd, prompt_cache_discount_nusd
from policies.repricing import kept_usage
from policies.routing import Choice
from policies.spend import SpendRecord
from policies.usage import NO_USAGE, TokenUsage
from router.openai.responses import AnswerFacts
from router.pipeline.cached import CachedAnswer
from router.pipeline.counting import TokenCounting
from router.pipeline.dispatch import Attempt
from router.pipeline.facts import NOTHING_FORGONE, Accepted, BilledAttempt, Charge, Forgone, Measured, Outcome
from router.tokenizers import TokenCounter


class Accountant:
    """Counts tokens where the provider did not, or what it says cannot be, and prices both sides."""

    def __init__(self, baseline: Baseline, counters: Mapping[str | None, TokenCounter]) -> None:
        self._baseline = baseline
        self._counting = TokenCounting(baseline, counters)

    @property
    def counters(self) -> Mapping[str | None, TokenCounter]:
        """By the name of the tokenizer."""
        return self._counting.counters

    def charge(
        self, accepted: Accepted, choice: Choice, answer: AnswerFacts, attempts: Sequence[Attempt] = ()
    ) -> Charge:
        """The cost of an answer, whole or as far as it came, and of the `attempts` before it."""
        request, longest = accepted.request, _longest(accepted, choice)
        usage, usage_source = self._counting.usage(request, choice, answer, longest)
        billed = self._billed(accepted, attempts)
        return Charge(
            usage=usage,
            usage_source=usage_source,
            cost_nusd=cost_nusd(usage, choice.price) + sum([attempt.cost_nusd for attempt in billed]),
            baseline=self._counterfactual(accepted, choice, answer, usage),
            billed=billed,
            counted=self._counting.disagreeing(request, choice, answer),
            prompt_cache_nusd=_prompt_cache_nusd(accepted, usage, choice.price),
            observed_cost_nusd=self._observed_nusd(accepted, answer.output_text),
        )

    def charge_unanswered(self, accepted: Accepted, attempts: Sequence[Attempt]) -> tuple[Choice, Charge] | None:
        """The cost of a call that no answer came of, booked where it was sent last; None where nothing is billed."""
        billed = self._billed(accepted, attempts)
        if not billed:
            return None
        choice = _choice_of(accepted, billed[-1].deployment)
        cost = sum([attempt.cost_nusd for attempt in billed])
        return choice, Charge(NO_USAGE, "counted", cost, NOTHING_FORGONE, billed)

    def _billed(self, accepted: Accepted, attempts: Sequence[Attempt]) -> tuple[BilledAttempt, ...]:
        billed = []
        for attempt in attempts:
            if attempt.billed:
                choice = _choice_of(accepted, attempt.deployment)
                input_tokens = self._counting.input_tokens(accepted.request, choice.deployment)
                cost = cost_of_tokens_nusd(input_tokens, 0, choice.price)
                billed.append(BilledAttempt(attempt.deployment, input_tokens, cost))
        return tuple(billed)

    def _counterfactual(self, accepted: Accepted, choice: Choice, answer: AnswerFacts, usage: TokenUsage) -> Forgone:
        """Known where the baseline's own model answered; nothing where that is to be measured.

        An answer that broke off, or was left, would have been as short on the baseline.
        """
        if accepted.measures is not None:
            return NOTHING_FORGONE
        price = self._baseline.prices.at(accepted.day)
        if choice.deployment.prices.model == self._baseline.model:
            return _forgone(usage, price, usage.output_tokens)
        request, lengths = accepted.request, self._baseline.lengths
        input_tokens, written_tokens = self._counting.of_baseline(request, answer.output_text)
        output_tokens, limit, estimator = written_tokens, None, None
        if answer.finish_reasons:
            small, choices = choice.deployment.prices.model, request.choices
            output_tokens = lengths.expected_tokens(small, self._baseline.model, written_tokens, choices=choices)
            estimator = lengths.version
            if request.max_output_tokens is not None and request.max_output_tokens * choices < output_tokens:
                output_tokens = limit = request.max_output_tokens * choices
        # What the small model's provider had seen before, the baseline's would have, too.
        cached_tokens = usage.cached_input_tokens * input_tokens // max(usage.input_tokens, 1)
        return _forgone(TokenUsage(input_tokens, output_tokens, cached_tokens), price, written_tokens, estimator, limit)

    def _observed_nusd(self, accepted: Accepted, output_text: str) -> int:
        if accepted.observed is None:
            return 0
        tokens = self._counting.of_deployment(accepted.request, output_text, accepted.observed.deployment)
        return cost_of_tokens_nusd(*tokens, accepted.observed.price)

    def provisional(self, accepted: Accepted) -> dict[str, Any]:
        """What is known before dispatch: the record of a request whose end nobody will have seen.

        The janitor takes from `options` the one that was chosen.
        """
        classification = accepted.classification
        return {
            "request_id": accepted.request_id,
            **_measured(accepted),
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
            "task": classification.task if classification else None,
            "observed_deployment": accepted.observed.deployment.name if accepted.observed else None,
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
        measures = accepted.measures
        return SpendRecord(
            request_id=accepted.request_id,
            kind="shadow" if measures else "request",
            parent_id=measures.request_id if measures else None,
            sample_share=measures.share if measures else None,
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
            task=classification.task if classification else None,
            observed_deployment=accepted.observed.deployment.name if accepted.observed else None,
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
            retries_nusd=charge.retries_nusd if charge else 0,
            prompt_cache_nusd=charge.prompt_cache_nusd - forgone.prompt_cache_nusd if charge else 0,
            observed_cost_nusd=charge.observed_cost_nusd if charge else 0,
            reserved_nusd=reserved_nusd,
            price_effective_from=choice.price.effective_from.isoformat() if choice and charge else None,
            baseline_model=self._baseline.model,
            baseline_price_effective_from=forgone.price_effective_from,
            estimator=forgone.estimator,
            recounted_output_tokens=forgone.recounted_output_tokens,
            baseline_input_tokens=forgone.input_tokens,
            baseline_output_tokens=forgone.output_tokens,
            baseline_cost_nusd=forgone.cost_nusd,
            simulated=bool(deployment and deployment.simulated),
            detail=_detail(accepted, outcome),
        )

    def hit_record(self, accepted: Accepted, cached: CachedAnswer, *, now_s: float) -> SpendRecord:
        """A repeat: no cost, the counterfactual of the answer it repeats, the tokens it was spared."""
        record = self.record(accepted, Outcome("ok", "cache", cache_hit=True), now_s=now_s)
        if cached.baseline_cached_input_tokens:
            record.detail["baseline_cached_input_tokens"] = cached.baseline_cached_input_tokens
        if cached.baseline_cache_write_input_tokens:
            record.detail["baseline_cache_write_input_tokens"] = cached.baseline_cache_write_input_tokens
        return replace(
            record,
            deployment=cached.deployment,
            response_model=cached.response_model,
            finish_reasons=cached.finish_reasons,
            input_tokens=cached.input_tokens,
            output_tokens=cached.output_tokens,
            usage_source="cache",
            baseline_price_effective_from=cached.baseline_price_effective_from,
            estimator=cached.estimator,
            recounted_output_tokens=cached.recounted_output_tokens,
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


def _longest(accepted: Accepted, choice: Choice) -> int:
    """How many tokens of output the deployment could have billed."""
    option = accepted.options[accepted.decision.options.index(choice)]
    return accepted.caps.get(option.deployment, option.longest) * option.tokens_per_token


def _forgone(
    usage: TokenUsage, price: Price, recounted_tokens: int, estimator: str | None = None, limit: int | None = None
) -> Forgone:
    return Forgone(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        recounted_output_tokens=recounted_tokens,
        cost_nusd=cost_nusd(usage, price),
        prompt_cache_nusd=prompt_cache_discount_nusd(usage, price),
        price_effective_from=price.effective_from.isoformat(),
        estimator=estimator,
        limit=limit,
    )


def _prompt_cache_nusd(accepted: Accepted, usage: TokenUsage, price: Price) -> int:
    measured = accepted.measures.usage if accepted.measures is not None else NO_USAGE
    return prompt_cache_discount_nusd(usage, price) - prompt_cache_discount_nusd(measured, price)


def _measured(accepted: Accepted) -> dict[str, Any]:
    """What a shadow's record says of the request that it measures."""
    measures = accepted.measures
    if measures is None:
        return {}
    return {"kind": "shadow", "parent_id": measures.request_id, "sample_share": measures.share}


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
    if outcome.refused_by is not None:
        detail["refused_by"] = dict(outcome.refused_by)
    if accepted.measures is not None:
        detail |= _of_measured(accepted.measures)
    if accepted.request.choices > 1:
        detail["choices"] = accepted.request.choices
    if outcome.charge is not None:
        detail |= _reckoned(outcome.charge, outcome.answer)
    return detail


def _of_measured(measures: Measured) -> dict[str, Any]:
    """What repricing must know of a shadow's request: who served it, and what of its counterfactual was discounted."""
    usage, found = measures.usage, {"measured_deployment": measures.deployment}
    kept = kept_usage(
        usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_input_tokens
    )
    return found if kept is None else {**found, "measured_usage": kept}


def _reckoned(charge: Charge, answer: AnswerFacts | None) -> dict[str, Any]:
    """What the amounts rest on beyond the columns: what of the prompt went into the provider's cache, and what the
    baseline's would have had there; attempts that were charged though they failed; a report that our count does not
    bear out."""
    found: dict[str, Any] = {}
    if charge.usage.cache_write_input_tokens:
        found["cache_write_input_tokens"] = charge.usage.cache_write_input_tokens
    if charge.baseline.limit is not None:
        found["baseline_output_limit"] = charge.baseline.limit
    if charge.baseline.cached_input_tokens:
        found["baseline_cached_input_tokens"] = charge.baseline.cached_input_tokens
    if charge.baseline.cache_write_input_tokens:
        found["baseline_cache_write_input_tokens"] = charge.baseline.cache_write_input_tokens
    if charge.billed:
        found["billed_attempts"] = [[a.deployment, a.input_tokens, a.cost_nusd] for a in charge.billed]
    if charge.counted is not None and answer is not None and answer.usage is not None:
        reported, counted = answer.usage, charge.counted
        found["usage_check"] = {
            "reported": [reported.input_tokens, reported.output_tokens],
            "counted": [counted.input_tokens, counted.output_tokens],
        }
    return found
