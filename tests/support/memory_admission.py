"""`AdmissionStore` in dictionaries: does at once what the two Lua scripts do, and remembers everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from router.errors import StoreUnavailable
from router.stores.admission import Admission, Admitted, BudgetCounter, CacheHit, Refused, Settlement


@dataclass(slots=True)
class BudgetAmounts:
    """One budget's counter, in nano-USD."""

    spent_nusd: int = 0
    reserved_nusd: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that was let in and is not settled."""

    amount_nusd: int
    keys: tuple[str, ...]
    record: bytes


class MemoryAdmissionStore:
    """Fails on demand: `outage` says what the next `admit` does, before or after it took effect.

    `settlements` counts how often each request was settled, so that a test can ask for exactly once.
    """

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0) -> None:
        self._now_s = now_s
        self.whole = True
        self.outage: Literal["before", "after"] | None = None
        self.held_up: asyncio.Event | None = None
        """While it is not set, `admit` waits for it, as for a slow store."""
        self.counters: dict[str, BudgetAmounts] = {}
        self.pending: dict[str, Pending] = {}
        self.entries: dict[str, tuple[bytes, float]] = {}
        self.stream: list[bytes] = []
        self.asked: list[str] = []
        self.settlements: Counter[str] = Counter()

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
        self.asked.append(request_id)
        if self.outage == "before":
            raise StoreUnavailable("the store is away")
        admission = self._admit(request_id, record, cache_key, look_up, amounts_nusd, counters)
        if self.held_up is not None:
            await self.held_up.wait()
        if self.outage == "after":
            raise StoreUnavailable("the store went away before it answered")
        return admission

    def _admit(
        self,
        request_id: str,
        record: bytes,
        cache_key: str,
        look_up: bool,
        amounts_nusd: tuple[int, ...],
        counters: tuple[BudgetCounter, ...],
    ) -> Admission:
        if look_up and (entry := self._entry(cache_key)) is not None:
            self.pending[request_id] = Pending(0, (), record)
            return CacheHit(entry)
        if counters and not self.whole:
            raise StoreUnavailable("the counters are being rebuilt")
        plan = 0
        for index, counter in enumerate(counters):
            known = self.counters.get(counter.key, BudgetAmounts())
            room_nusd = counter.limit_nusd - known.spent_nusd - known.reserved_nusd
            while plan < len(amounts_nusd) and amounts_nusd[plan] > room_nusd:
                plan += 1
            if plan == len(amounts_nusd) or counter.limit_nusd <= known.spent_nusd:
                return Refused(index, known.spent_nusd, known.reserved_nusd)
        for counter in counters:
            self.counters.setdefault(counter.key, BudgetAmounts()).reserved_nusd += amounts_nusd[plan]
        self.pending[request_id] = Pending(amounts_nusd[plan], tuple(c.key for c in counters), record)
        return Admitted(plan)

    def settle(self, settlement: Settlement) -> None:
        self.settlements[settlement.request_id] += 1
        if settlement.admitted:
            held = self.pending.pop(settlement.request_id, None)
            if held is None:
                self.stream.append(settlement.record)
                return
            for key in settlement.counter_keys:
                counter = self.counters.setdefault(key, BudgetAmounts())
                counter.reserved_nusd -= held.amount_nusd
                counter.spent_nusd += settlement.cost_nusd
        self.stream.append(settlement.record)
        if settlement.keep_seconds:
            self.entries[settlement.cache_key] = (settlement.answer, self._now_s() + settlement.keep_seconds)

    def records(self) -> list[dict[str, Any]]:
        """What was booked, in order, as JSON values."""
        return [orjson.loads(record) for record in self.stream]

    def _entry(self, cache_key: str) -> bytes | None:
        entry, until_s = self.entries.get(cache_key, (None, 0.0))
        return entry if self._now_s() < until_s else None
