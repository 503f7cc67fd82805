"""The janitor: books what dead workers left pending."""

from __future__ import annotations

import logging
from typing import Any, cast

import orjson
import redis

from policies.spend import SpendRecord
from router.stores import redis_keys
from router.stores.admission import BudgetCounter, Settlement
from router.stores.counters import counters_of, used_of
from router.stores.redis_admission import SETTLE, settle_arguments

logger = logging.getLogger(__name__)

ABANDONED_SECONDS = 7 * 86_400
"""For how long the truth of a request that was booked at its reservation may still arrive."""

# KEYS: workers, lease, pending requests. ARGV: the worker. Whoever has come back meanwhile must be found when it dies.
_FORGET = """
if redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
end
"""


class Janitor:
    """Books the reservations of dead workers: at their full amount, marked `abandoned`."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._settle = client.register_script(SETTLE)
        self._forget = client.register_script(_FORGET)

    def sweep(self) -> int:
        """Settles what lapsed workers left pending; returns how many requests that were."""
        swept = 0
        for raw in cast(set[bytes], self._redis.smembers(redis_keys.WORKERS)):
            worker_id = raw.decode()
            if not self._redis.exists(redis_keys.lease(worker_id)):
                swept += self._abandon(worker_id)
                keys = [redis_keys.WORKERS, redis_keys.lease(worker_id), redis_keys.pending(worker_id)]
                self._forget(keys=keys, args=[worker_id])
        return swept

    def _abandon(self, worker_id: str) -> int:
        pending_key = redis_keys.pending(worker_id)
        entries = cast(dict[bytes, bytes], self._redis.hgetall(pending_key))
        for request_id, entry in entries.items():
            try:
                guess = abandoned(request_id.decode(), entry)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                self._set_aside(worker_id, request_id, entry, error)
                continue
            count, *arguments = cast(list[Any], settle_arguments(guess, pending_key, ABANDONED_SECONDS))
            self._settle(keys=arguments[:count], args=arguments[count:])
        if entries:
            logger.warning("worker %s died; booked %d requests at their reservation", worker_id, len(entries))
        return len(entries)

    def _set_aside(self, worker_id: str, request_id: bytes, entry: bytes, error: Exception) -> None:
        """What cannot be read must not keep the rest from being booked."""
        aside = redis_keys.unreadable(worker_id)
        logger.error("request %s of dead worker %s goes to %s: %s", request_id.decode(), worker_id, aside, error)
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(aside, request_id, entry)
            pipeline.hdel(redis_keys.pending(worker_id), request_id)
            for key, amount in _held_by(entry):
                pipeline.hincrby(key, "reserved", -amount)
            pipeline.execute()


def _held_by(entry: bytes) -> list[tuple[str, int]]:
    """What an entry holds of which counter, as far as it can be read: given back, or it would be held for good."""
    try:
        amounts, _, _, described, _ = entry.split(b"\n", 4)
        return [
            (str(counter[0]), int(amount))
            for counter, amount in zip(orjson.loads(described), amounts.split(), strict=True)
        ]
    except (ValueError, TypeError, IndexError):
        return []


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
        "output_tokens": 0,
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
