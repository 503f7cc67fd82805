"""`AdmissionStore` on Redis: admit.lua and settle.lua over one pipelined connection."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from importlib.resources import files

from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import Admission, Admitted, BudgetCounter, CacheHit, Refused, Settlement
from router.stores.redis_connection import RedisConnection

logger = logging.getLogger(__name__)

ADMIT = files("router.stores").joinpath("admit.lua").read_bytes()
SETTLE = files("router.stores").joinpath("settle.lua").read_bytes()
_ADMIT_SHA = hashlib.sha1(ADMIT, usedforsecurity=False).hexdigest()
_SETTLE_SHA = hashlib.sha1(SETTLE, usedforsecurity=False).hexdigest()

LEASE_SECONDS = 10
_RENEW_SECONDS = 2.5
_RETRY_SECONDS = 0.2
MAX_UNSETTLED = 100_000
"""Settlements kept in memory while Redis is away. Beyond it they are left to the reservation, which
the janitor books at its full amount."""


class RedisAdmissionStore:
    """Holds a lease under `worker_id` while open; pending requests of a lapsed lease are abandoned."""

    def __init__(self, connection: RedisConnection, worker_id: str) -> None:
        self._connection = connection
        self._worker_id = worker_id
        self._pending_key = redis_keys.pending(worker_id)
        self._unsettled: deque[Settlement] = deque()
        self._in_flight = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._renew()
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._retry_settlements())]

    @property
    def ready(self) -> bool:
        return self._connection.ready

    @property
    def unsettled(self) -> int:
        """Settlements not yet acknowledged by Redis."""
        return len(self._unsettled) + self._in_flight

    async def counters_whole(self) -> bool:
        """Whether budgets can be held to: false while a Redis that lost its data is filled again."""
        return bool(await self._connection.execute("EXISTS", redis_keys.COUNTERS_WHOLE))

    async def admit(
        self,
        request_id: str,
        record: bytes,
        *,
        cache_key: str,
        look_up: bool,
        amounts_nusd: tuple[int, ...],
        counters: tuple[BudgetCounter, ...],
    ) -> Admission:
        limits = [value for counter in counters for value in (counter.limit_nusd, counter.expires_at_s)]
        reply = await self._connection.execute(
            "EVALSHA", _ADMIT_SHA, 3 + len(counters),
            redis_keys.COUNTERS_WHOLE, cache_key or redis_keys.COUNTERS_WHOLE, self._pending_key,
            *[counter.key for counter in counters],
            request_id, record, "1" if look_up else "0", len(amounts_nusd), *amounts_nusd, *limits,
        )  # fmt: skip
        verdict = reply[0]
        if verdict == b"admitted":
            return Admitted(reply[1] - 1)
        if verdict == b"hit":
            return CacheHit(reply[1])
        if verdict == b"refused":
            return Refused(reply[1] - 1, int(reply[2]), int(reply[3]))
        raise StoreUnavailable("budget counters are being rebuilt from the ledger", retry_after_s=2)

    def settle(self, settlement: Settlement) -> None:
        try:
            reply = self._connection.execute(
                "EVALSHA", _SETTLE_SHA, 3 + len(settlement.counter_keys),
                self._pending_key, redis_keys.SPEND_STREAM, settlement.cache_key or redis_keys.SPEND_STREAM,
                *settlement.counter_keys,
                settlement.request_id, settlement.cost_nusd, settlement.record,
                "1" if settlement.admitted else "0", settlement.keep_seconds, settlement.answer,
            )  # fmt: skip
        except StoreUnavailable:
            self._put_off(settlement)
            return
        self._in_flight += 1
        reply.add_done_callback(lambda future: self._settled(future, settlement))

    async def drain(self, timeout_s: float) -> None:
        """Waits until every settlement is acknowledged, at most `timeout_s`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        # Polled, since settlements fail and are put off at any time; this happens once, at the end.
        while self.unsettled and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if self.unsettled:
            logger.error("%d settlements could not reach Redis; their reservations stand", self.unsettled)

    async def close(self) -> None:
        """Gives up the lease, so that the janitor books at once what is still pending."""
        for task in self._tasks:
            task.cancel()
        try:
            await self._connection.execute("DEL", redis_keys.lease(self._worker_id))
        except StoreUnavailable:
            pass  # it lapses by itself
        await self._connection.close()

    def _settled(self, reply: asyncio.Future[int], settlement: Settlement) -> None:
        self._in_flight -= 1
        if reply.cancelled() or reply.exception() is not None:
            self._put_off(settlement)

    def _put_off(self, settlement: Settlement) -> None:
        if len(self._unsettled) >= MAX_UNSETTLED:
            logger.error("too many unsettled requests; %s stays at its reservation", settlement.request_id)
            return
        self._unsettled.append(settlement)

    async def _retry_settlements(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            if self._connection.ready:
                waiting, self._unsettled = self._unsettled, deque()
                for settlement in waiting:
                    self.settle(settlement)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
            except StoreUnavailable as error:
                logger.warning("could not renew the lease: %s", error)

    async def _renew(self) -> None:
        await self._connection.execute("SADD", redis_keys.WORKERS, self._worker_id)
        await self._connection.execute("SET", redis_keys.lease(self._worker_id), "1", "EX", LEASE_SECONDS)
