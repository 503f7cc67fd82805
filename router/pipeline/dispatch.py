"""Calls the chain: retries with jitter, then the next deployment, until the head of an answer is there.

The only loop in the path of a request. Once the first bytes have come, nothing is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from policies.routing import Choice
from router.clock import Clock
from router.errors import (
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.openai.responses import parse_completion
from router.openai.sse import begins_like_events
from router.pipeline.circuit import Circuit, State
from router.providers.base import Answer, Provider

logger = logging.getLogger(__name__)

_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
_LISTED_SERVICE_TIERS = (None, "auto", "default", "flex")
"""No dearer than the list says. Others, such as `priority`, cost more than any budget has held for them."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_token_s` bounds the wait for a stream's first bytes, `total_s` the whole answer."""

    first_token_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """One deployment as dispatch sees it."""

    name: str
    provider: Provider
    circuit: Circuit
    timeouts: Timeouts
    model: str
    stream_usage: bool
    """The upstream understands `stream_options.include_usage`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What the upstream calls the limit of an answer; models of OpenAI's that reason know the newer name only."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` on one deployment; waits grow from `base_s`, doubling, to `max_s`."""

    max_attempts: int
    base_s: float
    max_s: float

    def wait_s(self, attempt: int, retry_after_s: float | None, jitter: float) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1); None where waiting is not worth it.

        Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015): `jitter` is
        uniform in [0, 1). A provider that asks for more than `max_s` is left to itself.
        """
        if retry_after_s is not None and retry_after_s > self.max_s:
            return None
        return max(retry_after_s or 0.0, jitter * min(self.base_s * 2 ** (attempt - 1), self.max_s))


@dataclass(slots=True)
class Attempt:
    """One call that was made, for the record.

    `billed`: it came to nothing, but after it had gone out and without a refusal; its provider may bill the prompt.
    """

    deployment: str
    error: str | None = None
    billed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"deployment": self.deployment, "error": self.error}


@dataclass(slots=True)
class Call:
    """An answer under way: its head has come, and `first`: its first bytes, or all of what is no stream."""

    choice: Choice
    answer: Answer
    first: bytes
    completion: dict[str, Any] | None
    """What `first` says, where it is all."""
    deadline_s: float
    attempts: list[Attempt] = field(default_factory=list)


class DispatchFailed(Exception):
    """Every choice failed; `error` is the last failure, `choice` where it happened."""

    def __init__(self, error: UpstreamError, choice: Choice, attempts: list[Attempt]) -> None:
        super().__init__(str(error))
        self.error = error
        self.choice = choice
        self.attempts = attempts


class Dispatcher:
    def __init__(
        self,
        targets: Mapping[str, Target],
        retries: RetryPolicy,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._targets = targets
        self._retries = retries
        self._clock = clock
        self._jitter = jitter

    @property
    def max_attempts(self) -> int:
        """On one deployment."""
        return self._retries.max_attempts

    def unavailable(self) -> frozenset[str]:
        """Deployments whose circuit lets nothing through now."""
        now_s = self._clock.monotonic()
        closed = [name for name, target in self._targets.items() if not target.circuit.admits(now_s)]
        return frozenset(closed) if closed else _NONE

    def circuit_states(self) -> dict[str, State]:
        now_s = self._clock.monotonic()
        return {name: target.circuit.state(now_s) for name, target in self._targets.items()}

    async def call(
        self,
        chain: tuple[Choice, ...],
        body: dict[str, Any],
        *,
        stream: bool,
        attempts: list[Attempt] | None = None,
        caps: Mapping[str, int] | None = None,
    ) -> Call:
        """The first answer that begins. Raises DispatchFailed where none does.

        Every call is added to `attempts` as it is made, so that whoever cancels knows of it. `caps` are how many
        tokens an answer may have, by deployment, where that is less than the deployment would make; a
        request with a limit of its own keeps that.
        """
        attempts = [] if attempts is None else attempts
        for index, choice in enumerate(chain):
            target = self._targets[choice.deployment.name]
            if index and not target.circuit.admits(self._clock.monotonic()):
                continue
            try:
                cap = caps.get(target.name) if caps else None
                return await self._try(choice, target, _wire_body(body, target, stream, cap), stream, attempts)
            except UpstreamError as error:
                failure = DispatchFailed(error, choice, attempts)
                # Another would find the same fault with it, unless it is its length.
                if isinstance(error, UpstreamRejected) and not isinstance(error, UpstreamContextExceeded):
                    break
        try:
            raise failure
        finally:
            del failure  # else this frame, with the request, and the error would hold each other

    async def _try(
        self, choice: Choice, target: Target, body: dict[str, Any], stream: bool, attempts: list[Attempt]
    ) -> Call:
        attempt = 1
        while True:
            record = Attempt(choice.deployment.name)
            attempts.append(record)
            try:
                return await self._once(choice, target, body, stream, attempts)
            except asyncio.CancelledError:
                record.billed = True
                raise
            except UpstreamError as error:
                record.error = str(error)
                record.billed = error.may_be_billed
                wait_s = self._retries.wait_s(attempt, error.retry_after_s, self._jitter())
                if not error.retryable or attempt >= self._retries.max_attempts or wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
                attempt += 1

    async def _once(
        self, choice: Choice, target: Target, body: dict[str, Any], stream: bool, attempts: list[Attempt]
    ) -> Call:
        circuit = target.circuit
        now_s = self._clock.monotonic()
        circuit.begin(now_s)
        limits = target.timeouts
        deadline_s = now_s + limits.total_s
        limit_s = min(limits.first_token_s, limits.total_s) if stream else limits.total_s
        accepted = False
        try:
            async with asyncio.timeout(limit_s):
                answer = await target.provider.open(body, stream=stream)
                accepted = True
                first, completion = await _first(target.name, answer, stream)
        except TimeoutError:
            self._failed(target)
            timeout = UpstreamTimeout(f"{target.name} did not answer within {limit_s:g} s")
            timeout.may_be_billed = True
            raise timeout from None
        except UpstreamRejected:
            circuit.succeeded()  # it is alive: the fault is the request's
            raise
        except UpstreamError as error:
            error.may_be_billed = error.may_be_billed or accepted
            self._failed(target, error)
            raise
        circuit.succeeded()
        return Call(choice, answer, first, completion, deadline_s, attempts)

    def _failed(self, target: Target, error: UpstreamError | None = None) -> None:
        """Counts a failure; says so when it opens the circuit, not each time."""
        now_s = self._clock.monotonic()
        admitted = target.circuit.state(now_s) != "open"
        target.circuit.failed(now_s)
        if admitted and target.circuit.state(now_s) == "open":
            logger.warning("%s keeps failing; nothing is sent there for now: %s", target.name, error or "no answer")


async def _first(name: str, answer: Answer, stream: bool) -> tuple[bytes, dict[str, Any] | None]:
    """The first bytes of a stream, or a whole completion. What is neither is a failure like any other."""
    try:
        if not stream:
            raw = await answer.read()
            completion = parse_completion(raw)
            if completion is None:
                raise UpstreamUnavailable(f"{name} answered with something that is no completion")
            return raw, completion
        first = await answer.next_chunk()
        if first is None:
            raise UpstreamUnavailable(f"{name} ended the stream before it began")
        if not begins_like_events(first):
            raise UpstreamUnavailable(f"{name} answered with something that is no event stream")
        return first, None
    except BaseException:
        await answer.close()
        raise


def _wire_body(body: dict[str, Any], target: Target, stream: bool, cap: int | None) -> dict[str, Any]:
    """The caller's body with the deployment's own model name, usage asked for, and what it may cost kept in bounds."""
    changed = body | {"model": target.model}
    if stream and target.stream_usage:
        options = body.get("stream_options") or {}
        changed["stream_options"] = options | {"include_usage": True}
    own = [body[name] for name in _MAX_TOKENS_FIELDS if body.get(name) is not None]
    if (own and target.max_tokens_field is not None) or (not own and cap is not None):
        # An upstream that goes by one name only would write without a limit under the other.
        for name in _MAX_TOKENS_FIELDS:
            changed.pop(name, None)
        changed[target.max_tokens_field or "max_tokens"] = own[0] if own else cap
    if body.get("service_tier") not in _LISTED_SERVICE_TIERS:
        del changed["service_tier"]
    return changed


_NONE: frozenset[str] = frozenset()
