"""Counters outside the hot path: read, seeded, taken from the ledger, compared with it; and the janitor's sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import redis

from policies.budget import Budget
from policies.periods import MAX_BUCKETS, Period
from policies.spend import SpendRecord
from router.clock import SYSTEM_CLOCK, Clock
from router.stores import redis_keys
from router.stores.admission import BudgetCounter, Settlement
from router.stores.counters import counter_of, counters_of, window_of
from router.stores.redis_admission import SETTLE, settle_arguments
from router.stores.redis_budgets import CounterAmounts, RedisBudgets, UsageOf, Used, clock_of
from router.stores.redis_janitor import Janitor, abandoned
from tests.support.redis_server import redis_client
from tests.support.spend import spend_record

NOW = datetime(2030, 11, 15, 12, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with redis_client(tmp_path_factory.mktemp("redis")) as client:
        yield client


@pytest.fixture
def client(running: redis.Redis) -> redis.Redis:
    running.flushall()
    running.config_set("maxmemory-policy", "noeviction")
    return running


def budget(**changes: Any) -> Budget:
    return Budget(**{"id": "b", "subject_kind": "team", "subject_id": "t", "limit": 1_000, **changes})


EVERY_USER = budget(id="each", subject_kind="user", subject_id="t/*")
ROLLING = budget(id="rolling", window="rolling:1h")
BUCKET = NOW_MS // 60_000


def counter(of: Budget, user: str | None = None) -> BudgetCounter:
    return counter_of(of, window_of(of, NOW), user)


def used_of(sums: Used) -> UsageOf:
    return lambda budget, period: sums


def used_in(of: RedisBudgets, budget: Budget, now: datetime = NOW) -> tuple[int, int]:
    (state,) = of.states([budget], now)
    return state.spent, state.reserved


# reading and seeding


@pytest.mark.parametrize(("minutes_ago", "exhausted"), [(1, True), (59, True), (61, False)])
def test_a_refusal_is_told_of_as_long_as_its_window_lasts(
    client: redis.Redis, minutes_ago: int, exhausted: bool
) -> None:
    refused_at = NOW - timedelta(minutes=minutes_ago)
    client.hset(counter(ROLLING).key, mapping={"spent": 1, "exhausted": int(refused_at.timestamp() * 1000)})
    (state,) = RedisBudgets(client).states([ROLLING], NOW)
    assert state.exhausted is exhausted


@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "quarter", "year", "lifetime"])
def test_a_seeded_counter_is_read_in_its_window_and_in_no_other(client: redis.Redis, window: str) -> None:
    seeded, budgets = budget(window=window), RedisBudgets(client)
    budgets.seed(seeded, used_of({("", 0): 400}), NOW)
    (state,) = budgets.states([seeded], NOW)
    assert (state.spent, state.reserved, state.available, state.window_label) == (
        400, 0, 600, window_of(seeded, NOW).label,
    )  # fmt: skip
    later = NOW + timedelta(days=400)
    assert used_in(budgets, seeded, later) == ((400, 0) if window == "lifetime" else (0, 0))
    expires_s = int(client.time()[0]) + client.ttl(counter(seeded).key)
    assert abs(expires_s - counter(seeded).expires_at_s) <= 1


def test_seeding_raises_and_never_lowers(client: redis.Redis) -> None:
    seeded, budgets = budget(), RedisBudgets(client)
    for amount, expected in ((400, 400), (300, 400), (500, 500)):
        budgets.seed(seeded, used_of({("", 0): amount}), NOW)
        assert used_in(budgets, seeded) == (expected, 0)


def test_seeding_keeps_what_is_held_and_for_as_long_as_it_may_be(client: redis.Redis) -> None:
    rate, budgets = budget(window="minute", unit="tokens"), RedisBudgets(client)
    client.hset(counter(rate).key, "reserved", 70)
    budgets.seed(rate, used_of({("", NOW_MS // 1_000): 30}), NOW)
    assert used_in(budgets, rate) == (30, 70)
    assert int(client.time()[0]) + client.ttl(counter(rate).key) > NOW.timestamp() + 86_400


def test_a_rolling_window_is_read_as_of_now(client: redis.Redis) -> None:
    budgets = RedisBudgets(client)
    budgets.seed(ROLLING, used_of({("", BUCKET - 10): 5, ("", BUCKET): 7}), NOW)
    assert used_in(budgets, ROLLING) == (12, 0)
    assert used_in(budgets, ROLLING, NOW + timedelta(minutes=MAX_BUCKETS - 10)) == (12, 0)
    assert used_in(budgets, ROLLING, NOW + timedelta(minutes=MAX_BUCKETS - 9)) == (7, 0)
    assert used_in(budgets, ROLLING, NOW + timedelta(minutes=MAX_BUCKETS + 1)) == (0, 0)
    budgets.seed(ROLLING, used_of({("", BUCKET - 10): 6, ("", BUCKET): 3}), NOW)  # part by part
    assert used_in(budgets, ROLLING) == (13, 0)
    assert int(client.hget(counter(ROLLING).key, "spent") or 0) == 13


def test_each_user_has_a_counter_and_names_are_hashed(client: redis.Redis) -> None:
    budgets = RedisBudgets(client)
    budgets.seed(EVERY_USER, used_of({("ann", 0): 40, ("bob*\n", 0): 60}), NOW)
    states = budgets.states([EVERY_USER, budget()], NOW, {"each": ["ann", "bob*\n", "eve"]})
    assert [(state.budget.id, state.end_user, state.spent) for state in states] == [
        ("each", "ann", 40), ("each", "bob*\n", 60), ("each", "eve", 0), ("b", "", 0),
    ]  # fmt: skip
    assert not any(b"ann" in key or b"bob" in key for key in client.scan_iter())


# taking them from the ledger


def test_counting_again_takes_each_counter_as_the_ledger_has_it(client: redis.Redis) -> None:
    budgets = RedisBudgets(client)
    parallel = budget(id="p", unit="parallel", window="now", limit=3)
    month, sums = budget(), {"b": {("", 0): 250}, "rolling": {("", BUCKET): 30}, "each": {("ann", 0): 9}, "p": {}}
    client.hset(counter(month).key, mapping={"spent": 900, "reserved": 10})
    stale = {"spent": 500, "b7": 1, f"b{BUCKET}": 499, "oldest": 3, "reserved": 4}
    client.hset(counter(ROLLING).key, mapping=stale)
    periods: list[Period] = []

    def used(asked: Budget, period: Period) -> Used:
        periods.append(period)
        return sums[asked.id]  # type: ignore[return-value]

    assert budgets.rebuild([month, ROLLING, EVERY_USER, parallel], used, NOW)
    assert budgets.whole()
    assert (used_in(budgets, month), used_in(budgets, ROLLING)) == ((250, 10), (30, 4))
    assert client.hgetall(counter(ROLLING).key) == {b"spent": b"30", b"reserved": b"4", b"b%d" % BUCKET: b"30"}
    assert budgets.states([EVERY_USER], NOW, {"each": ["ann"]})[0].spent == 9
    assert periods == [window_of(one, NOW) for one in (month, ROLLING, EVERY_USER, parallel)]
    assert not client.exists(counter(parallel).key)
    counters = [counter(month), counter(ROLLING), counter(EVERY_USER, "ann")]
    assert all(client.ttl(one.key) > 0 for one in counters)
    assert not client.exists(redis_keys.RECOUNT)


def test_however_many_users_there_are_each_is_counted(client: redis.Redis) -> None:
    sums: Used = {(f"user-{n}", 0): n + 1 for n in range(1_001)}
    everyone = {EVERY_USER.id: [user for user, _ in sums]}
    for count in (
        lambda budgets: budgets.seed(EVERY_USER, used_of(sums), NOW),
        lambda budgets: budgets.rebuild([EVERY_USER], used_of(sums), NOW),
    ):
        client.flushall()
        budgets = RedisBudgets(client)
        count(budgets)
        assert [state.spent for state in budgets.states([EVERY_USER], NOW, everyone)] == list(sums.values())


def test_each_time_of_counting_again_is_another_epoch(client: redis.Redis) -> None:
    budgets, epochs = RedisBudgets(client), set()
    for _ in range(3):
        client.delete(redis_keys.COUNTERS_WHOLE)
        assert budgets.rebuild([], used_of({}), NOW)
        epochs.add(client.get(redis_keys.COUNTERS_WHOLE))
    assert len(epochs) == 3


def test_nothing_is_counted_before_the_ledger_has_what_is_in_the_stream(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_budgets._DRAIN_SECONDS", 0.05)
    first = client.xadd(redis_keys.SPEND_STREAM, {"record": "{}"})
    assert not RedisBudgets(client).rebuild([budget()], used_of({("", 0): 1}), NOW)
    assert (client.exists(redis_keys.COUNTERS_WHOLE, redis_keys.RECOUNT), client.exists(counter(budget()).key)) == (
        0,
        0,
    )

    def later(count: int) -> None:
        """The ledger's writer is at work, and traffic that has no budget goes on."""
        client.xdel(redis_keys.SPEND_STREAM, first)
        client.xadd(redis_keys.SPEND_STREAM, {"record": "{}"})

    monkeypatch.setattr("router.stores.redis_budgets.time.sleep", later)
    assert RedisBudgets(client).rebuild([budget()], used_of({("", 0): 1}), NOW)


