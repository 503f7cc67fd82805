"""The migrations lead to the schema that the code expects, on every database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from router.errors import ConfigError
from router.stores.sql_engine import HEAD, MIGRATIONS, create_ledger_engine, current_revision, migrate, reading, writing
from router.stores.sql_schema import METADATA


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_migrated_schema_is_the_one_in_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert current_revision(connection) == HEAD


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO teams VALUES ('support', 'Support', 1)"))
    migrate(engine)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT id FROM teams")).scalars().all() == ["support"]


def test_several_processes_may_migrate_at_once(engine: Engine, tmp_path: Path) -> None:
    if engine.dialect.name == "sqlite":
        url = f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    else:
        url = engine.url.render_as_string(hide_password=False)
        with engine.begin() as connection:
            METADATA.drop_all(connection)
            connection.execute(text("DROP TABLE alembic_version"))
    code = f"from router.stores.sql_engine import migrate; migrate({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    fresh = create_ledger_engine(url)
    try:
        assert set(inspect(fresh).get_table_names()) == {*METADATA.tables, "alembic_version"}
    finally:
        fresh.dispose()


def test_a_database_from_the_future_is_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"'9999'.*newer version"):
        migrate(engine)


def test_a_failed_transaction_leaves_no_trace(engine: Engine) -> None:
    def fail() -> None:
        with writing(engine) as connection:
            connection.execute(text("INSERT INTO teams VALUES ('support', 'Support', 1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM teams")).scalar() == 0
