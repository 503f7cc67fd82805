"""Every kind of SQL database, for the suites that each must pass."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, make_url, text

from router.stores.sql_engine import create_ledger_engine, migrate
from tests.support import postgres_server


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    reason = postgres_server.missing()
    if reason:
        pytest.skip(reason)
    with postgres_server.postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To copy it takes a fraction of migrating another; so does PostgreSQL's template."""
    path = tmp_path_factory.mktemp("migrated") / "ledger.sqlite"
    migrated(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[Connection]:
    """A connection on which databases are made of the template `migrated`."""
    server = create_ledger_engine(postgres_url).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE migrated"))
        migrated(beside(postgres_url, "migrated")).dispose()
        yield connection
    server.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated, empty database."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path)
        opened = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    else:
        server = request.getfixturevalue("migrated_postgres")
        server.execute(text("DROP DATABASE IF EXISTS tested WITH (FORCE)"))
        server.execute(text("CREATE DATABASE tested TEMPLATE migrated"))
        opened = create_ledger_engine(beside(request.getfixturevalue("postgres_url"), "tested"))
    yield opened
    opened.dispose()


def migrated(url: str) -> Engine:
    engine = create_ledger_engine(url)
    migrate(engine)
    return engine


def beside(url: str, database: str) -> str:
    """Another database of the same server."""
    return make_url(url).set(database=database).render_as_string(hide_password=False)
