"""`AdmissionStore` on Redis: admit.lua, reduce.lua and settle.lua over one pipelined connection."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

from classifiers.records import record
from policies.periods import MAX_BUCKETS
from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import (
    CAP_DIVISOR,
    LOCAL_EPOCH,
    Admission,
    Admitted,
    Bid,
    CacheHit,
    Counters,
    Refused,
    Settlement,
)
from router.stores.counters import NO_COUNTERS
from router.stores.redis_connection import RedisConnection

logger = logging.getLogger(__name__)


def _script(name: str) -> bytes:
    return files("router.stores").joinpath(name).read_bytes()


def _sha(script: bytes) -> str:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest()


SCRIPTS = tuple(_script(f"{name}.lua") for name in ("admit", "reduce", "rehold", "settle"))
ADMIT, REDUCE, REHOLD, SETTLE = SCRIPTS
_ADMIT_SHA, _REDUCE_SHA, _REHOLD_SHA, _SETTLE_SHA = map(_sha, SCRIPTS)

LEASE_SECONDS = 10
_RENEW_SECONDS = 2.5
_RETRY_SECONDS = 0.2
_RETRIED_AT_ONCE = 1_000
"""What waits behind them is held up by some 30 ms."""
_CLOCK_TOLERANCE_S = 0.25
"""Less than that is the network's, not the clock's."""
_RESETTLE_SECONDS = 2 * _RENEW_SECONDS
"""How far back settlements are sent again to a Redis that was away: one that took over from another, or came back
from its file, may lack the last of what was acknowledged. One that was emptied is noticed at the next renewal."""
_KEPT_ANSWER_BYTES = 4_096
MAX_UNSETTLED = 100_000
"""Settlements kept in memory while Redis is away. Beyond it they are on disk only; where they are not there, either,
they are left to the reservation, which the janitor books at its full amount."""


@record()
class _Held:
    """What a request under way holds, by the answer that admitted it."""

    bid: Bid
    reply: list[Any]

    def amounts(self) -> list[bytes]:
        amounts: bytes = self.reply[7]
        return amounts.split()

    def entry(self) -> bytes:
        """As admit.lua wrote it."""
        _, nusd, tokens, _, options, _, _, amounts = self.reply
        return b"%b\n%d\n%b %b\n%b\n%b" % (
            amounts, options[0], nusd, tokens, self.bid.counters.described, self.bid.record,
        )  # fmt: skip


class RedisAdmissionStore:
    """Holds a lease under `worker_id` while open; pending requests of a lapsed lease are abandoned."""

    def __init__(self, connection: RedisConnection, worker_id: str) -> None:
        self._connection = connection
        self._worker_id = worker_id
        self._pending_key = redis_keys.pending(worker_id)
        self._unsettled: deque[Settlement] = deque()
        self._recent: deque[tuple[float, Settlement]] = deque()
        self._held: dict[str, _Held] = {}
        connection.on_connected = self._resume
        self.on_put_off: Callable[[Settlement], bool] | None = None
        """Called with each settlement that Redis did not take for now; true where it is safe on disk."""
        self.on_acknowledged: Callable[[Settlement], None] | None = None
        """Called with each that Redis has booked."""
        self._resume_at_s = 0.0
        self._clock_offset_s = 0.0
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

    @property
    def clock_offset_s(self) -> float:
        """What Redis's clock is ahead of this machine's: windows are told by the former, alike for all workers."""
        return self._clock_offset_s

    async def admit(self, bid: Bid) -> Admission:
        counters, options = bid.counters, bid.options
        arguments: list[bytes | str | int] = []
        for option in options:
            arguments += (
                option.base_nusd, option.nusd_per_token, option.base_tokens, option.tokens_per_token,
                option.longest, option.least, option.rank,
            )  # fmt: skip
        for argument, mask in zip(counters.arguments, bid.masks, strict=True):
            arguments += argument
            arguments.append(mask)
        reply = await self._connection.execute(
            "EVALSHA", _ADMIT_SHA, 3 + len(counters.keys),
            redis_keys.COUNTERS_WHOLE, bid.cache_key or redis_keys.COUNTERS_WHOLE, self._pending_key, *counters.keys,
            bid.request_id, bid.record, "1" if bid.look_up else "0", bid.now_ms, bid.most, len(options),
            MAX_BUCKETS, CAP_DIVISOR, "1" if counters.strict else "0", counters.described,
            *arguments,
        )  # fmt: skip
        verdict = reply[0]
        if verdict == b"admitted":
            self._held[bid.request_id] = _Held(bid, reply)
            return _admitted(reply)
        if verdict == b"hit":
            return CacheHit(reply[1])
        if verdict == b"refused":
            return _refused(reply, counters)
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._resume_at_s:
            self._resume_at_s = now_s + _RENEW_SECONDS
            self._resume()  # the sooner the better: what the ledger does not have yet is known here alone
        raise StoreUnavailable("budget counters are being rebuilt from the ledger", retry_after_s=2)

    def reduce(self, request_id: str, counters: Counters, nusd: int, tokens: int) -> None:
        try:
            reply = self._connection.execute(
                "EVALSHA", _REDUCE_SHA, 1 + len(counters.keys), self._pending_key, *counters.keys,
                request_id, nusd, tokens, *[argument[0] for argument in counters.arguments],
            )  # fmt: skip
        except StoreUnavailable:
            return  # what is held too much comes back when the request is settled
        reply.add_done_callback(_ignored)

    def settle(self, settlement: Settlement) -> None:
        self._held.pop(settlement.request_id, None)
        try:
            reply = self._connection.execute("EVALSHA", _SETTLE_SHA, *settle_arguments(settlement, self._pending_key))
        except StoreUnavailable:
            self.put_off(settlement)
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
            self.put_off(settlement)
            return
        now_s = asyncio.get_running_loop().time()
        recent = self._recent
        while recent and recent[0][0] < now_s - _RESETTLE_SECONDS:
            recent.popleft()
        if self.on_acknowledged is not None:
            self.on_acknowledged(settlement)
        if len(settlement.answer) > _KEPT_ANSWER_BYTES:
            settlement = replace(settlement, cache_key="", keep_seconds=0, answer=b"")
        recent.append((now_s, settlement))

    def put_off(self, settlement: Settlement) -> None:
        """Settles it as soon as Redis answers, and where nothing was held for it there, has whole counters."""
        on_disk = self.on_put_off is not None and self.on_put_off(settlement)
        if len(self._unsettled) >= MAX_UNSETTLED:
            if on_disk:
                return  # whoever takes over the file will settle it, once this process has ended
            logger.error("too many unsettled requests; %s stays at its reservation", settlement.request_id)
            return
        # Without the answer: so many of them would take more memory than there is.
        self._unsettled.append(replace(settlement, cache_key="", keep_seconds=0, answer=b""))

    async def _retry_settlements(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_SECONDS)
            if not (self._unsettled and self._connection.ready):
                continue
            try:
                whole = await self.counters_whole()
            except StoreUnavailable:
                continue
            for _ in range(min(len(self._unsettled), _RETRIED_AT_ONCE)):
                settlement = self._unsettled.popleft()
                if settlement.epoch == LOCAL_EPOCH and not whole:
                    self._unsettled.append(settlement)  # each that moves no counter makes the writer count again
                else:
                    self.settle(settlement)

    def _resume(self) -> None:
        """On a new connection, maybe to another Redis: what is held is held there, too, and what ended is settled."""
        for reply in self._announce():
            reply.add_done_callback(_ignored)
        self._hold_again()
        recent, self._recent = self._recent, deque()
        for _, settlement in recent:
            self.settle(settlement)

    def _hold_again(self) -> None:
        for request_id, held in self._held.items():
            counters = held.bid.counters
            self._connection.execute(
                "EVALSHA", _REHOLD_SHA, 2 + len(counters.keys),
                self._pending_key, redis_keys.abandoned(request_id), *counters.keys,
                request_id, held.entry(), *held.amounts(),
            ).add_done_callback(_ignored)  # fmt: skip

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
            except StoreUnavailable as error:
                logger.warning("could not renew the lease: %s", error)

    def _announce(self) -> tuple[asyncio.Future[Any], asyncio.Future[Any]]:
        # The lease first: whoever is listed without one is taken for dead.
        lease = self._connection.execute("SET", redis_keys.lease(self._worker_id), "1", "EX", LEASE_SECONDS)
        return lease, self._connection.execute("SADD", redis_keys.WORKERS, self._worker_id)

    async def _renew(self) -> None:
        await asyncio.gather(*self._announce())
        asked_s = time.time()
        seconds, microseconds = await self._connection.execute("TIME")
        ahead_s = int(seconds) + int(microseconds) / 1e6 - (asked_s + time.time()) / 2
        self._clock_offset_s = ahead_s if abs(ahead_s) > _CLOCK_TOLERANCE_S else 0.0
        if not await self.counters_whole():
            self._resume()  # emptied under our connection: nobody is let in again before all hold what they held


def settle_arguments(settlement: Settlement, pending_key: str, abandoned_seconds: int = 0) -> list[bytes | str | int]:
    """What settle.lua takes. `abandoned_seconds`: how long to wait for the truth, where this is a guess at it."""
    counters = settlement.counters or NO_COUNTERS
    arguments: list[bytes | str | int] = [
        7 + len(counters.keys),
        pending_key, redis_keys.SPEND_STREAM, settlement.cache_key or redis_keys.SPEND_STREAM,
        redis_keys.COUNTERS_WHOLE, redis_keys.RECOUNT,
        redis_keys.abandoned(settlement.request_id), redis_keys.booked(settlement.request_id), *counters.keys,
        settlement.request_id, settlement.record, "1" if settlement.admitted else "0", settlement.epoch,
        settlement.keep_seconds, settlement.answer, abandoned_seconds,
    ]  # fmt: skip
    for counter, amount in zip(counters.all, settlement.amounts, strict=True):
        bucket = settlement.started_at_ms // counter.bucket_ms if counter.bucket_ms else ""
        arguments += (amount, bucket, counter.expires_at_s)
    return arguments


def _admitted(reply: list[Any]) -> Admitted:
    _, nusd, tokens, epoch, options, caps, states, _ = reply
    return Admitted(
        options=tuple([option - 1 for option in options]),
        caps=tuple(caps),
        nusd=int(nusd),
        tokens=int(tokens),
        epoch=epoch.decode(),
        states=tuple([(int(states[at]), int(states[at + 1])) for at in range(0, len(states), 2)]),
    )


def _refused(reply: list[Any], counters: Counters) -> Refused:
    _, budget, why, spent, reserved, needed, last_bucket = reply
    bucket_ms = counters.all[budget - 1].bucket_ms
    return Refused(
        counter=budget - 1,
        why="tier" if why == b"tier" else "limit",
        spent=int(spent),
        reserved=int(reserved),
        needed=int(needed),
        # A part leaves the window when the last of it is a whole window old.
        retry_at_ms=(int(last_bucket) + MAX_BUCKETS + 1) * bucket_ms if last_bucket else None,
    )


def _ignored(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()  # asked for, or asyncio would complain of it
