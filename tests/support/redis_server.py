"""A private redis-server for a test, with its data in the test's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from router.stores.redis_server import EmbeddedRedis


@contextmanager
def redis_server(folder: Path) -> Iterator[EmbeddedRedis]:
    """Yields a running server on a Unix socket in `folder`; stops that process at the end."""
    server = EmbeddedRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis_client(folder: Path) -> Iterator[redis.Redis]:
    """Yields a client of a server of its own; answers are bytes."""
    with redis_server(folder) as server, redis.Redis.from_url(server.url) as client:
        yield client
