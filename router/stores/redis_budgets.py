"""Budget counters outside the hot path: reading, seeding, rebuilding, reconciling."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, cast

import redis

from policies.budget import Budget, BudgetState
from policies.periods import MAX_BUCKETS, Period
from router.clock import SYSTEM_CLOCK, Clock
from router.stores import redis_keys
from router.stores.admission import BudgetCounter
from router.stores.counters import counter_of, window_of

logger = logging.getLogger(__name__)

CLOCK_SECONDS = 60.0

Used = dict[tuple[str, int], int]
"""What counts against a budget by (end user, part of a rolling window), as `Ledger.usage` gives it."""
UsageOf = Callable[[Budget, Period], Used]
CounterAmounts = tuple[str, list[Any]]
"""A counter's key; when it expires, and pairs of part ("" where it has none) and amount."""

ROLLING_GRACE_SECONDS = 172_800
"""How long the counter of a rolling window outlives twice the window: longer than any request holds something in it."""
_RECOUNT_SECONDS = 60
"""For how long a claim to recount stands unless it is renewed: with each budget that is summed up."""
_DRAIN_SECONDS = 2.0
_POLL_SECONDS = 0.02
_BATCH = 500

# KEYS: counter. ARGV: when it expires (0: by itself); then pairs of bucket ('': none), amount.
_RAISE = """
local function raise(key, expires_at, first)
  for at = first, #ARGV, 2 do
    local field = ARGV[at] == '' and 'spent' or 'b' .. ARGV[at]
    local known = tonumber(redis.call('HGET', key, field) or 0)
    local change = string.format('%.0f', math.max(tonumber(ARGV[at + 1]) - known, 0))
    if field ~= 'spent' then
      redis.call('HINCRBY', key, field, change)
    end
    redis.call('HINCRBY', key, 'spent', change)
  end
  if expires_at ~= '0' then
    redis.call('EXPIREAT', key, expires_at)
  end
end
"""

# KEYS: counter. ARGV: how often it had been lowered before the ledger was summed up; then as above.
_SEED = (
    _RAISE
    + """
if (redis.call('HGET', KEYS[1], 'lowered') or '0') ~= ARGV[1] then
  return 0
end
raise(KEYS[1], ARGV[2], 3)
return 1
"""
)

# KEYS: counter, claim to recount. ARGV: whose the claim is, for how long to renew it; then as above.
_RECOUNT = (
    _RAISE
    + """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('EXPIRE', KEYS[2], ARGV[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field ~= 'reserved' then
    redis.call('HDEL', KEYS[1], field)
  end
end
raise(KEYS[1], ARGV[3], 4)
return 1
"""
)

# KEYS: marker, claim to recount. ARGV: whose the claim is, the new epoch.
_MARK = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

# KEYS: claim to recount. ARGV: whose it is.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""

# KEYS: counter. ARGV: what it had spent before the ledger was summed up, the ledger's sum, when it expires.
_RECONCILE = """
if (redis.call('HGET', KEYS[1], 'spent') or '0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'spent', ARGV[2])
redis.call('EXPIREAT', KEYS[1], ARGV[3])
return 1
"""


