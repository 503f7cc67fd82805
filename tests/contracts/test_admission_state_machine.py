"""Any interleaving of what can befall a request and its store: Redis and the model in Python agree after each step."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from math import inf
from typing import Any, cast

import orjson
import pytest
import redis
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from classifiers.base import TIERS
from policies.budget import Budget
from policies.periods import Period
from policies.spend import SpendRecord
from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import LOCAL_EPOCH, Admission, Admitted, Bid, BudgetCounter, CacheHit, Option, Settlement
from router.stores.counters import counter_of, counters_of, used_of, window_of
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_budgets import RedisBudgets, Used
from router.stores.redis_connection import RedisConnection
from router.stores.redis_janitor import Janitor
from tests.support.memory_admission import MemoryAdmissionStore, Pending
from tests.support.redis_server import redis_server
from tests.support.spend import spend_record

START_MS = int(datetime(2030, 11, 30, 23, 40, tzinfo=UTC).timestamp() * 1000)  # an hour, a day and a month end soon
USERS = ("ann", "bob")
DEPLOYMENTS = ("small", "medium", "large")
ENTRIES = (redis_keys.cache_entry("one"), redis_keys.cache_entry("two"))


def _budget(name: str, limit: int, **changes: Any) -> Budget:
    return Budget(**{"id": name, "subject_kind": "team", "subject_id": "t", "limit": limit, **changes})


BUDGETS = (
    _budget("hard", 900),
    _budget("strict", 700, action="reject", window="hour"),
    _budget("soft", 300, action="warn", window="day", paced=True),
    _budget("lowered", 400, action="downgrade", downgrade_from=Fraction(1, 2), window="lifetime"),
    _budget("hard-lowered", 800, downgrade_from=Fraction(1, 4), downgrade_to="moderate", window="week"),
    _budget("rolling", 600, window="rolling:1h"),
    _budget("strict-rolling", 500, action="reject", window="rolling:5m"),
    _budget("tokens", 400, unit="tokens", window="hour"),
    _budget("token-rate", 200, unit="tokens", window="minute"),
    _budget("requests", 6, unit="requests", window="day"),
    _budget("request-rate", 3, unit="requests", window="minute", action="reject"),
    _budget("at-once", 3, unit="parallel", window="now"),
    _budget("large", 500, model="large"),
    _budget("complex", 60, tier="complex", unit="tokens", window="rolling:1h"),
    _budget("each-user", 400, subject_kind="user", subject_id="t/*"),
)

AMOUNTS = st.integers(0, 12).map(lambda tens: tens * 10)
OPTIONS = st.builds(
    lambda rank, base_nusd, per_token, base_tokens, choices, least, more: Option(
        deployment=DEPLOYMENTS[rank], tier=TIERS[rank], rank=rank, base_nusd=base_nusd, nusd_per_token=per_token,
        base_tokens=base_tokens, tokens_per_token=choices, longest=least + more, least=least,
    ),
    st.integers(0, 2), AMOUNTS, st.integers(0, 4), AMOUNTS, st.integers(1, 2), st.integers(0, 20),
    st.sampled_from([0, 5, 1_000]),
)  # fmt: skip


@dataclass(slots=True)
class UnderWay:
    """A request that its worker has admitted and not settled."""

    bid: Bid
    admission: Admitted | CacheHit
    entry: Pending
    is_reduced: bool = False
    is_abandoned: bool = False
    was_lost: bool = False
    """The store lost what it held, maybe with what the janitor had booked for it."""

    @property
    def epoch(self) -> str:
        return self.admission.epoch if isinstance(self.admission, Admitted) else ""


class Admissions(RuleBasedStateMachine):
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushall()
        self.client.set(redis_keys.COUNTERS_WHOLE, "1")
        self.connection = self._run(RedisConnection.open(self.url, timeout_s=5, scripts=SCRIPTS))
        self.real = RedisAdmissionStore(self.connection, "w1")
        self.real._resume_at_s = inf  # it would hold again by itself, at its own time: that is a rule of its own here
        self.model = MemoryAdmissionStore()
        self.budgets = list(BUDGETS)
        self.now_ms = START_MS
        self.names = iter(range(10_000))
        self.under_way: dict[str, UnderWay] = {}
        self.settled: dict[str, tuple[Settlement, bool]] = {}
        """The last settlement of each request, and whether the store has lost everything since."""
        self.ledger: dict[str, SpendRecord] = {}
        self.applied: dict[str, frozenset[str]] = {}
        """Which counters each request moves."""
        self.known: dict[str, BudgetCounter] = {}
        """Every counter that there has been, by its key."""
        self.forgotten: set[str] = set()
        """Counters of windows that were over when everything was lost: nobody counts those again."""
        self.rebuilt_from: dict[str, int] = {}
        self.exceeded: set[str] = set()
        """Counters that may be beyond their limit: something cost more than was held, or the limit was lowered."""
        self.exact = True
        """Nothing was booked that the ledger may have had already, as a store that lost its data cannot know."""

    def teardown(self) -> None:
        self._run(self.connection.close())
        self._run(asyncio.sleep(0))
        self.loop.close()
        self.client.close()

    def _run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    # requests

    @rule(
        options=st.lists(OPTIONS, min_size=1, max_size=4),
        budgets=st.sets(st.integers(0, len(BUDGETS) - 1), max_size=5),
        most=st.integers(1, 4),
        user=st.sampled_from(USERS),
        entry=st.sampled_from(ENTRIES),
        look_up=st.booleans(),
        behind_ms=st.sampled_from([0, 0, 0, 300, 4_000]),
    )
    def admit(
        self, options: list[Option], budgets: set[int], most: int, user: str, entry: str, look_up: bool, behind_ms: int
    ) -> None:
        counters = self._counters([self.budgets[index] for index in sorted(budgets)], user, self.now_ms - behind_ms)
        request_id = f"r{next(self.names)}"
        bid = Bid(
            request_id=request_id,
            record=self._provisional(request_id, options, user, self.now_ms - behind_ms),
            now_ms=self.now_ms - behind_ms,
            options=tuple(options),
            most=most,
            counters=counters_of(counters),
            masks=tuple(_mask(counter, options) for counter in counters),
            cache_key=entry,
            look_up=look_up,
        )
        expected = self._asked(self.model, bid)
        found = self._asked(self.real, bid)
        assert found == expected
        if isinstance(found, (Admitted, CacheHit)):
            self.under_way[request_id] = UnderWay(bid, found, self.model.pending[request_id])
            self.applied[request_id] = frozenset(counter.key for counter in counters)

    def _asked(self, store: Any, bid: Bid) -> Admission | None:
        try:
            return cast(Admission, self._run(store.admit(bid)))
        except StoreUnavailable:
            return None

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), share=st.integers(0, 8), over=st.sampled_from([False] * 9 + [True]), keep=st.booleans())
    def settle(self, data: st.DataObject, share: int, over: bool, keep: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.under_way)))
        which = data.draw(st.integers(0, 3))
        self._end(request_id, self._truth(request_id, share, over, which, keep))

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """Its answer was lost, and the worker repeats itself."""
        settlement, was_lost = self.settled[data.draw(st.sampled_from(sorted(self.settled)))]
        if was_lost and any(settlement.amounts) and self.model.epoch is not None:
            self.exact = False
            self.exceeded |= self.known.keys()
        self._settle(settlement)

    @rule(budgets=st.sets(st.integers(0, len(BUDGETS) - 1), max_size=3), nusd=AMOUNTS)
    def settle_what_was_let_in_locally(self, budgets: set[int], nusd: int) -> None:
        counters = self._counters([self.budgets[index] for index in sorted(budgets)], "ann", self.now_ms)
        record = self._record(f"r{next(self.names)}", DEPLOYMENTS[0], nusd, nusd // 2, "ann", self.now_ms)
        self.exceeded |= {counter.key for counter in counters}
        self.applied[record.request_id] = frozenset(counter.key for counter in counters)
        settlement = self._settlement(record, counters, LOCAL_EPOCH)
        self._settle(settlement)
        self.settled[record.request_id] = (settlement, False)
        self.ledger[record.request_id] = record

    @rule()
    def settle_a_refused_one(self) -> None:
        record = spend_record(f"r{next(self.names)}", reason="refused", cost_nusd=0, status="refused")
        self._settle(Settlement(record.request_id, orjson.dumps(record.to_json()), admitted=False))
        self.ledger[record.request_id] = record
        self.applied[record.request_id] = frozenset()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), nusd=AMOUNTS, tokens=AMOUNTS)
    def reduce(self, data: st.DataObject, nusd: int, tokens: int) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.under_way)))
        counters = self.under_way[request_id].bid.counters
        assume(isinstance(self.under_way[request_id].admission, Admitted))
        self.under_way[request_id].is_reduced = True
        for store in (self.real, self.model):
            store.reduce(request_id, counters, nusd, tokens)
        self._run(self.connection.execute("PING"))

    # time, and people

    @rule(seconds=st.sampled_from([1, 7, 30, 59, 61, 400, 1_300, 3_700, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1_000 + 137

    @rule(index=st.integers(0, len(BUDGETS) - 1), tenths=st.sampled_from([0, 3, 9, 10, 15]))
    def somebody_changes_a_limit(self, index: int, tenths: int) -> None:
        before = self.budgets[index]
        self.budgets[index] = replace(before, limit=BUDGETS[index].limit * tenths // 10)
        if self.budgets[index].limit < before.limit:
            self.exceeded |= {key for key in self.known if key.startswith(f"{{parsimony}}:budget:{before.id}:")}

    # what befalls workers and stores

    @rule()
    def the_worker_is_taken_for_dead(self) -> None:
        for request_id in self.model.pending:
            held = self.under_way[request_id]
            if held.was_lost and held.is_abandoned:
                self.exact = False
            held.is_abandoned, held.was_lost = True, False
        before = len(self.model.stream)
        self.model.abandon()
        self.client.sadd(redis_keys.WORKERS, "w1")
        swept = Janitor(self.client).sweep()
        assert swept == len(self.model.stream) - before
        for raw in self.model.stream[before:]:
            record = SpendRecord.from_json(orjson.loads(raw))
            self.ledger[record.request_id] = record

    @rule()
    def the_store_loses_everything(self) -> None:
        self.client.flushall()
        self.model.lose_everything()
        for held in self.under_way.values():
            held.was_lost = True
        self.settled = {name: (settlement, True) for name, (settlement, _) in self.settled.items()}

    @rule()
    def the_worker_holds_again(self) -> None:
        held = {name: one.entry for name, one in self.under_way.items() if isinstance(one.admission, Admitted)}
        more = any(one.is_reduced or one.is_abandoned for one in self.under_way.values())
        if self.model.epoch is not None or more:
            self.exceeded |= self.known.keys()  # others may have taken the room
        self.model.hold_again(held)
        self.real._hold_again()  # as on a new connection
        self._run(self.connection.execute("PING"))

    @precondition(lambda self: self.model.epoch is None)
    @rule(data=st.data(), is_interrupted=st.booleans())
    def the_counters_are_taken_from_the_ledger(self, data: st.DataObject, is_interrupted: bool) -> None:
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC)
        self.client.delete(redis_keys.SPEND_STREAM)  # the ledger has it all
        self.model.stream.clear()
        moved = False

        def used(budget: Budget, period: Period) -> Used:
            nonlocal is_interrupted, moved
            if is_interrupted and self.under_way:
                is_interrupted = False
                request_id = data.draw(st.sampled_from(sorted(self.under_way)))
                truth = self._truth(request_id, 5, False, 0, False)
                moved = any(truth.amounts)
                self._end(request_id, truth)
            return self._used(budget, period)

        is_whole = RedisBudgets(self.client).rebuild(self.budgets, used, now)
        assert is_whole == RedisBudgets(self.client).whole() == (not moved)
        if is_whole:
            self._rebuild_model(now)

    def _used(self, budget: Budget, period: Period) -> Used:
        """As `Ledger.usage` sums it up."""
        sums: Used = {}
        for user in USERS if budget.is_of_every_user else ("",):
            counter = counter_of(budget, period, user or None)
            start_ms = int(period.start.timestamp() * 1000) if counter.bucket_ms else 0
            for record in self.ledger.values():
                if counter.key in self.applied[record.request_id] and record.started_at_ms >= start_ms:
                    at = (user, record.started_at_ms // counter.bucket_ms if counter.bucket_ms else 0)
                    sums[at] = sums.get(at, 0) + used_of(counter, record)
        return sums

    def _rebuild_model(self, now: datetime) -> None:
        counted: dict[str, dict[int, int]] = {}
        for budget in self.budgets:
            period = window_of(budget, now)
            sums = self._used(budget, period)
            for user in USERS if budget.is_of_every_user else ("",):
                counter = counter_of(budget, period, user or None)
                parts = {part: amount for (owner, part), amount in sums.items() if owner == user}
                self.known[counter.key] = counter
                if counter.bucket_ms:  # the first part is not whole
                    self.rebuilt_from[counter.key] = int(period.start.timestamp() * 1000) // counter.bucket_ms + 1
                if counter.unit != "parallel" and (parts or not user):
                    counted[counter.key] = parts
        epoch = cast(bytes, self.client.get(redis_keys.COUNTERS_WHOLE)).decode()
        self.model.rebuild(counted, epoch)
        current = {counter.key for user in USERS for counter in self._counters(self.budgets, user, self.now_ms)}
        self.forgotten |= self.known.keys() - current
        self.exact = True
        for held in self.under_way.values():
            held.was_lost = held.was_lost and held.is_abandoned

    # what must hold

    @invariant()
    def both_stores_hold_the_same(self) -> None:
        found = self._found()
        for key, counter in self.known.items():
            amounts = self.model.counters.get(key)
            parts = {part: n for part, n in amounts.parts.items() if n and counter.bucket_ms} if amounts else {}
            expected = (amounts.spent, amounts.reserved, parts) if amounts else (0, 0, {})
            assert found[key] == expected, key
        assert set(cast(Any, self.client.hkeys(redis_keys.pending("w1")))) == {n.encode() for n in self.model.pending}
        stream = cast(list[Any], self.client.xrange(redis_keys.SPEND_STREAM))
        assert sorted(fields[b"record"] for _, fields in stream) == sorted(self.model.stream)

    @invariant()
    def what_is_reserved_is_what_is_pending(self) -> None:
        pending: dict[str, int] = defaultdict(int)
        for entry in cast(dict[bytes, bytes], self.client.hgetall(redis_keys.pending("w1"))).values():
            amounts, _, _, described, _ = entry.split(b"\n", 4)
            for amount, (key, *_) in zip(amounts.split(), orjson.loads(described), strict=True):
                pending[key] += int(amount)
        assert {key: n for key, (_, n, _) in self._found().items() if n} == {k: n for k, n in pending.items() if n}

    @invariant()
    def no_hard_budget_is_exceeded(self) -> None:
        found = self._found()
        for budget in self.budgets:
            for user in USERS:
                for counter in self._counters([budget], user, self.now_ms):
                    spent, reserved, _ = found.get(counter.key, (0, 0, {}))
                    if budget.hard and counter.key not in self.exceeded:
                        assert spent + reserved <= budget.limit, budget.id

    @invariant()
    def what_is_spent_is_what_the_ledger_has(self) -> None:
        if self.model.epoch is None or not self.exact:
            return
        for key, (spent, _, parts) in self._found().items():
            counter = self.known[key]
            if key in self.forgotten:
                continue
            booked: dict[int, int] = defaultdict(int)
            for record in self.ledger.values():
                if key in self.applied[record.request_id]:
                    booked[record.started_at_ms // (counter.bucket_ms or 10**15)] += used_of(counter, record)
            if not counter.bucket_ms:
                assert spent == sum(booked.values()), key
                continue
            amounts = self.model.counters.get(key)
            first = max(amounts.oldest if amounts else 0, self.rebuilt_from.get(key, 0))
            assert {p: n for p, n in parts.items() if p >= first} == {
                p: n for p, n in booked.items() if p >= first and n
            }

    @invariant()
    def every_counter_expires(self) -> None:
        for key, counter in self.known.items():
            if counter.unit != "parallel":
                assert self.client.ttl(key) != -1, key

    # helpers

    def _counters(self, budgets: list[Budget], user: str, now_ms: int) -> list[BudgetCounter]:
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        found = [counter_of(b, window_of(b, now), user if b.is_of_every_user else None) for b in budgets]
        self.known |= {counter.key: counter for counter in found}
        return found

    def _found(self) -> dict[str, tuple[int, int, dict[int, int]]]:
        pipeline = self.client.pipeline(transaction=False)
        for key in self.known:
            pipeline.hgetall(key)
        found = {}
        for key, fields in zip(self.known, pipeline.execute(), strict=True):
            parts = {int(name[1:]): int(n) for name, n in fields.items() if name[1:].isdigit() and int(n)}
            found[key] = (int(fields.get(b"spent", 0)), int(fields.get(b"reserved", 0)), parts)
        return found

    def _settle(self, settlement: Settlement) -> None:
        self.model.settle(settlement)
        self.real.settle(settlement)
        self._run(self.connection.execute("PING"))
        assert self.real.unsettled == 0

    def _truth(self, request_id: str, share: int, over: bool, which: int, keep: bool) -> Settlement:
        """How a request under way may end: at a share of what it holds, or at more."""
        under_way = self.under_way[request_id]
        bid, admission = under_way.bid, under_way.admission
        user = orjson.loads(bid.record)["end_user"]
        if isinstance(admission, CacheHit):
            record = replace(
                self._record(request_id, DEPLOYMENTS[0], 0, 0, user, bid.now_ms), reason="cache", cache="hit"
            )
        else:
            held = self.model.pending.get(request_id, under_way.entry)
            option = bid.options[admission.options[which % len(admission.options)]]
            nusd, tokens = held.nusd * share // 8 + 100 * over, held.tokens * share // 8 + 100 * over
            record = self._record(request_id, option.deployment, nusd, tokens, user, bid.now_ms)
        keeping = {"cache_key": bid.cache_key, "keep_seconds": 600, "answer": request_id.encode()} if keep else {}
        return replace(self._settlement(record, list(bid.counters.all), under_way.epoch), **keeping)

    def _end(self, request_id: str, truth: Settlement) -> None:
        under_way = self.under_way.pop(request_id)
        entry, nothing = self.model.pending.get(request_id), (0,) * len(truth.amounts)
        known = self.model.guesses.get(request_id) or (entry.amounts if entry else ()) or nothing
        for counter, amount, carried in zip(under_way.bid.counters.all, truth.amounts, known, strict=True):
            if amount > carried:
                self.exceeded.add(counter.key)
        if under_way.is_abandoned and under_way.was_lost and self.model.epoch is not None:
            self.exact = False  # counted from the ledger as the janitor guessed, and now as it was
        self._settle(truth)
        self.settled[request_id] = (truth, False)
        self.ledger[request_id] = SpendRecord.from_json(orjson.loads(truth.record))

    def _settlement(self, record: SpendRecord, counters: list[BudgetCounter], epoch: str) -> Settlement:
        return Settlement(
            request_id=record.request_id,
            record=orjson.dumps(record.to_json()),
            admitted=True,
            started_at_ms=record.started_at_ms,
            epoch=epoch,
            counters=counters_of(counters),
            amounts=tuple(used_of(counter, record) for counter in counters),
        )

    def _record(self, request_id: str, deployment: str, nusd: int, tokens: int, user: str, now_ms: int) -> SpendRecord:
        return spend_record(
            request_id, deployment=deployment, deployment_tier=TIERS[DEPLOYMENTS.index(deployment)], cost_nusd=nusd,
            input_tokens=tokens, output_tokens=0, end_user=user, started_at_ms=now_ms, reason="simple",
        )  # fmt: skip

    def _provisional(self, request_id: str, options: list[Option], user: str, now_ms: int) -> bytes:
        record = self._record(request_id, DEPLOYMENTS[0], 0, 0, user, now_ms)
        chosen = [
            {"deployment": option.deployment, "deployment_tier": option.tier, "reason": "simple"} for option in options
        ]
        return orjson.dumps(record.to_json() | {"options": chosen})


def _mask(counter: BudgetCounter, options: list[Option]) -> bytes:
    if counter.model is None and counter.tier is None:
        return b""
    counts = [counter.model in (None, one.deployment) and counter.tier in (None, one.tier) for one in options]
    return b"".join(b"%d" % one for one in counts)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


def test_redis_does_what_the_model_does_whatever_befalls_it(redis_url: str) -> None:
    class OnThisRedis(Admissions):
        url = redis_url

    bounds = settings(max_examples=40, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(OnThisRedis, settings=bounds)
