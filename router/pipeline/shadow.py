"""The sample of requests that go to the baseline as well, off the client's path, to measure what they cost there."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from typing import Literal

from policies.catalog import Deployment
from policies.draw import is_drawn
from policies.routing import Choice, NoRoute, RoutingFacts, pin
from policies.spend import SpendRecord
from router.errors import ModelNotAllowed
from router.pipeline.decide import input_tokens_estimate
from router.pipeline.facts import Accepted
from router.pipeline.models import Alias, Models, allowed_deployments
from router.pipeline.shadow_call import NotMeasured, ShadowCall, ShadowRequest

logger = logging.getLogger(__name__)

MAX_WAITING = 64
MAX_WAITING_BYTES = 16 * 2**20
"""Of the requests that wait; each may have some megabytes."""
PARALLEL_CALLS = 4
CLOSE_SECONDS = 5.0
"""How long calls under way may take once the process is to end. What waits is dropped at once."""

Loss = Literal["queue_full", "circuit_open", "budget", "store_unavailable", "shutdown", "unfit"]
"""Why a request that was drawn was not measured. `unfit`: the baseline could not have taken it."""


class Shadower:
    """Draws the sample, and has it measured, a few calls at a time. What finds no room in the queue is lost, and
    counted."""

    def __init__(
        self, *, share: float, deployment: Deployment, models: Models, call: ShadowCall, losses: Counter[str]
    ) -> None:
        self._share = share
        self._deployment = deployment
        self._models = models
        self._call = call
        self._losses = losses
        self._waiting: deque[ShadowRequest] = deque()
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def offer(self, accepted: Accepted, booked: SpendRecord) -> None:
        """Takes in a request that has been settled, where it is drawn. Returns at once."""
        if not is_drawn(booked.request_id, self._share) or not self._is_measured(accepted, booked):
            return
        choice = self._choice(accepted)
        if choice is None:
            self._lose("unfit")
        elif self._closing:
            self._lose("shutdown")
        else:
            self._take(ShadowRequest(accepted, booked, choice, self._share))

    async def close(self, timeout_s: float) -> None:
        """Drops what waits, and gives the calls under way so long to end; what they cost is booked in any case."""
        self._closing = True
        while self._next() is not None:
            self._lose("shutdown")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _is_measured(self, accepted: Accepted, booked: SpendRecord) -> bool:
        """A request that routing sent elsewhere, and that was answered; and that may be sent to the baseline, too.

        What its key or its alias would never have sent there shall not go there to be measured, either. Of several
        answers one request cannot say how long each is.
        """
        model = self._models.resolve(accepted.request.model)
        if not isinstance(model, Alias) or not model.shadow or self._deployment not in model.candidates:
            return False
        if booked.status != "ok" or booked.deployment is None or accepted.request.choices != 1:
            return False
        return self._models.deployments[booked.deployment].prices.model != self._deployment.prices.model

    def _choice(self, accepted: Accepted) -> Choice | None:
        """None where the baseline's deployment cannot take it."""
        request = accepted.request
        try:
            allowed = allowed_deployments(accepted.principal, self._models.resolve(request.model))
        except ModelNotAllowed:
            return None
        facts = RoutingFacts(
            candidates=(self._deployment,),
            tier=self._deployment.tier,
            needs=request.needs,
            input_tokens=input_tokens_estimate(request),
            max_output_tokens=request.max_output_tokens,
            allowed=allowed,
            unavailable=frozenset(),
            max_fallbacks=0,
            day=accepted.day,
        )
        pinned = pin(self._deployment, facts)
        return None if isinstance(pinned, NoRoute) else pinned.options[0]

    def _take(self, request: ShadowRequest) -> None:
        if len(self._tasks) < PARALLEL_CALLS:
            self._tasks.add(asyncio.create_task(self._work(request)))
        elif len(self._waiting) < MAX_WAITING and self._waiting_bytes + request.size_bytes <= MAX_WAITING_BYTES:
            self._waiting.append(request)
            self._waiting_bytes += request.size_bytes
        else:
            self._lose("queue_full")

    async def _work(self, request: ShadowRequest | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while request is not None:
                await self._measure(request)
                request = self._next()
        finally:
            # Here, not once it is seen to be done: what comes in between would wait for nobody.
            self._tasks.discard(task)

    async def _measure(self, request: ShadowRequest) -> None:
        try:
            await self._call.measure(request)
        except NotMeasured as error:
            self._lose(error.why)
        except Exception:  # the border of the task: one that fails must not keep the others from being measured
            logger.exception("the shadow of request %s failed", request.booked.request_id)

    def _next(self) -> ShadowRequest | None:
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        self._waiting_bytes -= request.size_bytes
        return request

    def _lose(self, why: Loss) -> None:
        """Counts it, and says so the first time, the second, the fourth, ...: often enough."""
        self._losses[why] += 1
        count = self._losses[why]
        if count & (count - 1) == 0:
            logger.warning("%d requests that were drawn could not be measured on the baseline: %s", count, why)
