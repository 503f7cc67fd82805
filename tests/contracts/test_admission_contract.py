"""What every AdmissionStore must do: never beyond a limit, never twice, never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import Admission, AdmissionStore, Admitted, BudgetCounter, CacheHit, Refused, Settlement
from router.stores.redis_admission import ADMIT, SETTLE, RedisAdmissionStore
from router.stores.redis_connection import RedisConnection
from tests.support.memory_admission import MemoryAdmissionStore
from tests.support.redis_server import redis_server

FAR_S = 4_000_000_000
TEAM = BudgetCounter(redis_keys.budget_counter("team-budget", "2026-11"), 1_000, FAR_S)
KEY = BudgetCounter(redis_keys.budget_counter("key-budget", "2026-11"), 500, FAR_S)
ENTRY = redis_keys.cache_entry("digest")


def as_the_ledger_books(stream: list[Any]) -> list[Any]:
    """The first record of each request: the ledger knows a repeat by its id."""
    return list({record["request_id"]: record for record in reversed(stream)}.values())[::-1]


class Bench(Protocol):
    """A store, and a look at what it holds that is not part of its contract."""

    store: AdmissionStore

    def spent_and_reserved(self, counter: BudgetCounter) -> tuple[int, int]: ...
    def booked(self) -> list[Any]: ...
    def pending(self) -> int: ...
    def lose_counters(self) -> None: ...
    async def settled(self) -> None:
        """Waits until every settlement has taken effect."""


@dataclass(slots=True)
class MemoryBench:
    store: MemoryAdmissionStore

    def spent_and_reserved(self, counter: BudgetCounter) -> tuple[int, int]:
        known = self.store.counters.get(counter.key)
        return (known.spent_nusd, known.reserved_nusd) if known else (0, 0)

    def booked(self) -> list[Any]:
        return as_the_ledger_books(self.store.records())

    def pending(self) -> int:
        return len(self.store.pending)

    def lose_counters(self) -> None:
        self.store.whole = False

    async def settled(self) -> None:
        pass


@dataclass(slots=True)
class RedisBench:
    store: RedisAdmissionStore
    client: redis.Redis

    def spent_and_reserved(self, counter: BudgetCounter) -> tuple[int, int]:
        spent, reserved = self.client.hmget(counter.key, "spent", "reserved")
        return int(spent or 0), int(reserved or 0)

    def booked(self) -> list[Any]:
        stream = self.client.xrange(redis_keys.SPEND_STREAM)
        return as_the_ledger_books([orjson.loads(fields[b"record"]) for _, fields in stream])

    def pending(self) -> int:
        return int(self.client.hlen(redis_keys.pending("w1")))

    def lose_counters(self) -> None:
        self.client.delete(redis_keys.COUNTERS_WHOLE)

    async def settled(self) -> None:
        await self.store.drain(5)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench(MemoryAdmissionStore())
        return
    url = request.getfixturevalue("redis_url")
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        store = RedisAdmissionStore(
            await RedisConnection.open(url, timeout_s=2, scripts=(ADMIT, SETTLE)), worker_id="w1"
        )
        await store.start()
        yield RedisBench(store, client)
        await store.close()


async def admit(
    bench: Bench,
    request_id: str = "r1",
    amounts: tuple[int, ...] = (100,),
    counters: tuple[BudgetCounter, ...] = (TEAM,),
    look_up: bool = False,
) -> Admission:
    record = orjson.dumps({"request_id": request_id})
    return await bench.store.admit(
        request_id, record, cache_key=ENTRY, look_up=look_up, amounts_nusd=amounts, counters=counters
    )


def settlement(request_id: str = "r1", cost: int = 0, **changes: Any) -> Settlement:
    values: dict[str, Any] = {"admitted": True, "counter_keys": (TEAM.key,)} | changes
    return Settlement(request_id, cost, orjson.dumps({"request_id": request_id, "cost": cost}), **values)


async def test_what_fits_is_held_and_then_settled_at_its_cost(bench: Bench) -> None:
    assert await admit(bench) == Admitted(0)
    assert (bench.spent_and_reserved(TEAM), bench.pending()) == ((0, 100), 1)
    bench.store.settle(settlement(cost=30))
    await bench.settled()
    assert (bench.spent_and_reserved(TEAM), bench.pending()) == ((30, 0), 0)
    assert bench.booked() == [{"request_id": "r1", "cost": 30}]


async def test_without_budgets_everything_is_let_in_and_booked(bench: Bench) -> None:
    bench.lose_counters()  # there are none to be whole
    assert await admit(bench, amounts=(10**15,), counters=()) == Admitted(0)
    bench.store.settle(settlement(cost=7, counter_keys=()))
    await bench.settled()
    assert (bench.booked(), bench.pending()) == ([{"request_id": "r1", "cost": 7}], 0)


async def test_an_answer_that_costs_more_than_was_held_is_booked_in_full(bench: Bench) -> None:
    await admit(bench)
    bench.store.settle(settlement(cost=5_000))
    await bench.settled()
    assert bench.spent_and_reserved(TEAM) == (5_000, 0)


@pytest.mark.parametrize(
    ("amounts", "plan"), [((1_000,), 0), ((1_001, 1_000), 1), ((5_000, 4_000, 3), 2), ((5_000, 0), 1)]
)
async def test_the_first_amount_that_fits_is_held(bench: Bench, amounts: tuple[int, ...], plan: int) -> None:
    assert await admit(bench, amounts=amounts) == Admitted(plan)
    assert bench.spent_and_reserved(TEAM) == (0, amounts[plan])


async def test_every_budget_must_carry_the_amount(bench: Bench) -> None:
    assert await admit(bench, amounts=(900, 400), counters=(TEAM, KEY)) == Admitted(1)
    assert (bench.spent_and_reserved(TEAM), bench.spent_and_reserved(KEY)) == ((0, 400), (0, 400))
    bench.store.settle(settlement(cost=1, counter_keys=(TEAM.key, KEY.key)))
    await bench.settled()
    assert (bench.spent_and_reserved(TEAM), bench.spent_and_reserved(KEY)) == ((1, 0), (1, 0))


async def test_a_refusal_names_the_budget_and_holds_nothing(bench: Bench) -> None:
    await admit(bench, "r0", amounts=(200,), counters=(TEAM, KEY))
    assert await admit(bench, amounts=(301, 400), counters=(TEAM, KEY)) == Refused(1, 0, 200)
    assert (bench.spent_and_reserved(TEAM), bench.spent_and_reserved(KEY), bench.pending()) == ((0, 200), (0, 200), 1)


async def test_a_refused_request_is_booked_without_a_reservation(bench: Bench) -> None:
    await admit(bench, amounts=(1_001,))
    bench.store.settle(settlement(admitted=False, counter_keys=()))
    await bench.settled()
    assert (bench.booked(), bench.spent_and_reserved(TEAM)) == ([{"request_id": "r1", "cost": 0}], (0, 0))


async def test_a_spent_budget_refuses_even_what_is_free(bench: Bench) -> None:
    await admit(bench, "r0", amounts=(1_000,))
    bench.store.settle(settlement("r0", cost=1_000))
    await bench.settled()
    assert await admit(bench, amounts=(0,)) == Refused(0, 1_000, 0)


async def test_the_budget_named_is_the_one_that_refuses_not_the_one_that_narrowed(bench: Bench) -> None:
    await admit(bench, "r0", amounts=(500,), counters=(KEY,))
    bench.store.settle(settlement("r0", cost=500, counter_keys=(KEY.key,)))
    await bench.settled()
    assert await admit(bench, amounts=(2_000, 0), counters=(TEAM, KEY)) == Refused(1, 500, 0)


async def test_what_is_free_is_held_settled_and_booked(bench: Bench) -> None:
    assert await admit(bench, amounts=(0,)) == Admitted(0)
    bench.store.settle(settlement(cost=0))
    await bench.settled()
    assert (bench.booked(), bench.pending(), bench.spent_and_reserved(TEAM)) == (
        [{"request_id": "r1", "cost": 0}],
        0,
        (0, 0),
    )


async def test_a_kept_answer_is_a_hit_which_is_booked_and_holds_nothing(bench: Bench) -> None:
    answer = b'{"facts":1}\n{"body": "\xc3\xa4\x00\r\n"}'
    await admit(bench, "r0")
    bench.store.settle(settlement("r0", cost=30, cache_key=ENTRY, keep_seconds=60, answer=answer))
    assert await admit(bench, look_up=True) == CacheHit(answer)
    assert (bench.spent_and_reserved(TEAM), bench.pending()) == ((30, 0), 1)
    bench.store.settle(settlement(cost=0))
    await bench.settled()
    assert (bench.booked()[1:], bench.pending()) == ([{"request_id": "r1", "cost": 0}], 0)
    assert bench.spent_and_reserved(TEAM) == (30, 0)


async def test_a_hit_makes_no_counter(bench: Bench) -> None:
    await admit(bench, "r0", counters=())
    bench.store.settle(settlement("r0", counter_keys=(), cache_key=ENTRY, keep_seconds=60, answer=b"answer"))
    await admit(bench, look_up=True)
    bench.store.settle(settlement(cost=0))
    await bench.settled()
    assert not (isinstance(bench, RedisBench) and bench.client.exists(TEAM.key))


async def test_a_hit_needs_no_budget_and_no_look_up_means_none(bench: Bench) -> None:
    await admit(bench, "r0", amounts=(1_000,))
    bench.store.settle(settlement("r0", cost=1_000, cache_key=ENTRY, keep_seconds=60, answer=b"answer"))
    await bench.settled()
    assert await admit(bench, look_up=True) == CacheHit(b"answer")
    assert await admit(bench, look_up=False) == Refused(0, 1_000, 0)


async def test_nothing_is_kept_unless_asked(bench: Bench) -> None:
    await admit(bench, "r0")
    bench.store.settle(settlement("r0", answer=b"secret"))
    await bench.settled()
    assert await admit(bench, look_up=True) == Admitted(0)


async def test_settling_twice_changes_nothing(bench: Bench) -> None:
    await admit(bench)
    for _ in range(3):
        bench.store.settle(settlement(cost=30))
    await bench.settled()
    assert (bench.spent_and_reserved(TEAM), bench.booked()) == ((30, 0), [{"request_id": "r1", "cost": 30}])


async def test_settling_what_was_never_admitted_books_it_and_changes_nothing_else(bench: Bench) -> None:
    bench.store.settle(settlement("unknown", cost=30, cache_key=ENTRY, keep_seconds=60, answer=b"x"))
    await bench.settled()
    assert (bench.spent_and_reserved(TEAM), bench.booked()) == ((0, 0), [{"request_id": "unknown", "cost": 30}])
    assert await admit(bench, look_up=True) == Admitted(0)


async def test_whatever_is_admitted_after_a_settlement_sees_it(bench: Bench) -> None:
    await admit(bench, "r0", amounts=(1_000,))
    bench.store.settle(settlement("r0", cost=0))  # nobody waits for it
    assert await admit(bench, amounts=(1_000,)) == Admitted(0)


async def test_nobody_is_let_into_a_budget_whose_counters_are_lost(bench: Bench) -> None:
    bench.lose_counters()
    with pytest.raises(StoreUnavailable):
        await admit(bench)
    assert (bench.spent_and_reserved(TEAM), bench.pending()) == ((0, 0), 0)


async def test_200_at_once_at_a_tight_budget_never_exceed_it(bench: Bench) -> None:
    async def one(number: int) -> Admission:
        admission = await admit(bench, f"r{number}", amounts=(30, 7), counters=(TEAM, KEY))
        if isinstance(admission, Admitted):
            assert sum(bench.spent_and_reserved(KEY)) <= KEY.limit_nusd
            await asyncio.sleep(0)
            cost = (30, 7)[admission.plan]
            bench.store.settle(settlement(f"r{number}", cost=cost, counter_keys=(TEAM.key, KEY.key)))
        return admission

    admissions = await asyncio.gather(*[one(number) for number in range(200)])
    await bench.settled()
    let_in = sum((30, 7)[a.plan] for a in admissions if isinstance(a, Admitted))
    assert bench.spent_and_reserved(KEY) == bench.spent_and_reserved(TEAM) == (let_in, 0)
    assert KEY.limit_nusd - 7 < let_in <= KEY.limit_nusd
    assert (len(bench.booked()), bench.pending()) == (sum(isinstance(a, Admitted) for a in admissions), 0)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["admit", "settle", "look up", "keep"]),
        st.lists(st.integers(0, 600), min_size=1, max_size=3).map(lambda some: tuple(sorted(set(some), reverse=True))),
        st.sampled_from([(), (TEAM,), (TEAM, KEY), (KEY, TEAM)]),
        st.integers(0, 700),
    ),
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_redis_does_what_the_store_in_memory_does(redis_url: str, steps: list[Any]) -> None:
    """Any order of steps, also those that make no sense: both stores answer and hold the same."""
    asyncio.run(_same(redis_url, steps))


async def _same(url: str, steps: list[Any]) -> None:
    memory = MemoryBench(MemoryAdmissionStore())
    with redis.Redis.from_url(url) as client:
        client.flushall()
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        connection = await RedisConnection.open(url, timeout_s=2, scripts=(ADMIT, SETTLE))
        real = RedisBench(RedisAdmissionStore(connection, worker_id="w1"), client)
        held: dict[str, tuple[BudgetCounter, ...]] = {}
        for number, step, amounts, counters, cost in steps:
            request_id = f"r{number}"
            if step in ("admit", "look up"):
                if request_id in held:
                    continue  # ids are unique
                first = await admit(memory, request_id, amounts, counters, look_up=step == "look up")
                assert await admit(real, request_id, amounts, counters, look_up=step == "look up") == first
                if not isinstance(first, Refused):
                    held[request_id] = counters
            else:
                keep = {"cache_key": ENTRY, "keep_seconds": 60, "answer": b"a"} if step == "keep" else {}
                keys = tuple(counter.key for counter in held.pop(request_id, ()))
                for bench in (memory, real):
                    bench.store.settle(settlement(request_id, cost, counter_keys=keys, **keep))
            await real.settled()
            for counter in (TEAM, KEY):
                assert real.spent_and_reserved(counter) == memory.spent_and_reserved(counter)
            assert (real.booked(), real.pending()) == (memory.booked(), memory.pending())
        await connection.close()
