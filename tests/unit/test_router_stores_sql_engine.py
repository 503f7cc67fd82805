"""How databases are opened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from router.errors import ConfigError, StoreUnavailable
from router.stores.sql_engine import create_ledger_engine, migrate, reading, writing


def test_a_sqlite_file_is_made_with_its_folder_and_keeps_a_log_ahead(tmp_path: Path) -> None:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'new' / 'ledger.sqlite'}")
    with reading(engine) as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    engine.dispose()
    assert found == ["wal", 1, 1, 5000]


def test_a_database_in_memory_is_one_for_all_connections() -> None:
    engine = create_ledger_engine("sqlite://")
    migrate(engine)
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO teams VALUES ('support', 'Support', 1)"))
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM teams")).scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_goes_through_psycopg_3(scheme: str) -> None:
    assert create_ledger_engine(f"{scheme}://u@host/db").url.drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url", ["mysql://u:geheim@host/db", "oracle://u:geheim@h", "no url, geheim", "", "sqlite+aiosqlite:///x"]
)
def test_other_urls_are_refused_without_repeating_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sql\.url") as raised:
        create_ledger_engine(url)
    assert "geheim" not in str(raised.value)


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(StoreUnavailable, match=r"^the database cannot be used$"):
        migrate(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert f"{tmp_path / 'ledger.sqlite'} cannot be used: unable to open" in caplog.text


@pytest.mark.parametrize("where", ["u:ge%20heim@127.0.0.1:9/db", "u@127.0.0.1:9/db?password=ge+heim&sslpassword=ge"])
def test_callers_learn_nothing_of_the_database_and_the_log_no_password(
    caplog: pytest.LogCaptureFixture, where: str
) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        migrate(f"postgresql://{where}")
    assert str(raised.value) == "the database cannot be used"
    assert "127.0.0.1" in caplog.text
    assert not any(secret in caplog.text for secret in ("ge heim", "ge+heim", "ge%20heim"))


def test_a_start_with_nothing_to_migrate_does_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    migrate(url)
    code = (
        f"import sys; from router.stores.sql_engine import migrate; migrate({url!r}); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