class RedisBudgets:
    """Everything about counters that need not be fast; through redis-py, synchronously."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._seed = client.register_script(_SEED)
        self._recount = client.register_script(_RECOUNT)
        self._mark = client.register_script(_MARK)
        self._release = client.register_script(_RELEASE)
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
                budget=budget,
                window_label=period.label,
                spent=_spent(counter, budget, now),
                reserved=int(counter.get(b"reserved", 0)),
                end_user=user or "",
                exhausted=int(counter.get(b"exhausted", 0)) > period.start.timestamp() * 1000,
            )
            for (budget, user), period, counter in zip(wanted, periods, counters, strict=True)
        ]

    def seed(self, budget: Budget, used: UsageOf, now: datetime) -> bool:
        """Raises the counters of a budget to what its subject has used already in this window.

        Never lowers them: the ledger may lag behind what is settled. False where one was left alone, since the truth
        about a request that was booked at its reservation lowered it meanwhile: try again.
        """
        period = window_of(budget, now)
        sums = used(budget, period)
        lacking = self._lacking(_amounts(budget, sums, now))
        if any(times != b"0" for times in lacking.values()):
            # The ledger may not have had the truth yet. Where it takes too long: rather too high than too low.
            self._drained()
            sums = used(budget, period)
        return not lacking or self._raise(lacking, _amounts(budget, sums, now))

    def _lacking(self, amounts: Iterable[CounterAmounts]) -> dict[str, bytes]:
        """The counters that have less than `amounts`, and how often each has been lowered."""
        lacking: dict[str, bytes] = {}
        for batch in _batches(amounts):
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, (_, *pairs) in batch:
                    pipeline.hmget(key, "lowered", *["spent" if part == "" else f"b{part}" for part in pairs[::2]])
                for (key, (_, *pairs)), (lowered, *known) in zip(batch, pipeline.execute(), strict=True):
                    if any(amount > int(have or 0) for amount, have in zip(pairs[1::2], known, strict=True)):
                        lacking[key] = lowered or b"0"
        return lacking

    def _raise(self, lowered: Mapping[str, bytes], amounts: Iterable[CounterAmounts]) -> bool:
        """Those of `lowered` to their amounts, unless they have been lowered again; whether none has been."""
        are_raised = True
        for batch in _batches(amounts):
            with self._redis.pipeline(transaction=False) as pipeline:
                for key, arguments in batch:
                    if key in lowered:
                        self._seed(keys=[key], args=[lowered[key], *arguments], client=pipeline)
                are_raised &= all(pipeline.execute())
        return are_raised

    def whole(self) -> bool:
        """Whether the counters hold everything spent: false in a Redis that is new or lost its data."""
        return bool(self._redis.exists(redis_keys.COUNTERS_WHOLE))

    def rebuild(self, budgets: Iterable[Budget], used: UsageOf, now: datetime) -> bool:
        """Takes every counter from the ledger, then lets requests in again, in a new epoch.

        False where something was settled meanwhile that the ledger may not have had, or where somebody else is
        at it: try again.
        """
        claim = secrets.token_hex(8)
        if not self._redis.set(redis_keys.RECOUNT, claim, nx=True, ex=_RECOUNT_SECONDS):
            return False
        try:
            return self._drained() and self._recount_all(budgets, used, now, claim)
        finally:
            self._release(keys=[redis_keys.RECOUNT], args=[claim])

    def _recount_all(self, budgets: Iterable[Budget], used: UsageOf, now: datetime, claim: str) -> bool:
        count = 0
        for budget in budgets:
            for batch in _batches(_amounts(budget, used(budget, window_of(budget, now)), now)):
                with self._redis.pipeline(transaction=False) as pipeline:
                    for key, arguments in batch:
                        keys = [key, redis_keys.RECOUNT]
                        self._recount(keys=keys, args=[claim, _RECOUNT_SECONDS, *arguments], client=pipeline)
                    if not all(pipeline.execute()):
                        return False
            count += 1
        epoch = secrets.token_hex(8)
        marked = self._mark(keys=[redis_keys.COUNTERS_WHOLE, redis_keys.RECOUNT], args=[claim, epoch])
        if marked:
            logger.info("took the counters of %d budgets from the ledger", count)
        return bool(marked)

    def _drained(self) -> bool:
        """Waits until the ledger has all that is in the stream by now; what comes later does not matter."""
        last = cast(list[Any], self._redis.xrevrange(redis_keys.SPEND_STREAM, count=1))
        deadline_s = time.monotonic() + _DRAIN_SECONDS
        while last and self._redis.xrange(redis_keys.SPEND_STREAM, "-", last[0][0], count=1):
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def reconcile(self, budget: Budget, used: UsageOf, now: datetime) -> int:
        """Sets the counters of `budget` to the ledger's sums; returns how many were off.

        What moves meanwhile is raised to them and never lowered. Leaves alone rolling windows, which forget a mistake
        by themselves.
        """
        period = window_of(budget, now)
        if budget.parsed_window.rolling_s or budget.unit == "parallel":
            return 0
        sums = used(budget, period)
        users: Collection[str] = {user for user, _ in sums} if budget.is_of_every_user else ("",)
        counters = {user: counter_of(budget, period, user if budget.is_of_every_user else None) for user in users}
        before = dict(zip(counters, self._spent_and_lowered(counters.values()), strict=True))
        if all(int(before[user][0]) == sums.get((user, 0), 0) for user in users) or not self._drained():
            return 0
        sums = used(budget, period)
        corrected, moving = 0, Used()
        for user, counter in counters.items():
            amount, known = sums.get((user, 0), 0), int(before[user][0])
            arguments: list[bytes | int] = [before[user][0], amount, counter.expires_at_s]
            if amount != known and self._reconcile(keys=[counter.key], args=arguments):
                logger.warning(
                    "the counter of budget %s was off by %s: set to the ledger's %s",
                    budget.id, budget.amount_text(abs(known - amount)), budget.amount_text(amount),
                )  # fmt: skip
                corrected += 1
            elif amount > known:
                moving[user, 0] = amount
        lowered = {counters[user].key: before[user][1] for user, _ in moving}
        self._raise(lowered, _amounts(budget, moving, now))
        return corrected

    def _spent_and_lowered(self, counters: Collection[BudgetCounter]) -> list[tuple[bytes, bytes]]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for counter in counters:
                pipeline.hmget(counter.key, "spent", "lowered")
            return [(spent or b"0", lowered or b"0") for spent, lowered in pipeline.execute()]

    def time_s(self) -> float:
        """Redis's own, in Unix seconds."""
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6

    def run_id(self) -> str:
        """Another one after each restart, and where a replica has taken over; "" where Redis does not say."""
        try:
            return str(self._redis.info("server").get("run_id", ""))
        except redis.ResponseError:
            return ""

    def evicts(self) -> str | None:
        """The policy by which this Redis would throw counters away when it is full; None where it would not."""
        try:
            policy = cast(dict[str, str], self._redis.config_get("maxmemory-policy")).get("maxmemory-policy")
        except redis.ResponseError:  # a managed Redis does not say
            return None
        # Counters expire, too: the "volatile" policies would take them for less than the cache.
        return None if policy in (None, "noeviction") else str(policy)


