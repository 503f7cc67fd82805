"""The writer's housekeeping closes the hours of machines into the ledger, over restarts and long stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import redis

from policies.money import NUSD_PER_USD
from router.cli.housekeeping import Housekeeper
from router.config import Config, load_config
from router.config_hardware import HardwareUse
from router.services import AdminServices
from router.stores import redis_keys
from router.stores.cells import HOUR_MS
from tests.support.admin_api import open_stores
from tests.support.administration import write_config
from tests.support.pipeline_bench import HandClock
from tests.support.redis_server import redis_server
from tests.support.spend import spend_record

HARDWARE = Path(__file__).parents[2] / "configs" / "hardware.yaml"


def with_machine(config: Config) -> Config:
    small, *others = config.deployments
    small = small.model_copy(update={"hardware": HardwareUse(name="a100-40gb")})
    return config.model_copy(update={"hardware": HARDWARE, "deployments": (small, *others)})


def keep_house(config: Config, services: AdminServices, hand: HandClock, rounds: int) -> None:
    """A writer that starts, goes round so often, and stops."""
    house = Housekeeper(config, services, hand.clock())
    for _ in range(rounds):
        house.round(sweep=False)
    house.close()


def test_hours_are_closed_beside_what_was_booked_in_them(tmp_path: Path) -> None:
    hand = replace(HandClock())
    with redis_server(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set(redis_keys.COUNTERS_WHOLE, "1")
        path = write_config(tmp_path, server.url)
        config = with_machine(load_config(path))
        with open_stores(path) as services:
            began_ms = int(hand.now_s * 1000)
            record = spend_record("r1", deployment="small", started_at_ms=began_ms, cost_nusd=NUSD_PER_USD)
            services.ledger.append([record])
            keep_house(config, services, hand, 2)
            assert services.books.hour_costs(0, 2**53) == (), "the hour is not over"
            hand.now_s += 3 * 3600
            for _ in range(2):
                keep_house(config, services, hand, 2)
            hours = services.books.hour_costs(0, 2**53)
            first_ms = began_ms - began_ms % HOUR_MS
            assert [(hour.hour_ms - first_ms) // HOUR_MS for hour in hours] == [0, 1, 2]
            assert [hour.idle_nusd // NUSD_PER_USD for hour in hours] == [3, 4, 4]
