"""Stores that the tests of the admin API and of the commands share: one Redis, emptied, and a new database for each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.services import AdminServices
from tests.support.admin_api import open_stores
from tests.support.administration import write_config
from tests.support.redis_server import redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Path:
    return write_config(tmp_path, redis_url)


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of the newest schema: to copy it takes a hundredth of migrating another."""
    config = write_config(tmp_path_factory.mktemp("ledger"))
    with open_stores(config):
        return config.parent / "data" / "ledger.sqlite"


@pytest.fixture
def services(config: Path, empty_ledger: Path) -> Iterator[AdminServices]:
    (config.parent / "data").mkdir()
    shutil.copy(empty_ledger, config.parent / "data")
    with open_stores(config) as services:
        services.budgets._redis.flushall()
        yield services
