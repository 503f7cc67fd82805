"""`AdmissionStore` that goes on without Redis for a while: within what this process may spend on its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from policies.budget import WhenUnavailable
from router.errors import StoreUnavailable
from router.stores.admission import (
    CAP_DIVISOR,
    LOCAL_EPOCH,
    Admission,
    Admitted,
    Bid,
    BudgetCounter,
    CacheHit,
    Counters,
    Settlement,
)
from router.stores.redis_admission import RedisAdmissionStore
from router.stores.redis_janitor import abandoned
from router.stores.spool import Spool

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.25
"""How long a request that may be served without Redis waits for it."""
PROBE_SECONDS = 0.5
"""After somebody has lost that patience, one request at a time asks a Redis that stands still: one in this time."""


@dataclass(slots=True)
class _Alone:
    """What a request admitted here takes of the allowance of each of the counters named."""

    keys: tuple[str, ...]
    nusd: int


class LocalAdmissionStore:
    """Asks `store`; where that cannot answer, admits alone what only budgets that `serve` without Redis apply to.

    Each of them (each of its counters: a window's, an end user's) has an allowance of `allowance_nusd`, or of its
    limit in money where that is less. What a request may cost is taken out of it before dispatch, whatever the unit
    of the budget: tokens, requests, those at once and shares of a limit are not checked while Redis is away, money
    bounds them all. It comes back once Redis has booked the request and its counters are whole, and not before: so
    this process never spends more on its own, however often Redis comes and goes. A new process does not start
    without Redis, so that starting again gains nothing. A request without budgets is served where
    `when_unavailable`, the configuration's word for budgets that have none of their own, is `serve`.

    What it admits is on disk before it is dispatched, and so is every settlement that Redis does not take.
    """

    def __init__(
        self, store: RedisAdmissionStore, spool: Spool, *, when_unavailable: WhenUnavailable, allowance_nusd: int
    ) -> None:
        self._store = store
        self.spool = spool
        self._allowance_nusd = allowance_nusd
        self._serving: frozenset[WhenUnavailable | None] = (
            frozenset(["serve", None]) if when_unavailable == "serve" else frozenset(["serve"])
        )
        self._alone: dict[str, _Alone] = {}
        self._booked: list[_Alone] = []
        """Ended, and taken by Redis; whether its counters are whole, so that it counted, the next admission tells."""
        self._used_nusd: dict[str, int] = {}
        self._refusing: set[str] = set()
        """Counters whose allowance was too small for the last request that asked for it."""
        self._served: set[tuple[str, ...]] = set()
        """The counters of each request that was admitted here."""
        self._standing_still = False
        self._ask_again_s = 0.0
        store.on_put_off = self._put_off
        store.on_acknowledged = self._acknowledged

    @property
    def ready(self) -> bool:
        """Whether there is a connection to Redis."""
        return self._store.ready

    @property
    def serves_alone(self) -> bool:
        """Whether requests are served without Redis, unless their budgets say otherwise."""
        return None in self._serving

    @property
    def exhausted(self) -> bool:
        """Nobody can be served without Redis: the allowances of all who were are too small for the last that asked."""
        if not self._allowance_nusd or not self.spool.writable:
            return True
        return bool(self._served) and not any(self._refusing.isdisjoint(keys) for keys in self._served)

    @property
    def used_nusd(self) -> int:
        """What is used of the allowance of which most is used."""
        return max(self._used_nusd.values(), default=0)

    @property
    def unsettled(self) -> int:
        """Requests that Redis has not booked: in memory, on disk, or both."""
        return max(self._store.unsettled, self.spool.waiting)

    async def counters_whole(self) -> bool:
        return await self._store.counters_whole()

    def admit(self, bid: Bid) -> Coroutine[Any, Any, Admission]:
        if bid.counters.when_unavailable <= self._serving:
            return self._admit(bid)
        return self._store.admit(bid)

    def reduce(self, request_id: str, counters: Counters, nusd: int, tokens: int) -> None:
        alone = self._alone.get(request_id)
        if alone is not None:
            self._change(alone, min(nusd, alone.nusd))
        self._store.reduce(request_id, counters, nusd, tokens)

    def settle(self, settlement: Settlement) -> None:
        alone = self._alone.get(settlement.request_id)
        if alone is None:
            self._store.settle(settlement)
            return
        self._change(alone, orjson.loads(settlement.record)["cost_nusd"])
        self._store.put_off(settlement)  # to disk at once: it would be booked at its bound if this process died now

    async def _admit(self, bid: Bid) -> Admission:
        now_s = asyncio.get_running_loop().time()
        patience_s: float | None = PATIENCE_SECONDS
        if self._standing_still:
            if now_s >= self._ask_again_s:
                self._ask_again_s = now_s + PROBE_SECONDS
            elif (admitted := self._admit_alone(bid)) is not None:
                return admitted
            else:
                patience_s = None  # it has nothing else to hope for
        try:
            async with asyncio.timeout(patience_s):
                admission = await self._store.admit(bid)
        except TimeoutError:
            if not self._standing_still:
                logger.warning("Redis has not answered for %g s; serving without it", PATIENCE_SECONDS)
            self._standing_still, self._ask_again_s = True, now_s + PATIENCE_SECONDS + PROBE_SECONDS
            away = StoreUnavailable("Redis has not answered in time", retry_after_s=1)
        except StoreUnavailable as error:
            away = error
        else:
            self._standing_still = False
            if self._booked and bid.counters.all and not isinstance(admission, CacheHit):
                self._give_back()
            return admission
        # Should the script have run after all: settling gives back what it took.
        admitted = self._admit_alone(bid)
        if admitted is None:
            raise StoreUnavailable(
                f"{away.message}, and what may be spent without it does not pay for this request", retry_after_s=1
            )
        return admitted

    def _admit_alone(self, bid: Bid) -> Admitted | None:
        """None where an allowance cannot carry it, or the disk cannot keep it."""
        rooms = [self._room_nusd(counter) for counter in bid.counters.all]
        admitted = choose(bid, rooms)
        if admitted is None:
            least = min([option.base_nusd + option.nusd_per_token * option.least for option in bid.options])
            short = [c.key for c, room_nusd in zip(bid.counters.all, rooms, strict=True) if room_nusd < least]
            self._refusing.update(short)
            return None
        try:
            self.spool.keep(_guess(bid, admitted), final=False)
        except StoreUnavailable:
            return None  # nobody would book it
        touched = _touched(bid, admitted.options)
        keys = tuple([counter.key for counter, is_touched in zip(bid.counters.all, touched, strict=True) if is_touched])
        self._refusing.difference_update(keys)
        self._served.add(keys)
        alone = self._alone[bid.request_id] = _Alone(keys, 0)
        self._change(alone, admitted.nusd)
        return admitted

    def _room_nusd(self, counter: BudgetCounter) -> int:
        limited = counter.hard and (counter.unit == "usd" or not counter.limit)
        allowance_nusd = min(self._allowance_nusd, counter.limit) if limited else self._allowance_nusd
        # An allowance of nothing serves nothing, not even what is free of charge.
        return allowance_nusd - self._used_nusd.get(counter.key, 0) if allowance_nusd else -1

    def _change(self, alone: _Alone, nusd: int) -> None:
        for key in alone.keys:
            self._used_nusd[key] = self._used_nusd.get(key, 0) + nusd - alone.nusd
        alone.nusd = nusd

    def _put_off(self, settlement: Settlement) -> bool:
        try:
            self.spool.keep(settlement)
        except StoreUnavailable:
            return False
        return True

    def _acknowledged(self, settlement: Settlement) -> None:
        if self.spool.waiting:
            self.spool.forget(settlement.request_id)
        alone = self._alone.pop(settlement.request_id, None)
        if alone is not None and alone.keys:
            self._booked.append(alone)

    def _give_back(self) -> None:
        for alone in self._booked:
            self._change(alone, 0)
        self._booked.clear()
        self._refusing.clear()
        self._served.clear()
        self._used_nusd = {key: nusd for key, nusd in self._used_nusd.items() if nusd}


def choose(bid: Bid, rooms_nusd: Sequence[int]) -> Admitted | None:
    """What admit.lua would choose, cap and hold, if each counter had that much money left and counted money alone."""
    chosen: list[int] = []
    base_nusd = top_nusd = 0
    for index, option in enumerate(bid.options):
        if len(chosen) == bid.most:
            break
        base, top = base_nusd + option.base_nusd, max(top_nusd, option.nusd_per_token * option.least)
        touched = _touched(bid, [*chosen, index])
        fits = all(base + top <= room for room, is_touched in zip(rooms_nusd, touched, strict=True) if is_touched)
        if fits and option.rank <= _ceiling(bid, index):
            chosen.append(index)
            base_nusd, top_nusd = base, top
    if not chosen:
        return None
    touched = _touched(bid, chosen)
    payable = [
        max(room // CAP_DIVISOR, base_nusd + top_nusd) for room, yes in zip(rooms_nusd, touched, strict=True) if yes
    ]
    options = [bid.options[index] for index in chosen]
    caps = [
        max(min([option.longest, *[(nusd - base_nusd) // option.nusd_per_token for nusd in payable]]), option.least)
        if option.nusd_per_token
        else option.longest
        for option in options
    ]
    pairs = list(zip(options, caps, strict=True))
    return Admitted(
        options=tuple(chosen),
        caps=tuple(caps),
        nusd=base_nusd + max([option.nusd_per_token * cap for option, cap in pairs]),
        tokens=sum([option.base_tokens for option in options])
        + max([option.tokens_per_token * cap for option, cap in pairs]),
        epoch=LOCAL_EPOCH,
    )


def _touched(bid: Bid, indices: Collection[int]) -> list[bool]:
    """For each counter, whether one of the options counts for it."""
    return [not mask or any(mask[index] == ord("1") for index in indices) for mask in bid.masks]


def _ceiling(bid: Bid, index: int) -> float:
    """The highest rank that may serve, by those of the option's counters that downgrade from the beginning."""
    touched = _touched(bid, [index])
    return min(
        [c.downgrade_rank for c, yes in zip(bid.counters.all, touched, strict=True) if yes and c.downgrades_from == 0],
        default=float("inf"),
    )


def _guess(bid: Bid, admitted: Admitted) -> Settlement:
    """What is booked if this process dies before it has told the end: the request at its bound."""
    bounds = b"%d %d" % (admitted.nusd, admitted.tokens)
    entry = b"\n".join([b"", b"%d" % (admitted.options[0] + 1), bounds, bid.counters.described, bid.record])
    return replace(abandoned(bid.request_id, entry), epoch=LOCAL_EPOCH)
