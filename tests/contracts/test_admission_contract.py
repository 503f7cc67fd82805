"""What every AdmissionStore must do: never beyond a limit, never twice, never forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import orjson
import pytest
import redis

from policies.periods import MAX_BUCKETS
from router.errors import StoreUnavailable
from router.stores import redis_keys
from router.stores.admission import (
    CAP_DIVISOR,
    LOCAL_EPOCH,
    Admission,
    AdmissionStore,
    Admitted,
    Bid,
    BudgetCounter,
    CacheHit,
    Option,
    Refused,
    Settlement,
)
from router.stores.counters import counters_of
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_connection import RedisConnection
from router.stores.redis_janitor import Janitor
from tests.support.memory_admission import MemoryAdmissionStore
from tests.support.redis_server import redis_server
from tests.support.spend import spend_record

FAR_S = 4_000_000_000
NOW_MS = 1_900_000_000_000
BUCKET_MS = 1_000
ENTRY = redis_keys.cache_entry("digest")
Counters = tuple[BudgetCounter, ...]


def counter(name: str, limit: int, **changes: Any) -> BudgetCounter:
    values: dict[str, Any] = {"unit": "usd", "expires_at_s": FAR_S} | changes
    return BudgetCounter(redis_keys.budget_counter(name, "2026-11"), limit=limit, **values)


TEAM = counter("team", 1_000)
KEY = counter("key", 500)
ROLLING = counter("rolling", 1_000, bucket_ms=BUCKET_MS, expires_at_s=0)
PARALLEL = counter("parallel", 2, unit="parallel", expires_at_s=0)


def option(nusd: int = 100, **changes: Any) -> Option:
    """Costs `nusd` whatever it answers, and takes no tokens."""
    values: dict[str, Any] = {
        "deployment": "small", "tier": "simple", "rank": 0, "nusd_per_token": 0, "base_tokens": 0,
        "tokens_per_token": 1, "longest": 0, "least": 0,
    }  # fmt: skip
    return Option(base_nusd=nusd, **(values | changes))


def large(nusd: int = 100, **changes: Any) -> Option:
    return option(nusd, **({"deployment": "large", "tier": "complex", "rank": 2} | changes))


def as_the_ledger_books(stream: list[Any]) -> list[Any]:
    """The first record of each request: the ledger knows a repeat by its id."""
    return list({record["request_id"]: record for record in reversed(stream)}.values())[::-1]


class Bench(Protocol):
    """A store, and a look at what it holds that is not part of its contract."""

    @property
    def store(self) -> AdmissionStore: ...

    def amounts(self, counter: BudgetCounter) -> tuple[int, int]:
        """Spent and reserved."""

    def exhausted_at_ms(self, counter: BudgetCounter) -> int: ...
    def stream(self) -> list[Any]: ...
    def pending(self) -> int: ...
    def lose_marker(self) -> None: ...
    def lose_everything(self) -> None: ...
    def rebuild(self, spent: dict[str, int], epoch: str) -> None: ...
    def abandon(self) -> None: ...
    async def settled(self) -> None:
        """Waits until every settlement has taken effect."""


@dataclass(slots=True)
class MemoryBench:
    store: MemoryAdmissionStore

    def amounts(self, counter: BudgetCounter) -> tuple[int, int]:
        known = self.store.counters.get(counter.key)
        return (known.spent, known.reserved) if known else (0, 0)

    def exhausted_at_ms(self, counter: BudgetCounter) -> int:
        return self.store.counters[counter.key].exhausted_at_ms

    def stream(self) -> list[Any]:
        return self.store.records()

    def pending(self) -> int:
        return len(self.store.pending)

    def lose_marker(self) -> None:
        self.store.epoch = None

    def lose_everything(self) -> None:
        self.store.lose_everything()

    def rebuild(self, spent: dict[str, int], epoch: str) -> None:
        self.store.rebuild({key: {0: amount} for key, amount in spent.items()}, epoch)

    def abandon(self) -> None:
        self.store.abandon()

    async def settled(self) -> None:
        pass


@dataclass(slots=True)
class RedisBench:
    store: RedisAdmissionStore
    client: redis.Redis

    def amounts(self, counter: BudgetCounter) -> tuple[int, int]:
        spent, reserved = self.client.hmget(counter.key, "spent", "reserved")
        return int(spent or 0), int(reserved or 0)

    def exhausted_at_ms(self, counter: BudgetCounter) -> int:
        return int(self.client.hget(counter.key, "exhausted") or 0)

    def stream(self) -> list[Any]:
        entries = cast(list[Any], self.client.xrange(redis_keys.SPEND_STREAM))
        return [orjson.loads(fields[b"record"]) for _, fields in entries]

    def pending(self) -> int:
        return int(self.client.hlen(redis_keys.pending("w1")))

    def lose_marker(self) -> None:
        self.client.delete(redis_keys.COUNTERS_WHOLE)

    def lose_everything(self) -> None:
        self.client.flushall()

    def rebuild(self, spent: dict[str, int], epoch: str) -> None:
        for key, amount in spent.items():
            self.client.hset(key, "spent", amount)
            self.client.expireat(key, FAR_S)
        self.client.set(redis_keys.COUNTERS_WHOLE, epoch)

    def abandon(self) -> None:
        self.client.sadd(redis_keys.WORKERS, "w1")
        self.client.delete(redis_keys.lease("w1"))
        Janitor(self.client).sweep()

    async def settled(self) -> None:
        await self.store.drain(5)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
async def redis_bench(redis_url: str) -> AsyncIterator[RedisBench]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        connection = await RedisConnection.open(redis_url, timeout_s=2, scripts=SCRIPTS)
        store = RedisAdmissionStore(connection, worker_id="w1")
        await store.start()
        yield RedisBench(store, client)
        await store.close()


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "memory":
        return MemoryBench(MemoryAdmissionStore())
    found: RedisBench = request.getfixturevalue("redis_bench")
    return found


async def admit(
    bench: Bench, request_id: str = "r1", *options: Option, counters: Counters = (TEAM,), **changes: Any
) -> Admission:
    asked = options or (option(),)
    values: dict[str, Any] = {
        "record": provisional(request_id), "now_ms": NOW_MS, "most": 1, "masks": (b"",) * len(counters),
        "cache_key": ENTRY,
    }  # fmt: skip
    return await bench.store.admit(Bid(request_id, options=asked, counters=counters_of(counters), **(values | changes)))


def provisional(request_id: str) -> bytes:
    whole = spend_record(request_id, started_at_ms=NOW_MS, cost_nusd=0, reserved_nusd=0).to_json()
    options = [
        {"deployment": "small", "deployment_tier": "simple", "reason": "simple"},
        {"deployment": "large", "deployment_tier": "complex", "reason": "fallback"},
    ]
    return orjson.dumps(whole | {"options": options})


async def admitted(bench: Bench, *arguments: Any, **changes: Any) -> Admitted:
    admission = await admit(bench, *arguments, **changes)
    assert isinstance(admission, Admitted), admission
    return admission


async def refused(bench: Bench, *arguments: Any, **changes: Any) -> Refused:
    admission = await admit(bench, *arguments, **changes)
    assert isinstance(admission, Refused), admission
    return admission


def settlement(
    request_id: str = "r1", cost: int = 0, *, counters: Counters = (TEAM,), epoch: str = "1", **changes: Any
) -> Settlement:
    values: dict[str, Any] = {
        "admitted": True, "amounts": (cost,) * len(counters), "counters": counters_of(counters), "epoch": epoch,
        "started_at_ms": NOW_MS,
    }  # fmt: skip
    record = orjson.dumps({"request_id": request_id, "cost": cost})
    return Settlement(request_id, record, **(values | changes))


async def settle(bench: Bench, *arguments: Any, **changes: Any) -> None:
    bench.store.settle(settlement(*arguments, **changes))
    await bench.settled()


async def spend(bench: Bench, cost: int, counters: Counters = (TEAM,), request_id: str = "r0", **changes: Any) -> None:
    """A request that came and went."""
    await admitted(bench, request_id, option(cost), counters=counters)
    await settle(bench, request_id, cost, counters=counters, **changes)


# what fits, and what does not


async def test_what_fits_is_held_and_then_settled_at_its_cost(bench: Bench) -> None:
    admission = await admitted(bench)
    assert (admission.options, admission.nusd, admission.epoch) == ((0,), 100, "1")
    assert (bench.amounts(TEAM), bench.pending()) == ((0, 100), 1)
    await settle(bench, cost=30)
    assert (bench.amounts(TEAM), bench.pending()) == ((30, 0), 0)
    assert bench.stream() == [{"request_id": "r1", "cost": 30}]


async def test_without_budgets_everything_is_let_in_and_booked(bench: Bench) -> None:
    bench.lose_marker()  # there are no counters to be whole
    assert (await admitted(bench, "r1", option(10**15), counters=())).nusd == 10**15
    await settle(bench, cost=7, counters=())
    assert (bench.stream(), bench.pending()) == ([{"request_id": "r1", "cost": 7}], 0)


async def test_an_answer_that_costs_more_than_was_held_is_booked_in_full(bench: Bench) -> None:
    await admitted(bench)
    await settle(bench, cost=5_000)
    assert bench.amounts(TEAM) == (5_000, 0)


@pytest.mark.parametrize(
    ("costs", "chosen"), [((1_000,), 0), ((1_001, 1_000), 1), ((5_000, 4_000, 3), 2), ((5_000, 0), 1)]
)
async def test_the_first_option_that_fits_is_held(bench: Bench, costs: tuple[int, ...], chosen: int) -> None:
    assert (await admitted(bench, "r1", *map(option, costs))).options == (chosen,)
    assert bench.amounts(TEAM) == (0, costs[chosen])


async def test_every_budget_must_carry_the_option(bench: Bench) -> None:
    both = (TEAM, KEY)
    assert (await admitted(bench, "r1", option(900), option(400), counters=both)).options == (1,)
    assert (bench.amounts(TEAM), bench.amounts(KEY)) == ((0, 400), (0, 400))
    await settle(bench, cost=1, counters=both)
    assert (bench.amounts(TEAM), bench.amounts(KEY)) == ((1, 0), (1, 0))


async def test_a_refusal_names_the_budget_and_holds_nothing(bench: Bench) -> None:
    both = (TEAM, KEY)
    await admitted(bench, "r0", option(200), counters=both)
    assert await admit(bench, "r1", option(301), option(400), counters=both) == Refused(1, "limit", 0, 200, 301)
    assert (bench.amounts(TEAM), bench.amounts(KEY), bench.pending()) == ((0, 200), (0, 200), 1)


async def test_the_budget_named_is_the_one_that_refuses_the_cheapest_option(bench: Bench) -> None:
    await spend(bench, 500, (KEY,))
    assert await admit(bench, "r1", option(2_000), option(0), counters=(TEAM, KEY)) == Refused(1, "limit", 500, 0, 0)


async def test_a_refusal_by_what_is_nearly_used_up_is_remembered(bench: Bench) -> None:
    await spend(bench, 950)
    await refused(bench, "r1", option(51))
    assert bench.exhausted_at_ms(TEAM) == 0, "a twentieth is left"
    await spend(bench, 1, request_id="r2")
    await refused(bench, "r3", option(50))
    assert bench.exhausted_at_ms(TEAM) > 0


async def test_a_refusal_by_what_is_merely_held_tells_nobody_of_the_end(bench: Bench) -> None:
    await admitted(bench, "r0", option(1_000))
    await refused(bench, "r1", option(1))
    assert bench.exhausted_at_ms(TEAM) == 0


async def test_a_refused_request_is_booked_without_a_reservation(bench: Bench) -> None:
    await refused(bench, "r1", option(1_001))
    await settle(bench, admitted=False, counters=())
    assert (bench.stream(), bench.amounts(TEAM)) == ([{"request_id": "r1", "cost": 0}], (0, 0))


async def test_a_spent_budget_refuses_even_what_is_free(bench: Bench) -> None:
    await spend(bench, 1_000)
    assert await admit(bench, "r1", option(0)) == Refused(0, "limit", 1_000, 0, 0)


async def test_what_is_held_to_the_last_still_lets_in_what_is_free(bench: Bench) -> None:
    await admitted(bench, "r0", option(1_000))
    assert (await admitted(bench, "r1", option(0))).nusd == 0


async def test_what_is_free_is_held_settled_and_booked(bench: Bench) -> None:
    await admitted(bench, "r1", option(0))
    await settle(bench, cost=0)
    assert (bench.stream(), bench.pending(), bench.amounts(TEAM)) == ([{"request_id": "r1", "cost": 0}], 0, (0, 0))


async def test_a_soft_budget_lets_in_what_passes_its_limit(bench: Bench) -> None:
    soft = replace(TEAM, hard=False)
    await spend(bench, 5_000, (soft,))
    assert (await admitted(bench, "r1", option(7_000), counters=(soft,))).nusd == 7_000
    assert bench.amounts(soft) == (5_000, 7_000)


@pytest.mark.parametrize(("unit", "held"), [("usd", 130), ("tokens", 23), ("requests", 1), ("parallel", 1)])
async def test_each_unit_holds_its_own_amount(bench: Bench, unit: Any, held: int) -> None:
    counted = replace(TEAM, unit=unit)
    wanted = option(100, nusd_per_token=10, base_tokens=20, longest=3, least=3)
    admission = await admitted(bench, "r1", wanted, counters=(counted,))
    assert (admission.nusd, admission.tokens, bench.amounts(counted)) == (130, 23, (0, held))


async def test_requests_at_once_are_counted_while_they_last(bench: Bench) -> None:
    for name in ("r1", "r2"):
        await admitted(bench, name, counters=(PARALLEL,))
    assert await admit(bench, "r3", counters=(PARALLEL,)) == Refused(0, "limit", 0, 2, 1)
    await settle(bench, "r1", counters=(PARALLEL,))
    assert bench.amounts(PARALLEL) == (0, 1)
    await admitted(bench, "r3", counters=(PARALLEL,))


# fallbacks, filters, ceilings and caps


async def test_as_many_options_are_chosen_as_fit_together(bench: Bench) -> None:
    offered = [option(400), option(300), option(500), option(200), option(50)]
    admission = await admitted(bench, "r1", *offered, most=3)
    assert (admission.options, admission.nusd, bench.amounts(TEAM)) == ((0, 1, 3), 900, (0, 900))


async def test_fallbacks_are_held_for_their_prompts_each_and_for_the_longest_answer(bench: Bench) -> None:
    first = option(100, nusd_per_token=1, base_tokens=10, longest=20, least=20)
    second = large(200, nusd_per_token=3, base_tokens=10, longest=20, least=20)
    admission = await admitted(bench, "r1", first, second, most=2)
    assert (admission.nusd, admission.tokens) == (100 + 200 + 20 * 3, 10 + 10 + 20)


async def test_a_counter_of_some_options_holds_only_for_those(bench: Bench) -> None:
    masks = {"masks": (b"", b"01"), "counters": (TEAM, KEY)}
    assert (await admitted(bench, "r1", option(600), large(600), **masks)).options == (0,)
    assert (bench.amounts(TEAM), bench.amounts(KEY)) == ((0, 600), (0, 0))
    assert await admit(bench, "r2", large(450), masks=(b"", b"1"), counters=(TEAM, KEY)) == Refused(
        0, "limit", 0, 600, 450
    )


async def test_a_counter_that_one_of_the_options_counts_for_holds_everything(bench: Bench) -> None:
    masks = {"masks": (b"01",), "counters": (KEY,)}
    assert (await admitted(bench, "r1", option(300), large(100), most=2, **masks)).options == (0, 1)
    assert bench.amounts(KEY) == (0, 400)
    assert (await admitted(bench, "r2", option(300), large(100), most=2, **masks)).options == (0,)
    assert bench.amounts(KEY) == (0, 400)


async def test_a_counter_that_fits_one_option_must_carry_those_added_to_it(bench: Bench) -> None:
    masks = {"masks": (b"10",), "counters": (KEY,)}
    assert (await admitted(bench, "r1", large(300), option(300), most=2, **masks)).options == (0,)
    assert bench.amounts(KEY) == (0, 300)


async def test_from_a_share_on_only_lower_tiers_may_serve(bench: Bench) -> None:
    lowered = replace(TEAM, downgrades_from=800, downgrade_rank=0)
    assert (await admitted(bench, "r0", large(800), option(1), counters=(lowered,))).options == (0,)
    # What is held does not lower yet: it may come back.
    assert (await admitted(bench, "r1", large(100), option(1), counters=(lowered,))).options == (0,)
    await settle(bench, "r0", 800, counters=(lowered,))
    assert (await admitted(bench, "r2", large(10), option(1), counters=(lowered,))).options == (1,)
    assert await admit(bench, "r3", large(10), counters=(lowered,)) == Refused(0, "tier", 800, 101, 10)


async def test_a_ceiling_holds_only_for_what_the_counter_counts(bench: Bench) -> None:
    lowered = replace(TEAM, downgrades_from=0)
    assert (await admitted(bench, "r1", large(10), counters=(lowered,), masks=(b"0",))).options == (0,)
    await refused(bench, "r2", large(10), counters=(lowered,), masks=(b"1",))


async def test_an_answer_without_a_limit_is_capped_by_a_part_of_the_room(bench: Bench) -> None:
    open_ended = option(50, nusd_per_token=2, longest=10_000, least=10)
    admission = await admitted(bench, "r1", open_ended)
    assert admission.caps == ((1_000 // CAP_DIVISOR - 50) // 2,)
    assert bench.amounts(TEAM) == (0, admission.nusd) == (0, 250)


async def test_no_cap_is_below_the_least_nor_above_the_longest(bench: Bench) -> None:
    wants_much = option(50, nusd_per_token=2, longest=10_000, least=400)
    assert (await admitted(bench, "r1", wants_much)).caps == (400,)
    await settle(bench)
    wants_little = option(50, nusd_per_token=2, longest=20, least=10)
    assert (await admitted(bench, "r2", wants_little)).caps == (20,)


async def test_each_option_has_the_cap_that_its_price_allows(bench: Bench) -> None:
    cheap = option(10, nusd_per_token=1, longest=10_000, least=10)
    dear = large(40, nusd_per_token=10, longest=10_000, least=10)
    admission = await admitted(bench, "r1", cheap, dear, most=2)
    assert (admission.caps, admission.nusd) == ((200, 20), 250)


async def test_a_budget_of_tokens_caps_all_choices_of_an_answer(bench: Bench) -> None:
    counted = replace(TEAM, unit="tokens")
    admission = await admitted(
        bench, "r1", option(0, base_tokens=50, tokens_per_token=4, longest=10_000, least=1), counters=(counted,)
    )
    assert (admission.caps, admission.tokens, bench.amounts(counted)) == ((50,), 250, (0, 250))


async def test_a_soft_budget_caps_nothing(bench: Bench) -> None:
    soft = replace(TEAM, hard=False)
    open_ended = option(50, nusd_per_token=2, longest=10_000, least=10)
    assert (await admitted(bench, "r1", open_ended, counters=(soft,))).caps == (10_000,)


async def test_watched_counters_say_where_they_stand(bench: Bench) -> None:
    watched = (TEAM, replace(KEY, watched=True), replace(ROLLING, watched=True))
    assert (await admitted(bench, "r1", option(30), counters=watched)).states == ((0, 30), (0, 30))
    await settle(bench, cost=20, counters=watched)
    assert (await admitted(bench, "r2", option(5), counters=watched)).states == ((20, 5), (20, 5))


# rolling windows


async def test_what_was_used_leaves_a_rolling_window_with_its_part(bench: Bench) -> None:
    await spend(bench, 600, (ROLLING,))
    await spend(bench, 300, (ROLLING,), "r9", started_at_ms=NOW_MS + 5 * BUCKET_MS)
    for parts, spent in ((MAX_BUCKETS, 900), (MAX_BUCKETS + 1, 300), (MAX_BUCKETS + 5, 300), (MAX_BUCKETS + 6, 0)):
        now_ms = NOW_MS + parts * BUCKET_MS
        watched = (replace(ROLLING, watched=True),)
        admission = await admitted(bench, f"at-{parts}", option(1), counters=watched, now_ms=now_ms)
        assert admission.states == ((spent, 1),)
        await settle(bench, f"at-{parts}", 0, counters=watched)


async def test_a_refusal_by_a_rolling_window_says_when_there_is_room(bench: Bench) -> None:
    for part, cost in enumerate((500, 300, 200)):
        await spend(bench, cost, (ROLLING,), f"r{part}", started_at_ms=NOW_MS + part * BUCKET_MS)
    refusal = await refused(bench, "late", option(600), counters=(ROLLING,), now_ms=NOW_MS + 3 * BUCKET_MS)
    assert refusal.retry_at_ms == NOW_MS + (1 + MAX_BUCKETS + 1) * BUCKET_MS
    just_before = {"counters": (ROLLING,), "now_ms": refusal.retry_at_ms - 1}
    assert (await refused(bench, "early", option(600), **just_before)).retry_at_ms == refusal.retry_at_ms
    await admitted(bench, "then", option(600), counters=(ROLLING,), now_ms=refusal.retry_at_ms)


async def test_what_no_waiting_helps_has_no_time_to_retry(bench: Bench) -> None:
    assert (await refused(bench, "r1", option(1_001), counters=(ROLLING,))).retry_at_ms is None
    await admitted(bench, "r2", option(900), counters=(ROLLING,))
    assert (await refused(bench, "r3", option(200), counters=(ROLLING,))).retry_at_ms is None


async def test_a_strict_rolling_window_says_when_it_opens_again(bench: Bench) -> None:
    strict = replace(ROLLING, strict=True)
    await spend(bench, 1_000, (strict,))
    refusal = await refused(bench, "r1", counters=(strict,), look_up=True)
    assert refusal.retry_at_ms == NOW_MS + (MAX_BUCKETS + 1) * BUCKET_MS


async def test_a_clock_that_lags_behind_takes_nothing_back_into_the_window(bench: Bench) -> None:
    await spend(bench, 600, (ROLLING,))
    later_ms = NOW_MS + (MAX_BUCKETS + 1) * BUCKET_MS
    await admitted(bench, "r1", option(700), counters=(ROLLING,), now_ms=later_ms)
    await admitted(bench, "r2", option(300), counters=(ROLLING,), now_ms=NOW_MS)
    await settle(bench, "r2", 300, counters=(ROLLING,), started_at_ms=NOW_MS)
    assert bench.amounts(ROLLING) == (0, 700)  # its part has left the window


# repeats that the cache answers


async def test_a_kept_answer_is_a_hit_which_is_booked_and_holds_nothing(bench: Bench) -> None:
    answer = b'{"facts":1}\n{"body": "\xc3\xa4\x00\r\n"}'
    await spend(bench, 30, cache_key=ENTRY, keep_seconds=60, answer=answer)
    assert await admit(bench, look_up=True) == CacheHit(answer)
    assert (bench.amounts(TEAM), bench.pending()) == ((30, 0), 1)
    await settle(bench, cost=0, epoch="")
    assert (bench.stream()[1:], bench.pending()) == ([{"request_id": "r1", "cost": 0}], 0)
    assert bench.amounts(TEAM) == (30, 0)


async def test_a_hit_needs_no_budget_and_no_look_up_means_none(bench: Bench) -> None:
    await spend(bench, 1_000, cache_key=ENTRY, keep_seconds=60, answer=b"answer")
    assert await admit(bench, look_up=True) == CacheHit(b"answer")
    assert await admit(bench, look_up=False) == Refused(0, "limit", 1_000, 0, 100)


async def test_a_spent_strict_budget_refuses_hits_as_well(bench: Bench) -> None:
    strict = replace(TEAM, strict=True)
    await spend(bench, 999, (strict,), cache_key=ENTRY, keep_seconds=60, answer=b"answer")
    assert await admit(bench, counters=(strict,), look_up=True) == CacheHit(b"answer")
    await settle(bench, counters=(strict,))
    await spend(bench, 1, (strict,), "r2")
    assert await admit(bench, "r3", counters=(strict,), look_up=True) == Refused(0, "limit", 1_000, 0, 0)
    assert bench.pending() == 0


async def test_nothing_is_kept_unless_asked(bench: Bench) -> None:
    await spend(bench, 1, answer=b"secret")
    await admitted(bench, look_up=True)


async def test_hits_go_on_while_the_counters_are_counted_again(bench: Bench) -> None:
    await spend(bench, 1, cache_key=ENTRY, keep_seconds=60, answer=b"answer")
    bench.lose_marker()
    assert await admit(bench, look_up=True) == CacheHit(b"answer")
    with pytest.raises(StoreUnavailable):  # nobody knows whether it is spent
        await admit(bench, "r2", counters=(replace(TEAM, strict=True),), look_up=True)


# giving back


async def test_what_cannot_be_used_any_more_is_given_back_at_once(bench: Bench) -> None:
    counters = (TEAM, replace(KEY, unit="tokens"), PARALLEL)
    await admitted(bench, "r1", option(400, base_tokens=90), counters=counters)
    bench.store.reduce("r1", counters_of(counters), 150, 90)
    await admitted(bench, "r2", option(850))
    assert [bench.amounts(c) for c in counters] == [(0, 1_000), (0, 90), (0, 1)]
    await settle(bench, "r1", 100, counters=counters, amounts=(100, 80, 0))
    assert [bench.amounts(c) for c in counters] == [(100, 850), (80, 0), (0, 0)]


async def test_a_reservation_never_grows_and_nothing_is_given_back_twice(bench: Bench) -> None:
    await admitted(bench, "r1", option(400))
    for nusd in (500, 150, 150, 300):
        bench.store.reduce("r1", counters_of((TEAM,)), nusd, 0)
    bench.store.reduce("unknown", counters_of((TEAM,)), 0, 0)
    await settle(bench, "r1", 10)
    bench.store.reduce("r1", counters_of((TEAM,)), 0, 0)
    await admitted(bench, "r2", option(990))
    assert bench.amounts(TEAM) == (10, 990)


async def test_what_a_filtered_counter_does_not_hold_is_not_given_back(bench: Bench) -> None:
    await admitted(bench, "r0", option(200), counters=(KEY,))
    await admitted(bench, "r1", option(400), counters=(TEAM, KEY), masks=(b"", b"0"))
    bench.store.reduce("r1", counters_of((TEAM, KEY)), 0, 0)
    await settle(bench, "r1", 0, counters=(TEAM, KEY))
    assert (bench.amounts(TEAM), bench.amounts(KEY)) == ((0, 0), (0, 200))


# exactly once


async def test_settling_twice_changes_nothing(bench: Bench) -> None:
    await admitted(bench)
    for _ in range(3):
        await settle(bench, cost=30)
    assert bench.amounts(TEAM) == (30, 0)
    assert as_the_ledger_books(bench.stream()) == [{"request_id": "r1", "cost": 30}]


async def test_settling_what_was_never_admitted_books_it_and_changes_nothing_else(bench: Bench) -> None:
    await settle(bench, "unknown", 30, cache_key=ENTRY, keep_seconds=60, answer=b"x")
    assert (bench.amounts(TEAM), bench.stream()) == ((0, 0), [{"request_id": "unknown", "cost": 30}])
    await admitted(bench, look_up=True)


async def test_whatever_is_admitted_after_a_settlement_sees_it(bench: Bench) -> None:
    await admitted(bench, "r0", option(1_000))
    bench.store.settle(settlement("r0", cost=0))  # nobody waits for it
    await admitted(bench, "r1", option(1_000))


async def test_200_at_once_at_a_tight_budget_never_exceed_it(bench: Bench) -> None:
    both = (TEAM, KEY)

    async def one(number: int) -> int:
        admission = await admit(bench, f"r{number}", option(30), option(7), counters=both)
        if not isinstance(admission, Admitted):
            return 0
        assert sum(bench.amounts(KEY)) <= KEY.limit
        await asyncio.sleep(0)
        bench.store.settle(settlement(f"r{number}", admission.nusd, counters=both))
        return admission.nusd

    costs = await asyncio.gather(*[one(number) for number in range(200)])
    await bench.settled()
    assert bench.amounts(KEY) == bench.amounts(TEAM) == (sum(costs), 0)
    assert KEY.limit - 7 < sum(costs) <= KEY.limit
    assert (len(bench.stream()), bench.pending()) == (sum(cost > 0 for cost in costs), 0)


# workers taken for dead


async def test_what_a_dead_worker_held_is_booked_in_each_unit(bench: Bench) -> None:
    of_large = replace(KEY, model="large")
    counters = (TEAM, replace(TEAM, key="{parsimony}:t", unit="tokens"), PARALLEL, of_large)
    masks = (b"", b"", b"", b"01")
    await admitted(bench, "r1", option(100, base_tokens=9), large(50), most=2, counters=counters, masks=masks)
    assert [bench.amounts(c)[1] for c in counters] == [150, 9, 1, 150]
    bench.abandon()
    # The first option is who is taken to have answered.
    assert [bench.amounts(c) for c in counters] == [(150, 0), (9, 0), (0, 0), (0, 0)]
    (record,) = bench.stream()
    assert (record["status"], record["cost_nusd"], record["deployment"]) == ("abandoned", 150, "small")


async def test_a_truth_that_comes_late_puts_the_counters_right(bench: Bench) -> None:
    counters = (TEAM, ROLLING, replace(KEY, unit="requests"))
    await admitted(bench, "r1", option(400), counters=counters)
    bench.abandon()
    assert [bench.amounts(c) for c in counters] == [(400, 0), (400, 0), (1, 0)]
    for _ in range(2):
        await settle(bench, "r1", 30, counters=counters, amounts=(30, 30, 1))
    assert [bench.amounts(c) for c in counters] == [(30, 0), (30, 0), (1, 0)]


async def test_a_late_truth_of_a_request_whose_admission_was_never_heard_counts_once(bench: Bench) -> None:
    await admitted(bench, "r1", option(400))
    bench.abandon()
    for _ in range(2):
        await settle(bench, "r1", 30, epoch=LOCAL_EPOCH)
    assert bench.amounts(TEAM) == (30, 0)


async def test_a_hit_that_nobody_saw_end_costs_nothing(bench: Bench) -> None:
    await spend(bench, 30, cache_key=ENTRY, keep_seconds=60, answer=b"answer")
    await admit(bench, look_up=True)
    bench.abandon()
    assert bench.amounts(TEAM) == (30, 0)
    assert [bench.stream()[1][name] for name in ("cost_nusd", "reason", "cache")] == [0, "cache", "hit"]
    await settle(bench, cost=0, epoch="")  # it ended after all
    assert bench.amounts(TEAM) == (30, 0)


# counters that were lost


async def test_nobody_is_let_into_a_budget_whose_counters_are_lost(bench: Bench) -> None:
    bench.lose_marker()
    with pytest.raises(StoreUnavailable):
        await admit(bench)
    assert (bench.amounts(TEAM), bench.pending()) == ((0, 0), 0)


async def test_a_request_of_another_epoch_is_booked_once(bench: Bench) -> None:
    await admitted(bench)
    bench.lose_everything()
    bench.rebuild({TEAM.key: 200}, "2")
    for _ in range(2):
        await settle(bench, cost=30)
    assert bench.amounts(TEAM) == (230, 0)
    assert (await admitted(bench, "r2")).epoch == "2"


async def test_what_a_process_let_in_by_itself_is_booked_once(bench: Bench) -> None:
    for _ in range(2):
        await settle(bench, cost=30, epoch=LOCAL_EPOCH)
    assert bench.amounts(TEAM) == (30, 0)


async def test_an_admission_that_was_never_heard_of_counts_once(bench: Bench) -> None:
    await admitted(bench)
    for _ in range(2):
        await settle(bench, cost=30, epoch=LOCAL_EPOCH)
    assert bench.amounts(TEAM) == (30, 0)


async def test_what_is_settled_before_the_counters_are_whole_is_left_to_the_ledger(bench: Bench) -> None:
    await admitted(bench)
    bench.lose_everything()
    await settle(bench, cost=30)
    assert bench.amounts(TEAM) == (0, 0)
    bench.rebuild({TEAM.key: 30}, "2")  # the ledger has had it from the stream
    await settle(bench, cost=30)  # a repeat: its answer had been lost
    assert bench.amounts(TEAM) == (30, 0)


async def test_what_is_settled_while_the_counters_are_counted_again_is_not_counted_twice(bench: Bench) -> None:
    await admitted(bench)
    bench.lose_marker()  # and nothing else: it is held
    await settle(bench, cost=30)
    bench.rebuild({TEAM.key: 30}, "2")
    await settle(bench, cost=30)
    assert bench.amounts(TEAM) == (30, 0)


# what only Redis has to promise


async def test_a_hit_makes_no_counter(redis_bench: RedisBench) -> None:
    await spend(redis_bench, 0, (), cache_key=ENTRY, keep_seconds=60, answer=b"answer")
    await admit(redis_bench, look_up=True)
    await settle(redis_bench, cost=0, epoch="")
    assert not redis_bench.client.exists(TEAM.key)


async def test_a_janitor_that_comes_too_late_books_nothing(
    redis_bench: RedisBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two janitors sweep, or the worker lives after all and settles while one does."""
    await admitted(redis_bench)
    client = redis_bench.client
    entries = client.hgetall(redis_keys.pending("w1"))
    await settle(redis_bench, cost=30)
    monkeypatch.setattr(client, "hgetall", lambda _: entries)  # what it read before
    redis_bench.abandon()
    assert (redis_bench.amounts(TEAM), len(redis_bench.stream())) == ((30, 0), 1)