def _amounts(budget: Budget, used: Used, now: datetime) -> Iterator[CounterAmounts]:
    if budget.unit == "parallel":
        return  # nothing of it is ever spent
    period = window_of(budget, now)
    by_user: dict[str | None, list[tuple[int, int]]] = {} if budget.is_of_every_user else {None: []}
    for (user, bucket), amount in used.items():
        by_user.setdefault(user if budget.is_of_every_user else None, []).append((bucket, amount))
    for owner, amounts in by_user.items():
        counter = counter_of(budget, period, owner)
        rolling_s = budget.parsed_window.rolling_s
        # As long as admit.lua lets a rolling one live.
        expires_at_s = counter.expires_at_s or int(now.timestamp()) + 2 * rolling_s + ROLLING_GRACE_SECONDS
        pairs: list[Any] = []
        for bucket, amount in amounts:
            pairs += [bucket if counter.bucket_ms else "", amount]
        if not pairs and not counter.bucket_ms:
            pairs = ["", 0]
        yield counter.key, [expires_at_s, *pairs]


def _batches(amounts: Iterable[CounterAmounts]) -> Iterator[list[CounterAmounts]]:
    """So many at a time that a budget of every user takes no round trip for each of them."""
    left = iter(amounts)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _spent(counter: Mapping[bytes, bytes], budget: Budget, now: datetime) -> int:
    bucket_ms = budget.parsed_window.bucket_ms
    if not bucket_ms:
        return int(counter.get(b"spent", 0))
    oldest = int(now.timestamp() * 1000) // bucket_ms - MAX_BUCKETS
    parts = {int(field[1:]): int(amount) for field, amount in counter.items() if field[1:].isdigit()}
    return sum(amount for bucket, amount in parts.items() if bucket >= oldest)


def clock_of(budgets: RedisBudgets, system: Clock = SYSTEM_CLOCK) -> Clock:
    """The system's clock, put right by Redis's, which the workers tell windows by; asked again now and then."""
    ahead_s, ask_at_s = 0.0, 0.0

    def wall() -> float:
        nonlocal ahead_s, ask_at_s
        if system.monotonic() >= ask_at_s:
            try:
                ahead_s = budgets.time_s() - system.wall()
            except redis.RedisError:
                pass  # it will not have changed much
            ask_at_s = system.monotonic() + CLOCK_SECONDS
        return system.wall() + ahead_s

    return Clock(wall, system.monotonic)
