"""How many tokens a request and its answer took: as reported, where that can be; else by our own count. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from policies.baseline import Baseline
from policies.catalog import Deployment
from policies.routing import Choice
from policies.spend import UsageSource
from policies.usage import TokenUsage, disagree
from router.openai.requests import ChatRequest
from router.openai.responses import AnswerFacts
from router.tokenizers import TokenCounter

CHECKED_EVERY = 16
"""One in so many reports is checked where that takes a count of its own: 70 microseconds for a kilobyte, as much as
half of the rest of a request."""
CHECKED_BYTES = 65_536
"""Of request and answer; longer ones are not checked."""
_INCOMPARABLE = frozenset(
    {"audio", "function_call", "functions", "modalities", "prediction", "response_format", "tool_choice", "tools"}
)
"""Fields of requests that take, or make answers of, tokens that are in no text that we see."""


class TokenCounting:
    """Counts with each deployment's own tokenizer, where that is at hand."""

    def __init__(self, baseline: Baseline, counters: Mapping[str | None, TokenCounter]) -> None:
        self.counters = counters
        self._baseline = baseline
        self._baseline_counter = counters[baseline.tokenizer]
        self._answers: Counter[str] = Counter()

    def usage(
        self, request: ChatRequest, choice: Choice, answer: AnswerFacts, longest: int
    ) -> tuple[TokenUsage, UsageSource]:
        """As reported, where that can be the whole of it; our own count is never more than `longest`.

        A budget must not believe that a text took no tokens; and of a stream that broke off, what was
        reported on the way is not the end. Then the larger count is booked.
        """
        reported = answer.usage
        ended = answer.finish_reasons and reported is not None and reported.output_tokens
        if reported is not None and reported.input_tokens and (ended or not answer.output_text):
            return reported, "provider"
        input_tokens, output_tokens = self.of_deployment(request, answer.output_text, choice.deployment)
        counted = TokenUsage(input_tokens, min(output_tokens, longest))
        if reported is None:
            return counted, "counted"
        usage = replace(
            reported,
            input_tokens=reported.input_tokens or counted.input_tokens,
            output_tokens=max(reported.output_tokens, counted.output_tokens),
        )
        return usage, "provider" if usage == reported else "counted"

    def of_deployment(self, request: ChatRequest, output_text: str, deployment: Deployment) -> tuple[int, int]:
        """Input and output, as the deployment's provider would bill them."""
        return self.input_tokens(request, deployment), self._counter_of(deployment).count_text(output_text)

    def of_baseline(self, request: ChatRequest, output_text: str) -> tuple[int, int]:
        """Input and output with the baseline's tokenizer and the overhead of its chat template."""
        counter = self._baseline_counter
        return _input_tokens(counter, request), counter.count_text(output_text)

    def input_tokens(self, request: ChatRequest, deployment: Deployment) -> int:
        """Never more than the deployment could have billed."""
        counted = _input_tokens(self._counter_of(deployment), request, deployment.image_tokens)
        return min(counted, deployment.context_window)

    def _counter_of(self, deployment: Deployment) -> TokenCounter:
        # Where a model's own tokenizer is not at hand, the baseline's is nearer the truth than an estimate.
        return self.counters.get(deployment.tokenizer) or self._baseline_counter

    def disagreeing(self, request: ChatRequest, choice: Choice, answer: AnswerFacts) -> TokenUsage | None:
        """Our own count of what a provider reported otherwise; None where they agree, or are not compared."""
        deployment = choice.deployment
        if answer.usage is None or deployment.tokenizer is None or not answer.finish_reasons:
            return None
        counter = self.counters[deployment.tokenizer]
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


def _input_tokens(counter: TokenCounter, request: ChatRequest, image_tokens: int | None = None) -> int:
    return counter.count_messages(request.messages, request.body.get("tools"), image_tokens=image_tokens)
