"""The SQL engine: SQLite or PostgreSQL, how each is opened, and the way to the newest schema."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from sqlalchemy import Connection, Engine, create_engine, event, exc, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import StaticPool

from router.errors import ConfigError, StoreUnavailable

logger = logging.getLogger(__name__)

HEAD = "0005"
"""The newest migration. Kept here so that a start with nothing to migrate need not import Alembic."""

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_S = 5
MIGRATION_LOCK = 0x7061727369  # any number, so long as every Parsimony takes the same

_WRITES = "parsimony_writes"


def create_ledger_engine(url: str) -> Engine:
    """An engine for `url`: sqlite:///path, or postgresql://user@host/database (psycopg 3).

    Connects to nothing yet, but makes the folder of a SQLite file. SQLite runs in WAL mode with
    synchronous=NORMAL: a killed process loses nothing, a power cut at worst the last transactions.
    Raises ConfigError for a URL of any other kind.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=10,
            pool_timeout=10,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    engine = create_engine(parsed, **_sqlite_options(parsed))
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise ConfigError("sql.url is not a database URL, such as sqlite:///data/ledger.sqlite") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ConfigError(f"sql.url begins with {parsed.drivername!r}; allowed are sqlite and postgresql")
    return parsed


def _sqlite_options(url: URL) -> dict[str, Any]:
    if url.database in (None, "", ":memory:"):
        # One connection for all threads, or each would see a database of its own.
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    return {"pool_timeout": 10}


def _open_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver would begin transactions where it sees fit; SQLAlchemy says when instead.
    connection.isolation_level = None
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()
    _enter_wal(connection)


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Lasts in the file. SQLite does not wait by itself when several processes open a new file at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another wrote in between;
    # taking the write lock at its beginning makes it wait its turn.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read with. Raises StoreUnavailable where the database cannot be reached."""
    with _translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is committed at the end of the block, or undone by whatever it raises.

    Raises StoreUnavailable where the database cannot be reached or is too busy. Data that it will
    never take (IntegrityError, DataError) passes as SQLAlchemy's own error.
    """
    with _translated(engine), engine.connect() as raw:
        connection = raw.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    """The border where SQLAlchemy's errors end. Callers see no more than that; the log says which database and why."""
    try:
        yield
    except (exc.IntegrityError, exc.DataError):
        raise
    except (exc.DBAPIError, exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        name, why = engine.url.render_as_string(hide_password=True), " ".join(str(cause).split())
        logger.error("%s", _masked(f"the database {name} cannot be used: {why}", engine.url))
        raise StoreUnavailable("the database cannot be used") from error


def _masked(message: str, url: URL) -> str:
    """`message` without the passwords of `url`, which may stand in its query, too."""
    in_query = (values for name, values in url.normalized_query.items() if "password" in name.lower())
    for secret in filter(None, [str(url.password or ""), *chain.from_iterable(in_query)]):
        message = message.replace(quote_plus(secret), "***").replace(secret, "***")
    return message


def current_revision(connection: Connection) -> str | None:
    """The migration that the database is at, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(target: Engine | str) -> None:
    """Brings the database to the newest schema; several processes may do so at once.

    Raises StoreUnavailable, and ConfigError for a database that a newer Parsimony has migrated.
    """
    engine = create_ledger_engine(target) if isinstance(target, str) else target
    try:
        with reading(engine) as connection:
            if current_revision(connection) == HEAD:
                return
        with writing(engine) as connection:
            _upgrade(connection)
    finally:
        if engine is not target:
            engine.dispose()


def _upgrade(connection: Connection) -> None:
    # Alembic takes a third of a second to import; a start with nothing to migrate does without.
    from alembic import command, util
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except util.CommandError as error:
        found = current_revision(connection)
        raise ConfigError(
            f"the database is at revision {found!r}, which this Parsimony (up to {HEAD!r}) does not know: "
            "run the newer version that migrated it"
        ) from error