async def test_a_reservation_that_was_lost_is_not_given_back(redis_bench: RedisBench) -> None:
    await admitted(redis_bench)
    redis_bench.client.delete(TEAM.key)
    await settle(redis_bench, cost=30)
    assert redis_bench.amounts(TEAM) == (30, 0)


@pytest.mark.parametrize("end", ["nothing", "settled", "settled at nothing", "abandoned", "corrected", "another epoch"])
async def test_every_counter_expires_and_none_before_its_time(redis_bench: RedisBench, end: str) -> None:
    counters = (TEAM, ROLLING, replace(KEY, unit="tokens"), replace(KEY, key="{parsimony}:n", unit="requests"))
    client = redis_bench.client
    await admitted(redis_bench, "r1", option(100, base_tokens=9), counters=counters)
    if end == "settled":
        await settle(redis_bench, cost=30, counters=counters)
    elif end == "settled at nothing":
        await settle(redis_bench, cost=0, counters=counters)
    elif end in ("abandoned", "corrected"):
        redis_bench.abandon()
        if end == "corrected":
            await settle(redis_bench, cost=30, counters=counters)
    elif end == "another epoch":
        redis_bench.lose_everything()
        redis_bench.rebuild({}, "2")
        await settle(redis_bench, cost=30, counters=counters)
    server_s = int(client.time()[0])
    for known in counters:
        if not client.exists(known.key):
            assert (end, known.bucket_ms) == ("settled at nothing", 0), known
            continue
        expires_at_s = server_s + client.ttl(known.key)
        if known.bucket_ms:
            assert expires_at_s >= min(server_s, NOW_MS / 1000) + 2 * MAX_BUCKETS * BUCKET_MS / 1000
        else:
            assert abs(expires_at_s - FAR_S) <= 1, known.key


async def test_requests_at_once_leave_no_counter_behind(redis_bench: RedisBench) -> None:
    await admitted(redis_bench, counters=(PARALLEL,))
    await settle(redis_bench, counters=(PARALLEL,))
    assert not redis_bench.client.exists(PARALLEL.key)


async def test_nothing_lives_for_ever_but_the_books(redis_bench: RedisBench) -> None:
    """After every kind of end: only the marker, the stream and the list of workers have no time to go."""
    counters = (TEAM, ROLLING, PARALLEL)
    for number in range(4):
        await admitted(redis_bench, f"r{number}", option(10), counters=counters[:2])
    await settle(redis_bench, "r0", 5, counters=counters[:2], cache_key=ENTRY, keep_seconds=60, answer=b"a")
    redis_bench.abandon()
    await settle(redis_bench, "r1", 5, counters=counters[:2])
    await settle(redis_bench, "r8", 5, counters=counters[:2], epoch=LOCAL_EPOCH)
    client = redis_bench.client
    lasting = {key.decode() for key in client.scan_iter() if client.ttl(key) == -1}
    assert lasting == {redis_keys.COUNTERS_WHOLE, redis_keys.SPEND_STREAM}
