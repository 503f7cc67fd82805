"""What is known of a request: as it was accepted, what it came to, how it ended. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import date

from classifiers.base import Classification, Tier
from classifiers.records import record
from policies.routing import Choice, Reason, RouteDecision
from policies.spend import Status, UsageSource
from policies.usage import TokenUsage
from router.openai.requests import ChatRequest
from router.openai.responses import AnswerFacts
from router.pipeline.dispatch import Attempt
from router.pipeline.reply import Headers
from router.stores.admission import Option
from router.stores.base import Principal


@record()
class Measured:
    """The request that a shadow measures, one in 1 / `share` of its kind."""

    request_id: str
    share: float
    deployment: str
    """That served it."""
    usage: TokenUsage
    """Of its counterfactual: what the baseline's prompt cache is taken to have had off that, is off the measured cost,
    too."""


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
    observed: Choice | None = None
    """Where routing would have sent it, had its alias not been in `observe` mode."""
    measures: Measured | None = None
    """Of a shadow."""


@record()
class BilledAttempt:
    """An attempt that came to nothing, but whose prompt its provider may bill."""

    deployment: str
    input_tokens: int
    cost_nusd: int


@record()
class Forgone:
    """What the baseline would have charged. `prompt_cache_nusd` is what its prompt cache took off `cost_nusd`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    """Known where the baseline itself answered; where another did, none are supposed."""
    recounted_output_tokens: int = 0
    """The answer that was given, counted with the baseline's tokenizer."""
    cost_nusd: int = 0
    prompt_cache_nusd: int = 0
    price_effective_from: str | None = None
    estimator: str | None = None
    limit: int | None = None
    """What the request lets an answer have, where the baseline's would have been longer."""


NOTHING_FORGONE = Forgone()


@record()
class Charge:
    """What the provider's answer cost, and what the baseline's would have.

    `cost_nusd` is that of the answer's `usage` and of the attempts before it that may be `billed`. `counted` is our
    own count, where the provider's report is beyond what it explains. `prompt_cache_nusd` is what the provider's
    prompt cache took off `cost_nusd`; of a shadow, less what the counterfactual that it measures was booked with.
    """

    usage: TokenUsage
    usage_source: UsageSource
    cost_nusd: int
    baseline: Forgone
    billed: tuple[BilledAttempt, ...] = ()
    counted: TokenUsage | None = None
    prompt_cache_nusd: int = 0
    observed_cost_nusd: int = 0

    @property
    def input_tokens(self) -> int:
        return self.usage.input_tokens + sum([attempt.input_tokens for attempt in self.billed])

    @property
    def retries_nusd(self) -> int:
        return sum([attempt.cost_nusd for attempt in self.billed])


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
    refused_by: Mapping[str, str | int] | None = None
    """The budget that refused it, and where that stood."""
    first_token_s: float | None = None
    """When the first bytes of the answer came, on the monotonic clock."""
