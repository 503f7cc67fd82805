"""`SpendRecord`: what one request was, went to, cost, and would have cost on the baseline."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, Literal

from classifiers.records import maker, reader, record

Kind = Literal["request", "shadow", "judge"]
Status = Literal["ok", "error", "cancelled", "refused", "abandoned"]
CacheStatus = Literal["hit", "miss", "off"]
UsageSource = Literal["provider", "counted", "cache", "reserved", "none"]

SHADOW_TAG = "(shadow)"
"""What shadows bear in place of their request's tags. No key and no request can be given it, and only a configuration
has a budget of it: the one that limits measuring."""


@record(kw_only=True)
class SpendRecord:
    """One request, settled. Amounts are integer nano-USD, times are Unix milliseconds, UTC.

    `kind`: a `request` is an application's; a `shadow` is one sent to the baseline, too, to measure what it would have
    cost, a `judge` one that compares two answers: `parent_id` is the request that they measure, and their cost is
    the price of measuring. It is booked under the team, project, key and user of that request, and counts against
    none of their budgets: against the organisation's, and those of its tag.

    `status`: `ok` the client got a whole answer; `error` it got an error, at once or in mid-stream;
    `cancelled` it went away; `refused` a budget forbade it; `abandoned` the process serving
    it died, and its reservation was booked in place of the unknown truth.

    `input_tokens` and `cost_nusd` include the prompts of attempts that failed but may be billed, which
    `detail["billed_attempts"]` lists as [deployment, input tokens, nano-USD]; the baseline's do not.

    `usage_source` says where the token counts come from: the provider's usage, our own count, the
    cached answer (which cost nothing), or the reservation.
    """

    request_id: str
    kind: Kind = "request"
    parent_id: str | None = None
    sample_share: float | None = None
    """Of a shadow: the probability with which a request of its stratum was taken into the sample."""
    started_at_ms: int
    duration_ms: int
    first_token_ms: int | None = None
    team_id: str
    key_id: str
    project_id: str | None = None
    end_user: str = ""
    """The request's `user`, where its key is trusted to name one; else empty."""
    tags: str = ""
    """Between commas, so that `,batch,` finds one: ",batch,nightly,"; empty where there are none."""
    alias: str
    """The `model` the application asked for: an alias or a deployment's own name."""
    deployment: str | None = None
    deployment_tier: str | None = None
    provider_name: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    reason: str
    """Why it went there: one of `policies.routing.REASONS`."""
    tier: str | None = None
    score: float | None = None
    classifier: str | None = None
    task: str | None = None
    """The classifier's name for the kind of request that it is."""
    observed_deployment: str | None = None
    """Where routing would have sent it, had its alias not been in `observe` mode."""
    status: Status
    error_code: str | None = None
    cache: CacheStatus = "off"
    stream: bool = False
    attempts: int = 0
    finish_reasons: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: UsageSource = "none"
    cost_nusd: int = 0
    retries_nusd: int = 0
    """The part of `cost_nusd` that attempts before the answer cost."""
    prompt_cache_nusd: int = 0
    """What the provider's prompt cache took off `cost_nusd`, less what the baseline's would have taken off
    `baseline_cost_nusd`; of a shadow, off the counterfactual that it measures. So its `cost_nusd` - `retries_nusd` +
    this is what the baseline asks for the request with the discount that the counterfactual was booked with."""
    observed_cost_nusd: int = 0
    """What `observed_deployment` would have cost, by the tokens of the answer that was given."""
    reserved_nusd: int = 0
    abandoned_nusd: int = 0
    """What had been booked for it as `abandoned` before the truth arrived."""
    price_effective_from: str | None = None
    baseline_model: str
    baseline_price_effective_from: str | None = None
    estimator: str | None = None
    """The version of `policies.answer_lengths` that estimated the baseline's answer; None where it is known."""
    recounted_output_tokens: int = 0
    """The answer that was given, counted with the baseline's tokenizer."""
    baseline_input_tokens: int = 0
    baseline_output_tokens: int = 0
    baseline_cost_nusd: int = 0
    simulated: bool = False
    detail: dict[str, Any] = field(default_factory=dict)
    """For `parsimony explain`: signals, candidates and attempts, as JSON values."""

    @property
    def savings_nusd(self) -> int:
        """Counterfactual minus realised cost; negative where routing cost more."""
        return self.baseline_cost_nusd - self.cost_nusd

    def to_json(self) -> dict[str, Any]:
        return dict(zip(FIELD_NAMES, _values(self), strict=True))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SpendRecord:
        """The inverse of `to_json`. Unknown names are dropped: a newer worker may have written them."""
        try:
            return _make(values)
        except KeyError:  # an older worker left some out
            return cls(**{name: values[name] for name in FIELD_NAMES if name in values})


FIELD_NAMES: tuple[str, ...] = tuple(f.name for f in fields(SpendRecord))
_values = reader(*FIELD_NAMES)
_make = maker(SpendRecord)
