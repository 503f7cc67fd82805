"""One shadow: a request, sent to the baseline and booked as the price of measuring. Its answer goes nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from classifiers.records import record
from policies.budget import Budget
from policies.repricing import baseline_usage
from policies.routing import Choice, RouteDecision
from policies.spend import SHADOW_TAG, SpendRecord
from router.clock import Clock
from router.errors import StoreUnavailable
from router.openai.requests import ChatRequest
from router.openai.responses import completion_facts
from router.pipeline.accounts import Accountant
from router.pipeline.bounds import limits_of, options_of
from router.pipeline.budgets import Applied, applied_to_measuring
from router.pipeline.circuit import Circuit
from router.pipeline.dispatch import Attempt, Dispatcher, DispatchFailed, RetryPolicy, Target, Timeouts
from router.pipeline.facts import Accepted, Measured, Outcome
from router.pipeline.respond import Responder
from router.pipeline.settle import Settler
from router.stores.admission import AdmissionStore, Admitted, Bid
from router.stores.kept_json import kept_json

logger = logging.getLogger(__name__)

TOTAL_SECONDS = 120.0
"""Longer than nearly every answer takes; a shadow that hangs must not keep the others waiting."""
_ONCE = RetryPolicy(1, 0.0, 0.0)
"""A call that failed tells nothing of the costs, and another one costs again."""
_OF_THE_FIRST_CALL = ("stream", "stream_options", "store")
"""What of a body is about how the answer is delivered, or kept at the provider's: once is enough."""


class NotMeasured(Exception):
    """A shadow that was not sent; nothing was spent."""

    def __init__(self, why: Literal["circuit_open", "budget", "store_unavailable"]) -> None:
        super().__init__(why)
        self.why = why


@record()
class ShadowRequest:
    """`accepted` and `booked` are of the request that is measured, `choice` is the baseline's deployment."""

    accepted: Accepted
    booked: SpendRecord
    choice: Choice
    share: float

    @property
    def size_bytes(self) -> int:
        return self.accepted.request.size_bytes


class ShadowCall:
    """Admitted, called, settled: like a request, but for no client, with one attempt, and a budget of its own."""

    def __init__(
        self,
        *,
        budget: Budget,
        target: Target,
        accountant: Accountant,
        responder: Responder,
        admission: AdmissionStore,
        settler: Settler,
        clock: Clock,
        new_request_id: Callable[[], str],
    ) -> None:
        """`target` is that of clients: its circuit holds shadows back, and is not moved by what becomes of them."""
        self._budget = budget
        self._clients_circuit = target.circuit
        own = replace(
            target,
            circuit=Circuit(target.circuit.failures, target.circuit.open_s),
            timeouts=Timeouts(TOTAL_SECONDS, min(target.timeouts.total_s, TOTAL_SECONDS)),
        )
        self._dispatcher = Dispatcher({own.name: own}, _ONCE, clock)
        self._accountant = accountant
        self._responder = responder
        self._admission = admission
        self._settler = settler
        self._clock = clock
        self._new_request_id = new_request_id

    async def measure(self, request: ShadowRequest) -> None:
        """Raises NotMeasured where it does not come to a call."""
        # Probes are for clients to send: whoever measures waits until all is well again.
        if self._clients_circuit.state(self._clock.monotonic()) != "closed" or self._dispatcher.unavailable():
            raise NotMeasured("circuit_open")
        accepted = self._accepted(request)
        applied = applied_to_measuring(accepted.principal, self._budget, self._clock.wall())
        admitted = await self._admit(accepted, applied)
        outcome, cancelled = await self._outcome(accepted)
        self._settle(accepted, outcome, applied, admitted)
        if cancelled is not None:
            raise cancelled

    def _accepted(self, request: ShadowRequest) -> Accepted:
        original, booked, choice = request.accepted, request.booked, request.choice
        wire = _alone(original.request)
        options = options_of((choice,), wire, attempts=1)
        # Held at its longest: an answer that a budget had cut short would say nothing of the model's own.
        options = tuple([replace(option, least=option.longest) for option in options])
        caps = limits_of((choice,), options, (options[0].longest,), wire, self._accountant.counters)
        return replace(
            original,
            request_id=self._new_request_id(),
            started_s=self._clock.monotonic(),
            started_at_ms=int(self._clock.wall() * 1000),
            request=wire,
            decision=RouteDecision((choice,), 1, "shadow", ()),
            options=options,
            caps=caps,
            cacheable=False,
            quality=None,
            shadow_price=0.0,
            rate_limits=(),
            tags=(SHADOW_TAG,),
            measures=Measured(booked.request_id, request.share, str(booked.deployment), baseline_usage(booked)),
        )

    async def _admit(self, accepted: Accepted, applied: Applied) -> Admitted:
        bid = Bid(
            request_id=accepted.request_id,
            record=kept_json(self._accountant.provisional(accepted)),
            now_ms=accepted.started_at_ms,
            options=accepted.options,
            most=1,
            counters=applied.counters,
            masks=applied.masks(accepted.options),
        )
        try:
            admission = await self._admission.admit(bid)
        except (StoreUnavailable, asyncio.CancelledError) as error:
            # Whether the script ran is unknown: if it did, this gives back what it took.
            status = "error" if isinstance(error, StoreUnavailable) else "cancelled"
            self._settle(accepted, Outcome(status, "refused"), applied)  # type: ignore[arg-type]
            if isinstance(error, StoreUnavailable):
                raise NotMeasured("store_unavailable") from error
            raise
        if not isinstance(admission, Admitted):
            raise NotMeasured("budget")
        return admission

    async def _outcome(self, accepted: Accepted) -> tuple[Outcome, asyncio.CancelledError | None]:
        """Whatever happens, there is something to settle."""
        attempts: list[Attempt] = []
        chain, body = accepted.decision.chain, accepted.request.body
        try:
            call = await self._dispatcher.call(chain, body, stream=False, attempts=attempts, caps=accepted.caps)
            answer = completion_facts(call.completion or {})
            charge = await self._responder.charge(accepted, call.choice, answer, attempts)
        except DispatchFailed as failure:
            return await self._responder.unanswered("error", accepted, attempts, failure.error.code), None
        except asyncio.CancelledError as cancelled:
            return await self._responder.unanswered("cancelled", accepted, attempts), cancelled
        except Exception:  # a fault of ours must not keep the reservation for ever
            logger.exception("the shadow %s failed", accepted.request_id)
            return await self._responder.unanswered("error", accepted, attempts, "internal_error"), None
        return Outcome("ok", "shadow", False, call.choice, charge, answer, tuple(attempts)), None

    def _settle(self, accepted: Accepted, outcome: Outcome, applied: Applied, admitted: Admitted | None = None) -> None:
        reserved_nusd = admitted.nusd if admitted is not None else 0
        record = self._accountant.record(accepted, outcome, now_s=self._clock.monotonic(), reserved_nusd=reserved_nusd)
        if admitted is None:
            self._settler.settle(record, applied=applied)
        else:
            self._settler.settle(record, applied=applied, epoch=admitted.epoch)


def _alone(request: ChatRequest) -> ChatRequest:
    """The same question, whose answer comes as a whole."""
    body: dict[str, Any] = {name: value for name, value in request.body.items() if name not in _OF_THE_FIRST_CALL}
    return replace(request, body=body, stream=False, include_usage=False)
