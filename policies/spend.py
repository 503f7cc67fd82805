"""`SpendRecord`: what one request was, went to, cost, and would have cost on the baseline."""

from __future__ import annotations

from dataclasses import field, fields
from operator import attrgetter
from typing import Any, Literal

from classifiers.records import record

Status = Literal["ok", "error", "cancelled", "refused", "abandoned"]
CacheStatus = Literal["hit", "miss", "off"]
UsageSource = Literal["provider", "counted", "cache", "reserved", "none"]


@record(kw_only=True)
class SpendRecord:
    """One request, settled. Amounts are integer nano-USD, times are Unix milliseconds, UTC.

    `status`: `ok` the client got a whole answer; `error` it got an error, at once or in mid-stream;
    `cancelled` it went away; `refused` a budget forbade it; `abandoned` the process serving
    it died, and its reservation was booked in place of the unknown truth.

    `input_tokens` and `cost_nusd` include the prompts of attempts that failed but may be billed, which
    `detail["billed_attempts"]` lists as [deployment, input tokens, nano-USD]; the baseline's do not.

    `usage_source` says where the token counts come from: the provider's usage, our own count, the
    cached answer (which cost nothing), or the reservation.
    """

    request_id: str
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
    reserved_nusd: int = 0
    abandoned_nusd: int = 0
    """What had been booked for it as `abandoned` before the truth arrived."""
    price_effective_from: str | None = None
    baseline_model: str
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
        return cls(**{name: values[name] for name in FIELD_NAMES if name in values})


FIELD_NAMES: tuple[str, ...] = tuple(f.name for f in fields(SpendRecord))
_values = attrgetter(*FIELD_NAMES)
