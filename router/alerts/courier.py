"""`Courier`: posts events to every webhook, again and again until they are taken, and makes nobody wait for it."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

import httpx

from router.alerts.events import Event
from router.alerts.webhooks import Outcome, Webhook, post
from router.clock import SYSTEM_CLOCK, Clock

logger = logging.getLogger(__name__)

MAX_UNDER_WAY = 1_000
_POSTS_AT_ONCE = 2
"""To one webhook: a team's budgets are passed together, and receivers limit rates."""

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Exponential, with full jitter, so that many who failed together do not come back together.

    Ten waits of at most 2, 4, 8 ... 240 seconds: eight minutes on average, sixteen at most.
    """

    attempts: int = 11
    base_seconds: float = 2.0
    max_seconds: float = 240.0

    def wait_s(self, failures: int, retry_after_s: float, random_share: float) -> float:
        """What the receiver asks for is waited at least, up to `max_seconds`: an alert should not come tomorrow."""
        bound = min(self.base_seconds * 2 ** (failures - 1), self.max_seconds)
        return min(max(bound * random_share, retry_after_s), self.max_seconds)


class Courier:
    """Posts in a thread of its own, which begins with the first event. At most `limit` events are under way."""

    def __init__(
        self,
        webhooks: Sequence[Webhook],
        *,
        schedule: RetrySchedule = RetrySchedule(),
        clock: Clock = SYSTEM_CLOCK,
        sleep: Sleep = asyncio.sleep,
        random_share: Callable[[], float] = random.random,
        limit: int = MAX_UNDER_WAY,
    ) -> None:
        self._webhooks = [(webhook, asyncio.Semaphore(_POSTS_AT_ONCE)) for webhook in webhooks]
        self._schedule = schedule
        self._clock = clock
        self._sleep = sleep
        self._random_share = random_share
        self._limit = limit
        self._under_way: set[Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None

    def send(self, event: Event) -> Future[None] | None:
        """Done once every webhook has taken the event or is given up; None where too many are under way.

        Call this and `close` from one thread.
        """
        if not self._webhooks:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        self._under_way = {future for future in self._under_way if not future.done()}
        if len(self._under_way) >= self._limit:
            return None
        future = asyncio.run_coroutine_threadsafe(self._send_to_all(event), self._running_loop())
        self._under_way.add(future)
        return future

    def close(self, timeout_seconds: float) -> None:
        """Waits so long for what is under way, then drops the rest: whoever sent it must send it again."""
        if self._loop is None:
            return
        assert self._thread is not None
        wait(self._under_way, timeout_seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._wind_up())
        self._loop.close()
        self._loop = None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._client = httpx.AsyncClient()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="alerts", daemon=True)
            self._thread.start()
        return self._loop

    async def _wind_up(self) -> None:
        assert self._client is not None
        dropped = asyncio.all_tasks() - {asyncio.current_task()}
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        await self._client.aclose()

    async def _send_to_all(self, event: Event) -> None:
        await asyncio.gather(*(self._deliver(webhook, turns, event) for webhook, turns in self._webhooks))

    async def _deliver(self, webhook: Webhook, turns: asyncio.Semaphore, event: Event) -> None:
        for attempt in range(1, self._schedule.attempts + 1):
            async with turns:
                outcome = await self._post(webhook, event)
            if outcome.delivered:
                return
            last = attempt == self._schedule.attempts or not outcome.worth_repeating
            if last:
                logger.error("alert %s was not taken by %s, attempt %d, and is given up: %s",
                             event["id"], webhook.host, attempt, outcome)  # fmt: skip
                return
            wait_s = self._schedule.wait_s(attempt, outcome.retry_after_s, self._random_share())
            logger.warning("alert %s was not taken by %s, attempt %d; again in %.0f s: %s",
                           event["id"], webhook.host, attempt, wait_s, outcome)  # fmt: skip
            await self._sleep(wait_s)

    async def _post(self, webhook: Webhook, event: Event) -> Outcome:
        assert self._client is not None
        return await post(self._client, webhook, event, self._clock.wall())
