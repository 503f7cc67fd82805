"""A private redis-server for a test, with its data in the test's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from router.stores.redis_server import EmbeddedRedis, embedded_url


@dataclass(frozen=True, slots=True)
class PrivateRedis:
    """A server to `start` and `stop`; its data survive in between, and its `url` stays the same."""

    url: str
    server: EmbeddedRedis

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


@contextmanager
def redis_server(folder: Path) -> Iterator[PrivateRedis]:
    """Yields a running server on a Unix socket; stops that process at the end."""
    private = PrivateRedis(embedded_url(folder), EmbeddedRedis(folder))
    private.start()
    try:
        yield private
    finally:
        private.stop()


@contextmanager
def redis_client(folder: Path) -> Iterator[redis.Redis]:
    """Yields a client of a server of its own; answers are bytes."""
    with redis_server(folder) as server, redis.Redis.from_url(server.url) as client:
        yield client
