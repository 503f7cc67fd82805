"""What is chosen without Redis is what admit.lua would choose, if counters were purses and knew nothing but money."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifiers.base import TIERS
from router.stores import redis_keys
from router.stores.admission import LOCAL_EPOCH, Admitted, Bid, BudgetCounter, Option
from router.stores.counters import counters_of
from router.stores.local_admission import choose
from router.stores.redis_admission import SCRIPTS, RedisAdmissionStore
from router.stores.redis_connection import RedisConnection
from tests.support.redis_server import redis_client

TEAM = BudgetCounter("{parsimony}:budget:team", "usd", 10_000)


def option(name: str = "small", *, rank: int = 0, **bounds: int) -> Option:
    known = {"base_nusd": 100, "nusd_per_token": 2, "base_tokens": 50, "tokens_per_token": 1} | bounds
    known = {"longest": 1_000, "least": 256} | known
    return Option(deployment=name, tier=TIERS[rank], rank=rank, **known)


def bid(*options: Option, counters: tuple[BudgetCounter, ...] = (TEAM,), **changes: Any) -> Bid:
    values: dict[str, Any] = {
        "request_id": "r1",
        "record": b"{}",
        "now_ms": 1_793_000_000_000,
        "options": options or (option(),),
        "most": 3,
        "counters": counters_of(counters),
        "masks": (b"",) * len(counters),
    }
    return Bid(**values | changes)


def test_what_fits_is_held_with_the_longest_answer() -> None:
    assert choose(bid(), [10_000]) == Admitted((0,), (1_000,), 2_100, 1_050, LOCAL_EPOCH)


def test_an_answer_may_be_as_long_as_a_part_of_the_room_pays() -> None:
    assert choose(bid(), [4_000]) == Admitted((0,), (450,), 1_000, 500, LOCAL_EPOCH)


def test_no_answer_is_cut_below_its_least() -> None:
    assert choose(bid(), [612]) == Admitted((0,), (256,), 612, 306, LOCAL_EPOCH)
    assert choose(bid(), [611]) is None


def test_what_is_too_dear_is_passed_over() -> None:
    dear = option("large", rank=2, base_nusd=50_000)
    assert choose(bid(dear, option()), [10_000]) == Admitted((1,), (1_000,), 2_100, 1_050, LOCAL_EPOCH)


def test_without_a_budget_there_is_no_bound() -> None:
    free_of_budgets = bid(counters=())
    assert choose(free_of_budgets, []) == Admitted((0,), (1_000,), 2_100, 1_050, LOCAL_EPOCH)


def test_a_spent_purse_carries_what_is_free_and_a_closed_one_nothing() -> None:
    free = option(base_nusd=0, nusd_per_token=0)
    assert choose(bid(free), [0]) == Admitted((0,), (1_000,), 0, 1_050, LOCAL_EPOCH)
    assert choose(bid(free), [-1]) is None


def test_a_budget_of_one_model_does_not_bound_another() -> None:
    options = (option("large"), option("small"))
    of_large = bid(*options, masks=(b"10",), most=1)
    assert choose(of_large, [0]) == Admitted((1,), (1_000,), 2_100, 1_050, LOCAL_EPOCH)


def test_a_budget_that_never_lets_large_models_in_does_not_now() -> None:
    capped = (replace(TEAM, downgrades_from=0, downgrade_rank=0),)
    large, small = option("large", rank=2), option("small")
    chosen = choose(bid(large, small, counters=capped), [10_000])
    assert chosen is not None
    assert chosen.options == (1,)
    assert choose(bid(large, counters=capped), [10_000]) is None


# beside the script


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_client(tmp_path_factory.mktemp("redis")) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "epoch")
        yield "unix://" + client.connection_pool.connection_kwargs["path"]


_amounts = st.integers(0, 3_000)
_options = st.lists(
    st.builds(
        lambda rank, base, per_token, longest, least: option(
            rank=rank, base_nusd=base, nusd_per_token=per_token, longest=max(longest, least), least=least
        ),
        rank=st.integers(0, 2),
        base=_amounts,
        per_token=st.integers(0, 9),
        longest=st.integers(1, 2_000),
        least=st.integers(1, 500),
    ),
    min_size=1,
    max_size=4,
)
_rooms = st.lists(st.integers(1, 20_000), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=_options, rooms=_rooms, most=st.integers(1, 3), data=st.data())
def test_fresh_budgets_of_money_are_weighed_as_the_script_does(
    redis_url: str, options: list[Option], rooms: list[int], most: int, data: st.DataObject
) -> None:
    masks = tuple(
        data.draw(st.sampled_from([b"", *[f"{n:0{len(options)}b}".encode() for n in range(2 ** len(options))]]))
        for _ in rooms
    )
    counters = tuple(
        replace(
            TEAM,
            key=redis_keys.budget_counter(f"b{n}", "2026-11"),
            limit=room,
            downgrades_from=data.draw(st.sampled_from([None, 0])),
            downgrade_rank=data.draw(st.integers(0, 2)),
        )
        for n, room in enumerate(rooms)
    )
    asked = bid(*options, counters=counters, masks=masks, most=most)

    async def by_script() -> object:
        connection = await RedisConnection.open(redis_url, timeout_s=5, scripts=SCRIPTS)
        store = RedisAdmissionStore(connection, "w1")
        try:
            await connection.execute("DEL", redis_keys.pending("w1"), *[counter.key for counter in counters])
            return await store.admit(asked)
        finally:
            await store.close()

    expected = asyncio.run(by_script())
    chosen = choose(asked, rooms)
    assert chosen == (replace(expected, epoch=LOCAL_EPOCH) if isinstance(expected, Admitted) else None)