def settled_late(client: redis.Redis, amount: int, of: Budget) -> None:
    late = Settlement("late", b"{}", True, NOW_MS, "lost", counters_of([counter(of)]), (amount,))
    client.eval(SETTLE, *settle_arguments(late, redis_keys.pending("w1")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("befalls", "is_whole"),
    [("settled", False), ("settled at nothing", True), ("flushed", False), ("somebody else", False)],
)
def test_what_befalls_the_counters_meanwhile_is_noticed(client: redis.Redis, befalls: str, is_whole: bool) -> None:
    month, budgets = budget(), RedisBudgets(client)

    def used(asked: Budget, period: Period) -> Used:
        if befalls == "flushed":
            client.flushall()
        elif befalls == "somebody else":
            assert not RedisBudgets(client).rebuild([month], used_of({("", 0): 1}), NOW)
            client.delete(redis_keys.RECOUNT)  # until the claim has lapsed
            assert RedisBudgets(client).rebuild([month], used_of({("", 0): 700}), NOW)
        else:
            settled_late(client, 30 if befalls == "settled" else 0, month)
        return {("", 0): 250}

    assert budgets.rebuild([month], used, NOW) is is_whole
    assert budgets.whole() is (is_whole or befalls == "somebody else")
    if befalls == "somebody else":
        assert used_in(budgets, month) == (700, 0)


def test_settlements_that_are_sent_again_do_not_hold_up_the_counting(client: redis.Redis) -> None:
    month, budgets = budget(), RedisBudgets(client)
    settled_late(client, 30, month)
    client.delete(redis_keys.SPEND_STREAM)  # the ledger has it

    def used(asked: Budget, period: Period) -> Used:
        settled_late(client, 30, month)  # as with each renewal of a lease until the counters are whole
        return {("", 0): 280}

    assert budgets.rebuild([month], used, NOW)
    assert used_in(budgets, month) == (280, 0)


def test_the_truth_about_a_guess_is_counted_again(client: redis.Redis) -> None:
    month, budgets = budget(), RedisBudgets(client)
    client.set(redis_keys.abandoned("late"), "100")

    def used(asked: Budget, period: Period) -> Used:
        settled_late(client, 30, month)
        return {("", 0): 350}

    assert not budgets.rebuild([month], used, NOW)


def test_a_ledger_that_fails_leaves_the_way_free(client: redis.Redis) -> None:
    def fails(asked: Budget, period: Period) -> Used:
        raise ConnectionError("the ledger is away")

    with pytest.raises(ConnectionError):
        RedisBudgets(client).rebuild([budget()], fails, NOW)
    assert RedisBudgets(client).rebuild([budget()], used_of({}), NOW)


# comparing them with the ledger


@pytest.mark.parametrize(("known", "booked"), [(400, 250), (100, 250), (None, 250), (400, 0)])
def test_a_counter_that_is_off_is_set_right(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, known: int | None, booked: int
) -> None:
    month, budgets = budget(), RedisBudgets(client)
    if known is not None:
        client.hset(counter(month).key, mapping={"spent": known, "reserved": 7})
    sums: Used = {("", 0): booked} if booked else {}
    assert budgets.reconcile(month, used_of(sums), NOW) == 1
    assert used_in(budgets, month) == (booked, 0 if known is None else 7)
    assert client.ttl(counter(month).key) > 0
    assert "the counter of budget b was off" in caplog.text
    assert budgets.reconcile(month, used_of(sums), NOW) == 0


def test_each_users_counter_is_compared_with_what_the_ledger_has_of_them(client: redis.Redis) -> None:
    budgets = RedisBudgets(client)
    budgets.seed(EVERY_USER, used_of({("ann", 0): 40, ("bob", 0): 60}), NOW)
    assert budgets.reconcile(EVERY_USER, used_of({("ann", 0): 40, ("bob", 0): 50}), NOW) == 1
    states = budgets.states([EVERY_USER], NOW, {"each": ["ann", "bob"]})
    assert [state.spent for state in states] == [40, 50]


def test_a_counter_that_moves_meanwhile_is_left_alone(client: redis.Redis) -> None:
    month, budgets = budget(), RedisBudgets(client)
    budgets.seed(month, used_of({("", 0): 400}), NOW)
    asked = 0

    def used(of: Budget, period: Period) -> Used:
        nonlocal asked
        asked += 1
        if asked == 2:  # after the counter has been read
            client.hincrby(counter(month).key, "spent", 5)
        return {("", 0): 250}

    assert budgets.reconcile(month, used, NOW) == 0
    assert used_in(budgets, month) == (405, 0)


def test_a_counter_ahead_of_a_ledger_that_lags_is_left_alone(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.stores.redis_budgets._DRAIN_SECONDS", 0.05)
    month, budgets = budget(), RedisBudgets(client)
    budgets.seed(month, used_of({("", 0): 400}), NOW)
    client.xadd(redis_keys.SPEND_STREAM, {"record": "{}"})
    assert budgets.reconcile(month, used_of({("", 0): 250}), NOW) == 0
    assert used_in(budgets, month) == (400, 0)


def test_what_forgets_by_itself_is_not_compared(client: redis.Redis) -> None:
    def never(of: Budget, period: Period) -> Used:
        raise AssertionError("it need not be summed up")

    for one in (ROLLING, budget(window="minute", unit="requests"), budget(window="now", unit="parallel")):
        assert RedisBudgets(client).reconcile(one, never, NOW) == 0


@pytest.mark.parametrize(("policy", "is_named"), [("noeviction", False), ("volatile-lru", True), ("allkeys-lru", True)])
def test_a_redis_that_would_throw_counters_away_is_named(client: redis.Redis, policy: str, is_named: bool) -> None:
    client.config_set("maxmemory-policy", policy)
    assert RedisBudgets(client).evicts() == (policy if is_named else None)


def test_what_a_managed_redis_does_not_tell_is_not_needed(client: redis.Redis) -> None:
    assert RedisBudgets(client).run_id()
    client.acl_setuser(
        "tenant", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-info", "-config"]
    )
    socket = client.connection_pool.connection_kwargs["path"]
    with redis.Redis(unix_socket_path=socket, username="tenant", password="secret") as tenant:
        assert (RedisBudgets(tenant).run_id(), RedisBudgets(tenant).evicts()) == ("", None)


# the janitor

OPTIONS = [
    {"deployment": "small", "deployment_tier": "simple", "reason": "simple"},
    {"deployment": "large", "deployment_tier": "complex", "reason": "fallback"},
]
LARGE_ONLY, TOKENS, REQUESTS = (
    budget(id="large", model="large"),
    budget(id="tokens", unit="tokens"),
    budget(id="requests", unit="requests"),
)


def leave_behind(client: redis.Redis, name: str, first: int, held: dict[Budget, int], worker: str = "w1") -> None:
    """The entry of a request whose worker died, as admit.lua writes it."""
    provisional = spend_record(name, started_at_ms=NOW_MS, cost_nusd=0, reserved_nusd=0, output_tokens=0).to_json()
    counters = counters_of([counter(one) for one in held])
    amounts = b" ".join(b"%d" % amount for amount in held.values())
    record = orjson.dumps(provisional | {"options": OPTIONS})
    bounds = b"100 60" if first else b"0 0"
    entry = b"\n".join([amounts, b"%d" % first, bounds, counters.described, record])
    client.hset(redis_keys.pending(worker), name, entry)
    client.sadd(redis_keys.WORKERS, worker)
    for one, amount in held.items():
        client.hincrby(counter(one).key, "reserved", amount)


def booked(client: redis.Redis) -> dict[str, SpendRecord]:
    entries: Any = client.xrange(redis_keys.SPEND_STREAM)
    records = [SpendRecord.from_json(orjson.loads(fields[b"record"])) for _, fields in entries]
    return {record.request_id: record for record in records}


@pytest.mark.parametrize(("first", "of_large"), [(1, 0), (2, 100)])
def test_a_filtered_counter_is_charged_for_what_it_counts(client: redis.Redis, first: int, of_large: int) -> None:
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    leave_behind(client, "r1", first, {budget(): 100, LARGE_ONLY: 100, TOKENS: 60, REQUESTS: 1})
    assert Janitor(client).sweep() == 1
    found = [used_in(RedisBudgets(client), one) for one in (budget(), LARGE_ONLY, TOKENS, REQUESTS)]
    assert found == [(100, 0), (of_large, 0), (60, 0), (1, 0)]
    record = booked(client)["r1"]
    chosen = OPTIONS[first - 1]
    assert (record.deployment, record.deployment_tier, record.reason) == tuple(chosen.values())
    assert (record.status, record.cost_nusd, record.usage_source) == ("abandoned", 100, "reserved")


def test_a_hit_that_nobody_saw_end_counts_for_nothing(client: redis.Redis) -> None:
    leave_behind(client, "r1", 0, {})
    assert Janitor(client).sweep() == 1
    record = booked(client)["r1"]
    assert (record.cost_nusd, record.reason, record.cache, record.input_tokens) == (0, "cache", "hit", 0)


def test_only_workers_without_a_lease_are_swept_and_only_once(client: redis.Redis) -> None:
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    for worker in ("w1", "w2"):
        leave_behind(client, f"of-{worker}", 1, {budget(): 100}, worker)
    client.set(redis_keys.lease("w2"), "1")
    assert [Janitor(client).sweep() for _ in range(2)] == [1, 0]
    assert (booked(client).keys(), used_in(RedisBudgets(client), budget())) == ({"of-w1"}, (100, 100))
    assert client.smembers(redis_keys.WORKERS) == {b"w2"}


def test_a_worker_that_comes_back_while_it_is_swept_is_not_forgotten(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_behind(client, "r1", 1, {budget(): 100})

    def meanwhile(request_id: str, entry: bytes) -> Settlement:
        client.set(redis_keys.lease("w1"), "1")
        return abandoned(request_id, entry)

    monkeypatch.setattr("router.stores.redis_janitor.abandoned", meanwhile)
    assert Janitor(client).sweep() == 1
    assert client.smembers(redis_keys.WORKERS) == {b"w1"}


def test_what_the_janitor_booked_is_known_until_the_truth_comes(client: redis.Redis) -> None:
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    leave_behind(client, "late", 1, {budget(): 100})
    Janitor(client).sweep()
    assert client.ttl(redis_keys.abandoned("late")) > 86_400
    truth = Settlement("late", b"{}", True, NOW_MS, "1", counters_of([counter(budget())]), (30,))
    for one in (truth, truth, replace(truth, amounts=(40,))):
        client.eval(SETTLE, *settle_arguments(one, redis_keys.pending("w1")))  # type: ignore[arg-type]
    assert used_in(RedisBudgets(client), budget()) == (30, 0)
    assert not client.exists(redis_keys.abandoned("late"))


@pytest.mark.parametrize("counted", [budget(), ROLLING], ids=["month", "rolling"])
@pytest.mark.parametrize("is_known", [False, True])
def test_what_the_truth_has_lowered_is_not_raised_to_what_the_ledger_had(
    client: redis.Redis, counted: Budget, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has 100 that the counter lacks. The truth about a request comes after the ledger was summed up: before
    it is known how often the counter was lowered, or after that."""
    monkeypatch.setattr("router.stores.redis_budgets._DRAIN_SECONDS", 0.05)
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    for request_id in ("late", "other"):
        leave_behind(client, request_id, 1, {counted: 100})
    Janitor(client).sweep()
    part = BUCKET if counted is ROLLING else 0
    ledger: Used = {("", part): 300}

    class Overtaken(RedisBudgets):
        def _lacking(self, amounts: Iterable[CounterAmounts]) -> dict[str, bytes]:
            if not is_known:
                tell_the_truth()
            found = super()._lacking(amounts)
            if is_known:
                tell_the_truth()
            return found

    def tell_the_truth() -> None:
        truth = Settlement("late", b"{}", True, NOW_MS, "1", counters_of([counter(counted)]), (30,))
        client.eval(SETTLE, *settle_arguments(truth, redis_keys.pending("w1")))  # type: ignore[arg-type]
        ledger["", part] = 230

    is_raised = Overtaken(client).seed(counted, lambda *_: dict(ledger), NOW)
    assert (is_raised, used_in(RedisBudgets(client), counted)) == ((False, (130, 0)) if is_known else (True, (230, 0)))
    assert RedisBudgets(client).seed(counted, lambda *_: dict(ledger), NOW)
    assert used_in(RedisBudgets(client), counted) == (230, 0)


@pytest.mark.parametrize(
    "entry", [b"100\n{parsimony}:budget:b:2030-11\n{}", b"", b"1\n9\n1 1\n[]\n{}", b"1\n1\n1 1\n[]\nnonsense"]
)
def test_what_the_janitor_cannot_read_is_kept_and_keeps_nothing_from_being_booked(
    client: redis.Redis, entry: bytes
) -> None:
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    leave_behind(client, "readable", 1, {budget(): 100})
    client.hset(redis_keys.pending("w1"), "strange", entry)  # type: ignore[arg-type]
    Janitor(client).sweep()
    assert used_in(RedisBudgets(client), budget()) == (100, 0)
    assert client.hgetall(redis_keys.unreadable("w1")) == {b"strange": entry}
    assert not client.exists(redis_keys.pending("w1"))


def test_what_the_janitor_cannot_book_gives_back_what_it_held(client: redis.Redis) -> None:
    client.set(redis_keys.COUNTERS_WHOLE, "1")
    of = counter(budget())
    client.hset(of.key, mapping={"spent": 5, "reserved": 40})
    client.sadd(redis_keys.WORKERS, "w1")
    described = orjson.dumps([[of.key, "usd", 0, 0, None, None]])
    client.hset(redis_keys.pending("w1"), "strange", b"40\n9\n40 1\n%b\n{}" % described)  # type: ignore[arg-type]
    Janitor(client).sweep()
    assert used_in(RedisBudgets(client), budget()) == (5, 0)


def test_windows_are_told_by_redis_as_the_workers_do(client: redis.Redis) -> None:
    system = Clock(wall=lambda: 1_000.0, monotonic=lambda: 5.0)  # a machine whose clock is decades behind
    clock = clock_of(RedisBudgets(client), system)
    assert abs(clock.wall() - SYSTEM_CLOCK.wall()) < 60
    client.connection_pool.disconnect()
    assert abs(clock_of(RedisBudgets(redis.Redis(port=1)), system).wall() - 1_000.0) < 1
