"""Blows that fall on a server under load: what is killed or paused once so many requests have been answered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import psutil
import redis

from tests.support.server import Server, wait_until

RECOVERY_S = 45.0
"""A dead worker's lease lapses after ten seconds; the rest is for a slow machine."""
SETTLING_S = 0.2
"""In which Redis reads something of what a worker sent before it was paused."""


class Misfortunes:
    """Blows that fall once so many requests have been answered, each beside the load."""

    def __init__(self, blows: Mapping[int, Callable[[], None]]) -> None:
        self._blows = dict(blows)
        self._pool = ThreadPoolExecutor(4)
        self._fallen: list[Future[None]] = []

    def on_seen(self, count: int) -> None:
        for at in [at for at in self._blows if at <= count]:
            self._fallen.append(self._pool.submit(self._blows.pop(at)))

    def wait(self) -> None:
        assert self._blows == {}, "the load was over before all blows had fallen"
        for fallen in self._fallen:
            fallen.result(4 * RECOVERY_S)


class Workers:
    """Those of a server, to be killed and paused at random; each blow falls on its own thread."""

    def __init__(self, server: Server, dice: random.Random) -> None:
        self._server = server
        self._dice = dice
        self._choosing = Lock()
        self._spared: set[int] = set()
        self.overtaken: set[str] = set()
        """Requests that were given up for lost, and whose end was booked in place of that."""

    def kill_one(self) -> None:
        """Any but the one that was paused, whose requests are to end after they were given up for lost."""
        with self._choosing:
            workers = [worker for worker in self._server.processes("worker") if worker.pid not in self._spared]
            self._dice.choice(workers).kill()

    def pause_one(self) -> None:
        """One that has requests under way: until these are given up for lost, however long that takes.

        A Redis that was away, or a new writer, gives workers more time than their lease has.
        """
        worker, caught = wait_until("a worker has requests under way", self._catch, RECOVERY_S)

        def lost() -> set[str]:
            return {row["request_id"] for row in self._server.ledger() if row["status"] == "abandoned"} & caught

        try:
            given_up = wait_until("the requests of a paused worker are given up for lost", lost, RECOVERY_S)
        finally:
            worker.resume()
        wait_until("their end is booked", lambda: not lost(), RECOVERY_S)
        self.overtaken = given_up

    def _catch(self) -> tuple[psutil.Process, set[str]] | None:
        """A suspended worker and its requests; one that has only just been started may have none."""
        with self._choosing:
            try:
                worker = self._dice.choice(self._server.processes("worker"))
                worker.suspend()
                self._spared.add(worker.pid)
                caught = self._under_way(worker)
                if caught:
                    return worker, caught
                self._spared.remove(worker.pid)
                worker.resume()
            except psutil.NoSuchProcess:
                pass
        return None

    def _under_way(self, worker: psutil.Process) -> set[str]:
        """Those whose end was not already on its way to Redis when the worker stopped."""
        try:
            before, found = None, self._server.pending_of(worker)
            while found != before:
                time.sleep(SETTLING_S)
                before, found = found, self._server.pending_of(worker)
        except redis.RedisError:
            return set()  # killed before, and not back yet
        return found
