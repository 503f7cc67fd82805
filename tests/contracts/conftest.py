"""Every kind of SQL database, for the suites that each must pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from router.stores.sql_engine import create_ledger_engine, migrate
from tests.support import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    reason = postgres_server.missing()
    if reason:
        pytest.skip(reason)
    with postgres_server.postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated, empty database."""
    if request.param == "sqlite":
        opened = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    else:
        opened = create_ledger_engine(request.getfixturevalue("postgres_url"))
        with opened.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    migrate(opened)
    yield opened
    opened.dispose()
