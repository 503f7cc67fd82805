"""Budget counters outside the hot path: reading, seeding, rebuilding, reconciling; and the janitor's sweep."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import orjson
import redis

from policies.budget import Budget, BudgetState
from policies.periods import MAX_BUCKETS, Period
from policies.spend import SpendRecord
from router.stores import redis_keys
from router.stores.admission import BudgetCounter, Settlement
from router.stores.counters import counter_of, counters_of, used_of, window_of
from router.stores.redis_admission import SETTLE, settle_arguments

logger = logging.getLogger(__name__)

Used = dict[tuple[str, int], int]
"""What counts against a budget by (end user, part of a rolling window), as `Ledger.usage` gives it."""
UsageOf = Callable[[Budget, Period], Used]

ABANDONED_SECONDS = 7 * 86_400
"""For how long the truth of a request that was booked at its reservation may still arrive."""

# KEYS: a counter. ARGV: when it expires (0: by itself), '1' to lower it, too; then pairs of bucket ('': none), amount.
_SET = """
local lowers, spent = ARGV[2] == '1', 0
for at = 3, #ARGV, 2 do
  local field = ARGV[at] == '' and 'spent' or 'b' .. ARGV[at]
  local known = tonumber(redis.call('HGET', KEYS[1], field) or 0)
  local wanted = tonumber(ARGV[at + 1])
  local change = (lowers or wanted > known) and wanted - known or 0
  if field ~= 'spent' then
    redis.call('HINCRBY', KEYS[1], field, string.format('%.0f', change))
  end
  redis.call('HINCRBY', KEYS[1], 'spent', string.format('%.0f', change))
end
if ARGV[1] ~= '0' then
  redis.call('EXPIREAT', KEYS[1], ARGV[1])
end
"""

# KEYS: marker, uncounted. ARGV: uncounted as it was before the ledger was summed up, the new epoch.
_MARK = """
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# KEYS: counter, stream. ARGV: what it had spent before the ledger was summed up, the ledger's sum.
_RECONCILE = """
if (redis.call('HGET', KEYS[1], 'spent') or '0') ~= ARGV[1] or redis.call('XLEN', KEYS[2]) > 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'spent', ARGV[2])
return 1
"""


