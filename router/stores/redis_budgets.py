"""Budget counters outside the hot path: reading, seeding, rebuilding; and the janitor's sweep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

import orjson
import redis

from policies.budget import Budget, BudgetState
from policies.periods import Period
from policies.spend import SpendRecord
from router.stores import redis_keys
from router.stores.counters import counter_of, window_of
from router.stores.redis_admission import SETTLE

logger = logging.getLogger(__name__)

_RAISE_TO = """
local spent = redis.call('HGET', KEYS[1], 'spent')
if not spent or tonumber(spent) < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'spent', ARGV[1])
end
redis.call('EXPIREAT', KEYS[1], ARGV[2])
"""


class RedisBudgets:
    """Everything about counters that need not be fast; through redis-py, synchronously."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._raise_to = client.register_script(_RAISE_TO)

    def states(self, budgets: Sequence[Budget], now: datetime) -> list[BudgetState]:
        """Each budget with what is spent and reserved in its current window."""
        periods = [window_of(budget, now) for budget in budgets]
        with self._redis.pipeline(transaction=False) as pipeline:
            for budget, period in zip(budgets, periods, strict=True):
                pipeline.hmget(counter_of(budget, period).key, "spent", "reserved")
            counters = pipeline.execute()
        return [
            BudgetState(budget, period.label, int(spent or 0), int(reserved or 0))
            for budget, period, (spent, reserved) in zip(budgets, periods, counters, strict=True)
        ]

    def seed(self, budget: Budget, spent_nusd: int, now: datetime) -> None:
        """Raises the counter of a budget to what its subject has spent already in this window.

        Never lowers it: the ledger may lag behind what is settled.
        """
        counter = counter_of(budget, window_of(budget, now))
        self._raise_to(keys=[counter.key], args=[spent_nusd, counter.expires_at_s])

    def whole(self) -> bool:
        """Whether the counters hold everything spent: false in a Redis that is new or lost its data."""
        return bool(self._redis.exists(redis_keys.COUNTERS_WHOLE))

    def mark_whole(self) -> None:
        self._redis.set(redis_keys.COUNTERS_WHOLE, "1")

    def rebuild(self, budgets: Iterable[Budget], spent: Callable[[Budget, Period], int], now: datetime) -> None:
        """Takes every counter from the ledger, then lets requests in again."""
        count = 0
        for budget in budgets:
            self.seed(budget, spent(budget, window_of(budget, now)), now)
            count += 1
        self.mark_whole()
        logger.info("took the counters of %d budgets from the ledger", count)


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
            amount, keys, record = entry.split(b"\n", 2)
            self._settle(
                keys=[pending_key, redis_keys.SPEND_STREAM, redis_keys.SPEND_STREAM, *keys.decode().split()],
                args=[request_id, amount, abandoned(record, int(amount)), "1", "0", b""],
            )
        if entries:
            logger.warning("worker %s died; booked %d requests at their reservation", worker_id, len(entries))
        return len(entries)


def abandoned(record: bytes, amount_nusd: int) -> bytes:
    """The provisional record of a request whose end nobody saw."""
    provisional = SpendRecord.from_json(orjson.loads(record))
    values = provisional.to_json() | {
        "status": "abandoned",
        "cost_nusd": amount_nusd,
        "reserved_nusd": amount_nusd,
        "usage_source": "reserved",
    }
    return orjson.dumps(values)
