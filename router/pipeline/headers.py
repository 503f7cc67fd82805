"""Response headers: what was decided, and what it cost where that is known before the body."""

from __future__ import annotations

from classifiers.records import record
from policies.money import format_usd
from policies.spend import SpendRecord
from router.pipeline.dispatch import Call
from router.pipeline.facts import Accepted, Charge
from router.pipeline.reply import Headers

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_BUFFERING = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


@record()
class Told:
    """What the headers say of one answer. The costs are None while they are not known yet."""

    request_id: str
    stream: bool
    deployment: str
    reason: str
    cache: str
    score: float | None
    simulated: bool
    cost_nusd: int | None = None
    baseline_cost_nusd: int | None = None
    max_tokens: int | None = None
    """The limit that was sent along for a request without one."""
    rate_limits: Headers = ()


def of(told: Told) -> Headers:
    headers: list[tuple[bytes, bytes]] = [EVENT_STREAM, *_NO_BUFFERING] if told.stream else [JSON]
    headers.append((b"x-parsimony-request-id", told.request_id.encode()))
    headers.append((b"x-parsimony-model", told.deployment.encode()))
    headers.append((b"x-parsimony-reason", told.reason.encode()))
    headers.append((b"x-parsimony-cache", told.cache.encode()))
    if told.score is not None:
        headers.append((b"x-parsimony-score", b"%.3f" % told.score))
    if told.cost_nusd is not None:
        headers.append((b"x-parsimony-cost-usd", format_usd(told.cost_nusd).encode()))
    if told.baseline_cost_nusd is not None:
        headers.append((b"x-parsimony-baseline-cost-usd", format_usd(told.baseline_cost_nusd).encode()))
    if told.max_tokens is not None:
        headers.append((b"x-parsimony-max-tokens", b"%d" % told.max_tokens))
    if told.simulated:
        headers.append((b"x-parsimony-simulated", b"true"))
    headers.extend(told.rate_limits)
    return headers


def of_call(accepted: Accepted, call: Call, reason: str, charge: Charge | None = None) -> Headers:
    """For an answer that has begun; with its `charge` where it is whole."""
    return of(
        Told(
            request_id=accepted.request_id,
            stream=accepted.request.stream,
            deployment=call.choice.deployment.name,
            reason=reason,
            cache="miss" if accepted.cacheable else "off",
            score=accepted.classification.score if accepted.classification else None,
            simulated=call.choice.deployment.simulated,
            cost_nusd=charge.cost_nusd if charge else None,
            baseline_cost_nusd=charge.baseline.cost_nusd if charge else None,
            max_tokens=accepted.caps.get(call.choice.deployment.name),
            rate_limits=accepted.rate_limits,
        )
    )


def of_record(record: SpendRecord) -> Headers:
    """For an answer out of the cache, all of which is known."""
    return of(
        Told(
            request_id=record.request_id,
            stream=record.stream,
            deployment=record.deployment or "",
            reason=record.reason,
            cache=record.cache,
            score=record.score,
            simulated=record.simulated,
            cost_nusd=record.cost_nusd,
            baseline_cost_nusd=record.baseline_cost_nusd,
        )
    )
