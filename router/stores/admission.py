"""Admission and settlement: what the hot path asks of Redis, in two atomic steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from classifiers.base import Tier
from classifiers.records import record
from policies.budget import Unit, WhenUnavailable

BEFORE_ANY_EPOCH = ""
"""The epoch of a request that no budget applies to."""
LOCAL_EPOCH = "local"
"""Of a request let in by this process alone, while the store was away."""
CAP_DIVISOR = 4
"""An answer without a limit of its own may be as long as this part of a hard budget's room pays."""


@dataclass(frozen=True, slots=True)
class BudgetCounter:
    """One budget's counter in its current window, as the scripts take it.

    `limit` is in the budget's unit. A `hard` counter never passes it; a `strict` one refuses hits as well,
    once it is spent. From a use of `downgrades_from` on, only deployments of tier rank `downgrade_rank` or below may
    serve (None: all, always). `model` and `tier` restrict what counts. `bucket_ms` is the part of a
    rolling window, else 0; `expires_at_s`, in Unix seconds, is when the counter of a calendar window may go (0: by
    itself). A `watched` counter's state comes back with every admission. `when_unavailable` is the
    budget's own answer to an outage (None: as the configuration says).
    """

    key: str
    unit: Unit
    limit: int
    hard: bool = True
    strict: bool = False
    downgrades_from: int | None = None
    downgrade_rank: int = 0
    model: str | None = None
    tier: Tier | None = None
    bucket_ms: int = 0
    expires_at_s: int = 0
    watched: bool = False
    when_unavailable: WhenUnavailable | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters that apply to a request, and their arguments as they go to Redis, made once a window."""

    all: tuple[BudgetCounter, ...]
    keys: tuple[bytes, ...]
    arguments: tuple[tuple[bytes, ...], ...]
    """For each counter: unit, limit, flags, downgrades_from, downgrade_rank, expires_at_s, bucket_ms."""
    described: bytes
    """For the janitor: a JSON array with [key, unit, bucket_ms, expires_at_s, model, tier] of each."""
    strict: bool
    filtered: bool
    """One of them counts some deployments only."""
    when_unavailable: frozenset[WhenUnavailable | None]
    """What their budgets say of an outage; of a request without any, the configuration's word counts."""


@record()
class Option:
    """What one deployment of a decision can take: the bounds, each over all attempts that may be billed.

    A call costs at most `base_nusd`, for its prompts, and `nusd_per_token` for each token of the
    longest of its answers; in tokens it takes `base_tokens` and `tokens_per_token` (the number of choices).
    Answers have at most `longest` tokens; a budget may cap them, to no less than `least`.
    """

    deployment: str
    tier: Tier
    rank: int
    base_nusd: int
    nusd_per_token: int
    base_tokens: int
    tokens_per_token: int
    longest: int
    least: int


@record()
class Bid:
    """What is asked of the store: any `most` of the `options`, in their order, that every counter can carry.

    `record` is booked at the reserved amount should this process die. `masks` says for each counter
    which options count for it, as a string of 0 and 1; "" for all.
    """

    request_id: str
    record: bytes
    now_ms: int
    options: tuple[Option, ...]
    most: int
    counters: Counters
    masks: tuple[bytes, ...]
    cache_key: str = ""
    look_up: bool = False


@record()
class CacheHit:
    """The request is answered: `entry` is what a settlement stored under its key."""

    entry: bytes


@record()
class Admitted:
    """`options` are the indices of those chosen, in order, and `caps` how long their answers may be, in tokens.

    `nusd` and `tokens` are now held in every counter that one of them counts for. `states` are spent
    and reserved of the watched counters, in their order, this request included.
    """

    options: tuple[int, ...]
    caps: tuple[int, ...]
    nusd: int
    tokens: int
    epoch: str
    states: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """`counter` is the index of the one that could not carry even the cheapest option.

    `why`: its limit leaves too little room, or it is used so far that only lower tiers may serve.
    `retry_at_ms` is when enough will have left a rolling window, None where that is not known.
    `needed` is what the cheapest option would have taken, in the counter's unit.
    """

    counter: int
    why: Literal["limit", "tier"]
    spent: int
    reserved: int
    needed: int
    retry_at_ms: int | None = None


Admission = CacheHit | Admitted | Refused


@record()
class Settlement:
    """What a finished request does to the stores.

    `admitted`: it holds a pending entry, whose reservation is given back; `epoch` is the one that it was
    admitted in, and `started_at_ms` the time. `amounts` is what it used of each counter, in their order.
    `keep_seconds` above zero stores `answer` under `cache_key`.
    """

    request_id: str
    record: bytes
    admitted: bool
    started_at_ms: int = 0
    epoch: str = BEFORE_ANY_EPOCH
    counters: Counters | None = None
    amounts: tuple[int, ...] = ()
    cache_key: str = ""
    keep_seconds: int = 0
    answer: bytes = b""


class AdmissionStore(Protocol):
    async def admit(self, bid: Bid) -> Admission:
        """Looks up the cache; on a miss holds what the first options that fit can cost.

        Raises StoreUnavailable.
        """

    def reduce(self, request_id: str, counters: Counters, nusd: int, tokens: int) -> None:
        """Gives back what an admitted request holds beyond `nusd` and `tokens`. Returns at once; may be lost."""

    def settle(self, settlement: Settlement) -> None:
        """Books `settlement`, now or as soon as the store answers again; settling twice changes nothing.

        Returns at once. Whatever is admitted afterwards sees it.
        """
