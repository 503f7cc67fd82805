"""`python -m router.cli.writer`: moves settled spend to SQL, keeps house in the stores, and makes scheduled reports."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path

import redis

from router.bootstrap import admin_services, redis_client
from router.cli.housekeeping import Housekeeper
from router.cli.scheduled_reports import report_scheduler
from router.clock import SYSTEM_CLOCK, Clock
from router.config import load_config
from router.errors import ParsimonyError, StoreUnavailable
from router.processes import exit_status
from router.stores import redis_keys
from router.stores.ledger_writer import LedgerWriter
from router.stores.redis_admission import LEASE_SECONDS
from router.stores.redis_budgets import clock_of
from router.telemetry import configure_logging

logger = logging.getLogger(__name__)

_ROUND_SECONDS = 1.0
_DRAIN_SECONDS = 5.0
_COLLECTED_EACH = 100_000
"""Objects more than there were: some more than a batch has."""


def _keep_house(house: Housekeeper, stop: threading.Event, clock: Clock = SYSTEM_CLOCK) -> None:
    """Rounds until `stop`. After an outage of Redis, workers get time to renew their leases first."""
    quiet_until_s = 0.0
    while not stop.wait(_ROUND_SECONDS):
        try:
            house.round(sweep=clock.monotonic() >= quiet_until_s)
        except (redis.RedisError, StoreUnavailable) as error:
            logger.warning("the stores cannot be reached: %s", error)
            quiet_until_s = clock.monotonic() + LEASE_SECONDS
        except Exception:  # the border of the loop: were it to end, nothing would be put right any more
            logger.exception("keeping house failed; it goes on")


def collect_rarely() -> None:
    """What was made until now stays, and what a batch makes has no cycles and is gone with it: so many records never
    come together, and looking for cycles among each hundred took a quarter of the time that booking takes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_EACH)


def main() -> None:
    parser = argparse.ArgumentParser(prog="router.cli.writer")
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        config = load_config(arguments.config)
        configure_logging(config.logging.format, config.logging.level)
        admin = admin_services(config)
        shared_clock = clock_of(admin.budgets)
        reports = report_scheduler(admin, shared_clock)
        # The same name after a restart, so that what the last one left pending is taken up at once.
        consumer = f"{socket.gethostname()}:{config.data_dir.resolve()}"
        writer = LedgerWriter(redis_client(config), admin.ledger, redis_keys.SPEND_STREAM, consumer=consumer)
        house = Housekeeper(config, replace(admin, clock=shared_clock), shared_clock)
        collect_rarely()
        # Once nothing more can be wrong with the configuration: the thread would keep a process alive that gave up.
        thread = threading.Thread(target=writer.run, args=(stop,), name="ledger-writer")
        thread.start()
        reports.start()
        _keep_house(house, stop)
        reports.close()
        house.close()
        thread.join()
        writer.drain(_DRAIN_SECONDS)
    except ParsimonyError as error:
        print(f"parsimony: {error}", file=sys.stderr)
        sys.exit(exit_status(error))


if __name__ == "__main__":
    main()