class RedisBudgets:
    """Everything about counters that need not be fast; through redis-py, synchronously."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._set = client.register_script(_SET)
        self._mark = client.register_script(_MARK)
        self._reconcile = client.register_script(_RECONCILE)

    def states(
        self, budgets: Sequence[Budget], now: datetime, users: Mapping[str, Collection[str]] | None = None
    ) -> list[BudgetState]:
        """Each budget with what is spent and reserved in its current window.

        A budget of every user has a state for each of those that `users` names under its id.
        """
        named = users or {}
        wanted: list[tuple[Budget, str | None]] = []
        for budget in budgets:
            of_one: Iterable[str | None] = named.get(budget.id, ()) if budget.is_of_every_user else (None,)
            wanted += [(budget, user) for user in of_one]
        periods = [window_of(budget, now) for budget, _ in wanted]
        with self._redis.pipeline(transaction=False) as pipeline:
            for (budget, user), period in zip(wanted, periods, strict=True):
                pipeline.hgetall(counter_of(budget, period, user).key)
            counters = pipeline.execute()
        return [
            BudgetState(
                budget, period.label, _spent(counter, budget, now), int(counter.get(b"reserved", 0)), user or ""
            )
            for (budget, user), period, counter in zip(wanted, periods, counters, strict=True)
        ]

    def seed(self, budget: Budget, used: Used, now: datetime) -> None:
        """Raises the counters of a budget to what its subject has used already in this window.

        Never lowers them: the ledger may lag behind what is settled.
        """
        self._put(budget, used, now, lowers=False)

    def whole(self) -> bool:
        """Whether the counters hold everything spent: false in a Redis that is new or lost its data."""
        return bool(self._redis.exists(redis_keys.COUNTERS_WHOLE))

    def rebuild(self, budgets: Iterable[Budget], used: UsageOf, now: datetime) -> bool:
        """Takes every counter from the ledger, then lets requests in again, in a new epoch.

        False where something was settled meanwhile that the ledger may not have had: try again.
        """
        before = cast(bytes | None, self._redis.get(redis_keys.UNCOUNTED)) or b"0"
        if self._redis.xlen(redis_keys.SPEND_STREAM):
            return False
        count = 0
        for budget in budgets:
            self._put(budget, used(budget, window_of(budget, now)), now, lowers=True)
            count += 1
        epoch = secrets.token_hex(8)
        marked = self._mark(keys=[redis_keys.COUNTERS_WHOLE, redis_keys.UNCOUNTED], args=[before, epoch])
        if marked:
            logger.info("took the counters of %d budgets from the ledger", count)
        return bool(marked)

    def reconcile(self, budget: Budget, used: UsageOf, now: datetime) -> int:
        """Sets the counters of `budget` to the ledger's sums; returns how many were off.

        Leaves alone whatever moves meanwhile, and rolling windows, which forget a mistake by themselves.
        """
        period = window_of(budget, now)
        if budget.parsed_window.rolling_s or budget.unit == "parallel":
            return 0
        users: Collection[str | None] = (None,)
        if budget.is_of_every_user:
            users = {user for user, _ in used(budget, period)}
        keys = {user: counter_of(budget, period, user).key for user in users}
        before = {user: cast(bytes | None, self._redis.hget(key, "spent")) or b"0" for user, key in keys.items()}
        if self._redis.xlen(redis_keys.SPEND_STREAM):
            return 0
        sums = used(budget, period)
        corrected = 0
        for user, key in keys.items():
            amount = sums.get((user or "", 0), 0)
            known = int(before[user])
            if amount != known and self._reconcile(keys=[key, redis_keys.SPEND_STREAM], args=[before[user], amount]):
                logger.warning(
                    "the counter of budget %s was off by %s: set to the ledger's %s",
                    budget.id, budget.amount_text(abs(known - amount)), budget.amount_text(amount),
                )  # fmt: skip
                corrected += 1
        return corrected

    def evicts(self) -> str | None:
        """The policy by which this Redis would throw counters away when it is full; None where it would not."""
        try:
            policy = cast(dict[str, str], self._redis.config_get("maxmemory-policy")).get("maxmemory-policy")
        except redis.ResponseError:  # a managed Redis does not say
            return None
        return None if policy in (None, "noeviction") or str(policy).startswith("volatile") else str(policy)

    def _put(self, budget: Budget, used: Used, now: datetime, *, lowers: bool) -> None:
        period = window_of(budget, now)
        by_user: dict[str | None, list[tuple[int, int]]] = {} if budget.is_of_every_user else {None: []}
        for (user, bucket), amount in used.items():
            by_user.setdefault(user if budget.is_of_every_user else None, []).append((bucket, amount))
        for owner, amounts in by_user.items():
            counter = counter_of(budget, period, owner)
            pairs: list[Any] = []
            for bucket, amount in amounts:
                pairs += [bucket if counter.bucket_ms else "", amount]
            if not pairs and not counter.bucket_ms:
                pairs = ["", 0]
            if budget.unit != "parallel":
                expires_at_s = counter.expires_at_s or int(now.timestamp()) + 3 * budget.parsed_window.rolling_s
                self._set(keys=[counter.key], args=[expires_at_s, "1" if lowers else "0", *pairs])


def _spent(counter: Mapping[bytes, bytes], budget: Budget, now: datetime) -> int:
    bucket_ms = budget.parsed_window.bucket_ms
    if not bucket_ms:
        return int(counter.get(b"spent", 0))
    oldest = int(now.timestamp() * 1000) // bucket_ms - MAX_BUCKETS
    parts = {int(field[1:]): int(amount) for field, amount in counter.items() if field[1:].isdigit()}
    return sum(amount for bucket, amount in parts.items() if bucket >= oldest)


class Janitor:
    """Books the reservations of dead workers: at their full amount, marked `abandoned`."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._settle = client.register_script(SETTLE)

    def sweep(self) -> int:
        """Settles what lapsed workers left pending; returns how many requests that were."""
        swept = 0
        for raw in cast(set[bytes], self._redis.smembers(redis_keys.WORKERS)):
            worker_id = raw.decode()
            if not self._redis.exists(redis_keys.lease(worker_id)):
                swept += self._abandon(worker_id)
                self._redis.srem(redis_keys.WORKERS, worker_id)
        return swept

    def _abandon(self, worker_id: str) -> int:
        pending_key = redis_keys.pending(worker_id)
        entries = cast(dict[bytes, bytes], self._redis.hgetall(pending_key))
        for request_id, entry in entries.items():
            guess = abandoned(request_id.decode(), entry)
            count, *arguments = cast(list[Any], settle_arguments(guess, pending_key, ABANDONED_SECONDS))
            self._settle(keys=arguments[:count], args=arguments[count:])
        if entries:
            logger.warning("worker %s died; booked %d requests at their reservation", worker_id, len(entries))
        return len(entries)


def abandoned(request_id: str, entry: bytes) -> Settlement:
    """Of a request whose end nobody saw: what it held is taken as used."""
    _, first, bounds, described, raw = entry.split(b"\n", 4)
    nusd, tokens = [int(bound) for bound in bounds.split()]
    provisional = orjson.loads(raw)
    options = provisional.pop("options", [])
    chosen = options[int(first) - 1] if int(first) else {"reason": "cache", "cache": "hit"}
    guess = {
        "status": "abandoned",
        "cost_nusd": nusd,
        "reserved_nusd": nusd,
        "input_tokens": tokens,
        "usage_source": "reserved",
    }
    record = SpendRecord.from_json(provisional | chosen | guess)
    counters = [
        BudgetCounter(key, unit, 0, bucket_ms=bucket_ms, expires_at_s=expires_at_s, model=model, tier=tier)
        for key, unit, bucket_ms, expires_at_s, model, tier in orjson.loads(described)
    ]
    return Settlement(
        request_id=request_id,
        record=orjson.dumps(record.to_json()),
        admitted=True,
        started_at_ms=record.started_at_ms,
        counters=counters_of(counters),
        amounts=tuple(used_of(counter, record) for counter in counters),
    )
