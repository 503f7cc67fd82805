"""Admission and settlement: what the hot path asks of Redis, in two atomic steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from classifiers.records import record


@dataclass(frozen=True, slots=True)
class BudgetCounter:
    """One budget's counter in its current window; `expires_at_s` is in Unix seconds."""

    key: str
    limit_nusd: int
    expires_at_s: int


@record()
class CacheHit:
    """The request is answered: `entry` is what a settlement stored under its key."""

    entry: bytes


@record()
class Admitted:
    """`plan` is the index of the first amount that every budget could carry; it is now held."""

    plan: int


@dataclass(frozen=True, slots=True)
class Refused:
    """`budget` is the index of the counter that could not carry even the cheapest amount."""

    budget: int
    spent_nusd: int
    reserved_nusd: int


Admission = CacheHit | Admitted | Refused


@record()
class Settlement:
    """What a finished request does to the stores.

    `admitted`: it holds a pending entry, whose reservation is given back. `keep_seconds` above zero
    stores `answer` under `cache_key`.
    """

    request_id: str
    cost_nusd: int
    record: bytes
    admitted: bool
    counter_keys: tuple[str, ...] = ()
    cache_key: str = ""
    keep_seconds: int = 0
    answer: bytes = b""


class AdmissionStore(Protocol):
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
        """Looks up the cache; on a miss takes the first of `amounts_nusd` (dearest first) that fits.

        `record` is booked at the reserved amount should this process die. Raises StoreUnavailable.
        """

    def settle(self, settlement: Settlement) -> None:
        """Books `settlement`, now or as soon as the store answers again; settling twice changes nothing.

        Returns at once. Whatever is admitted afterwards sees it.
        """
