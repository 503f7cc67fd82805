"""What the writer does beside moving records: for counters that were lost, and for those of new budgets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from policies.budget import Budget
from router.cli.housekeeping import Housekeeper
from router.clock import SYSTEM_CLOCK
from router.config import load_config
from router.services import AdminServices
from router.stores import redis_keys
from router.stores.administration import set_budget, unix_ms
from router.stores.admission import LOCAL_EPOCH, Settlement
from router.stores.counters import counter_of, counters_of, window_of
from router.stores.ledger_writer import LedgerWriter
from router.stores.redis_budgets import RedisBudgets
from router.stores.spool import Spool
from router.stores.sql_partitions import months_before
from tests.support.admin_api import open_stores
from tests.support.administration import write_config
from tests.support.pipeline_bench import HandClock
from tests.support.redis_server import PrivateRedis, redis_server
from tests.support.spend import spend_record

HAND = HandClock()
NOW_MS = int(HAND.now_s * 1000)


@contextmanager
def ledger_writer(services: AdminServices, client: redis.Redis) -> Iterator[None]:
    stop = threading.Event()
    writer = LedgerWriter(client, services.ledger, redis_keys.SPEND_STREAM, consumer="w", linger_seconds=0.01)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def leave_on_disk(data_dir: Path, budget: Budget, cost_nusd: int) -> None:
    """What a process settled while Redis was away, and did not live to tell it."""
    record = spend_record("r1", cost_nusd=cost_nusd, started_at_ms=NOW_MS)
    counters = counters_of([counter_of(budget, window_of(budget, HAND.clock().now()))])
    spool = Spool(data_dir, "w1")
    spool.keep(
        Settlement("r1", orjson.dumps(record.to_json()), True, NOW_MS, LOCAL_EPOCH, counters, amounts=(cost_nusd,))
    )
    spool.close()


def test_lost_counters_come_back_with_what_ended_processes_left_on_disk(tmp_path: Path) -> None:
    hand = replace(HAND)
    with redis_server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        config = write_config(tmp_path, server.url)
        with open_stores(config) as services, ledger_writer(services, client):
            services.directory.create_team("support")
            budget = set_budget(services, "team", "support", 1_000, terms={})
            leave_on_disk(services.config.data_dir, budget, 400)
            house = Housekeeper(load_config(config), services, hand.clock())
            house.round(sweep=True)
            assert not services.budgets.whole(), "workers have the time to hold again what they held"
            hand.now_s += 4
            house.round(sweep=True)
            assert services.budgets.whole()
            (state,) = services.budgets.states([budget], hand.clock().now())
            assert state.spent == 400
            house.close()


@contextmanager
def keeping_house(folder: Path, window: str) -> Iterator[tuple[AdminServices, PrivateRedis, Callable[[], int]]]:
    """The stores, their Redis, and what the one budget has spent after eight seconds and a round."""
    hand = replace(HAND)
    with redis_server(folder) as server, redis.Redis.from_url(server.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        config = write_config(folder, server.url)
        with open_stores(config) as services:
            services.directory.create_team("support")
            budget = set_budget(services, "team", "support", 1_000, window=window, terms={})
            house = Housekeeper(load_config(config), services, hand.clock())
            house.round(sweep=True)

            def spent_later() -> int:
                hand.now_s += 8
                house.round(sweep=True)
                (state,) = services.budgets.states([budget], SYSTEM_CLOCK.now())
                return state.spent

            yield services, server, spent_later
            house.close()


def book(services: AdminServices, request_id: str, cost_nusd: int) -> None:
    """In the ledger alone."""
    started_at_ms = unix_ms(SYSTEM_CLOCK.now())
    services.ledger.append([spend_record(request_id, cost_nusd=cost_nusd, started_at_ms=started_at_ms)])


@pytest.mark.parametrize("window", ["lifetime", "rolling:1d"])
def test_what_is_used_before_all_workers_know_a_new_budget_counts(tmp_path: Path, window: str) -> None:
    with keeping_house(tmp_path, window) as (services, _, spent_later):
        book(services, "r1", 90)
        assert [spent_later() for _ in range(2)] == [90, 90]


@pytest.mark.parametrize("window", ["lifetime", "rolling:1d"])
def test_what_a_redis_that_took_over_lacks_counts(tmp_path: Path, window: str) -> None:
    with keeping_house(tmp_path, window) as (services, server, spent_later):
        assert [spent_later() for _ in range(3)] == [0, 0, 0]
        book(services, "r1", 90)
        assert spent_later() == 0, "the ledger is not summed up in each round"
        server.stop()
        server.start()
        assert [spent_later() for _ in range(2)] == [0, 90]


def test_what_a_redis_that_took_over_has_too_much_of_goes(tmp_path: Path) -> None:
    """It lacks the end of a request whose worker has died since, and what it held is booked in its place."""
    with keeping_house(tmp_path, "lifetime") as (services, server, spent_later):
        book(services, "r1", 90)
        assert [spent_later() for _ in range(3)] == [90, 90, 90]
        (budget,) = services.directory.list_budgets()
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.hincrby(counter_of(budget, window_of(budget, SYSTEM_CLOCK.now())).key, "spent", 25)
        assert [spent_later() for _ in range(4)] == [115, 115, 90, 90]


def test_what_could_not_be_counted_in_one_round_is_counted_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, answers = RedisBudgets.seed, [False]

    def overtaken(self: RedisBudgets, *arguments: Any) -> bool:
        return answers.pop() if answers else seed(self, *arguments)

    with keeping_house(tmp_path, "rolling:1d") as (services, _, spent_later):
        book(services, "r1", 90)
        monkeypatch.setattr(RedisBudgets, "seed", overtaken)
        assert [spent_later() for _ in range(2)] == [0, 90]


def test_of_two_restarts_in_a_row_the_second_counts(tmp_path: Path) -> None:
    with keeping_house(tmp_path, "lifetime") as (services, server, spent_later):
        (budget,) = services.directory.list_budgets()
        for _ in range(2):
            server.stop()
            server.start()
            assert spent_later() == 0
        assert spent_later() == 0, "as long after the first as it takes after the second"
        with redis.Redis.from_url(server.url) as client:
            client.hincrby(counter_of(budget, window_of(budget, SYSTEM_CLOCK.now())).key, "spent", 25)
        assert spent_later() == 0


def test_seeding_many_budgets_is_spread_over_rounds_and_the_newest_come_first(tmp_path: Path) -> None:
    hand, seeded = replace(HAND), list[str]()

    class LargeLedger(AdminServices):
        def seed(self, budget: Budget) -> bool:
            seeded.append(budget.window)
            hand.now_s += 0.3
            return True

    with redis_server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        config = write_config(tmp_path, server.url)
        with open_stores(config) as services:
            slow = LargeLedger(**{field.name: getattr(services, field.name) for field in fields(services)})
            house = Housekeeper(load_config(config), slow, hand.clock())
            services.directory.create_team("support")
            for windows in (("day", "hour", "month", "quarter"), ("year",)):
                for window in windows:
                    set_budget(services, "team", "support", 1_000, window=window, terms={})
                house.round(sweep=True)
                hand.now_s += 2
            hand.now_s += 6

            def round_seeds() -> list[str]:
                seeded.clear()
                house.round(sweep=True)
                return seeded.copy()

            assert [round_seeds() for _ in range(4)] == [["year", "day"], ["hour", "month"], ["quarter"], []]
            house.close()


DAY_S = 24 * 3600


def test_once_a_day_records_older_than_the_months_to_keep_are_let_go(tmp_path: Path) -> None:
    hand = replace(HAND)
    with redis_server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        path = write_config(tmp_path, server.url)
        path.write_text(path.read_text() + "ledger:\n  retention_months: 2\n")
        with open_stores(path) as services:
            old, kept = months_before(NOW_MS, 2) - 1, months_before(NOW_MS, 2)
            house = Housekeeper(load_config(path), services, hand.clock())

            def after(seconds: float) -> list[str]:
                """The records that are there after a round."""
                hand.now_s += seconds
                house.round(sweep=True)
                return [record.request_id for some in services.ledger.records(0, 2**53) for record in some]

            def book_old(request_id: str) -> None:
                services.ledger.append([spend_record(request_id, started_at_ms=old)])

            services.ledger.append([spend_record("kept", started_at_ms=kept)])
            book_old("r1")
            assert after(0) == ["kept"]
            book_old("r2")
            assert after(1) == ["kept"], "after a round that let something go there is another"
            assert after(1) == ["kept"]
            book_old("r3")
            assert after(DAY_S / 2) == ["r3", "kept"], "nobody looks twice a day"
            assert after(DAY_S / 2) == ["kept"]
            (sums,) = services.books.cells(0, 2**53 // 3_600_000 * 3_600_000, ())
            assert sums.request_count == 4, "the sums stay"
            house.close()


def test_every_record_is_kept_where_no_limit_is_set(tmp_path: Path) -> None:
    with keeping_house(tmp_path, "lifetime") as (services, _, spent_later):
        services.ledger.append([spend_record("r1", started_at_ms=1)])
        spent_later()
        assert services.ledger.get("r1") is not None
