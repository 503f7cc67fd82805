"""The migrations lead to the schema that the code expects, on every database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import ColumnElement, Engine, exc, insert, inspect, literal, select, text

from policies.budget import Budget
from router.clock import Clock
from router.errors import ConfigError
from router.stores.base import KeyInfo, Principal
from router.stores.sql_books import SqlBooks
from router.stores.sql_directory import SqlDirectory
from router.stores.sql_engine import HEAD, MIGRATIONS, create_ledger_engine, current_revision, migrate, reading, writing
from router.stores.sql_ledger import SqlLedger
from router.stores.sql_schema import BUDGETS, LEDGER, METADATA
from tests.support.spend import spend_record

RECORD = spend_record("req_1")
MODELS = '["auto"]'
OF_0001 = """request_id started_at_ms duration_ms first_token_ms team_id key_id alias deployment provider_name
request_model response_model reason tier score classifier status error_code cache stream attempts finish_reasons
input_tokens output_tokens cached_input_tokens reasoning_tokens usage_source cost_nusd reserved_nusd
price_effective_from baseline_model baseline_input_tokens baseline_output_tokens baseline_cost_nusd
simulated""".split()


def to_revision(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        (command.upgrade if revision == "head" else command.downgrade)(config, revision)


def fill_0001(engine: Engine) -> None:
    """A team with a budget, a key with another that stands in for an older one, and a booked request."""
    ledger = {name: RECORD.to_json()[name] for name in OF_0001} | {"detail": "{}"}
    chat = "'support', 'chat'"
    statements: list[tuple[str, dict[str, object]]] = [
        ("INSERT INTO teams VALUES ('support', 'Support', 1)", {}),
        (
            f"INSERT INTO keys VALUES ('key_2', {chat}, 'admin', 'hash2', 'sk-2', 5, NULL, NULL, :m, NULL)",
            {"m": MODELS},
        ),
        (f"INSERT INTO keys VALUES ('key_1', {chat}, 'application', 'hash1', 'sk-1', 2, 3, 'key_2', NULL, NULL)", {}),
        ("INSERT INTO budgets VALUES ('team:support:month', 'team', 'support', 'month', 100, 'Asia/Shanghai')", {}),
        ("INSERT INTO budgets VALUES ('key:key_1:month', 'key', 'key_2', 'month', 8999999999999999, 'UTC')", {}),
        (f"INSERT INTO ledger ({', '.join(ledger)}) VALUES ({', '.join(':' + name for name in ledger)})", ledger),
    ]
    with writing(engine) as connection:
        for statement, values in statements:
            connection.execute(text(statement), values)


def rows(engine: Engine, table: str) -> list[dict[str, object]]:
    with reading(engine) as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY id")).mappings()]


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def differences(engine: Engine) -> Any:
    """Between the database and the code, but for the months of the ledger."""
    with engine.connect() as connection:
        options = {"include_name": lambda name, kind, _: kind != "table" or "ledger_rows_" not in name}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def test_the_migrated_schema_is_the_one_in_the_code(engine: Engine) -> None:
    assert differences(engine) == []
    with engine.connect() as connection:
        assert current_revision(connection) == HEAD


def test_the_view_has_the_columns_in_the_code(engine: Engine) -> None:
    assert {column["name"] for column in inspect(engine).get_columns("ledger")} == set(LEDGER.c.keys())


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
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    code = f"from router.stores.sql_engine import migrate; migrate({url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    fresh = create_ledger_engine(url)
    try:
        assert {*METADATA.tables, "alembic_version"} - set(inspect(fresh).get_table_names()) == set()
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


def test_an_upgrade_from_0001_keeps_everything(engine: Engine) -> None:
    to_revision(engine, "0001")
    fill_0001(engine)
    migrate(engine)
    directory = SqlDirectory(engine, Clock(wall=lambda: 10.0))
    of_team = Budget(
        id="team:support:month", subject_kind="team", subject_id="support", limit=100, timezone="Asia/Shanghai"
    )
    of_key = Budget(id="key:key_1:month", subject_kind="key", subject_id="key_2", limit=8_999_999_999_999_999)
    assert directory.list_budgets() == (of_team, of_key)
    auto = frozenset({"auto"})
    assert directory.list_keys() == (
        KeyInfo("key_1", "support", "chat", "application", "sk-1", 2, revoked_at_ms=3, replaced_by="key_2"),
        KeyInfo("key_2", "support", "chat", "admin", "sk-2", 5, allowed_models=auto),
    )
    assert directory.principal_by_hash("hash2") == Principal("key_2", "support", "admin", auto, (of_team, of_key))
    assert directory.audit() == ()
    ledger = SqlLedger(engine)
    booked = ledger.get("req_1")
    assert booked is not None
    assert booked.to_json() == RECORD.to_json() | {"detail": {}}
    assert ledger.append([spend_record("req_2", tags=",batch,", project_id="web")]) == 1
    assert ledger.usage(of_key, 0, 2**53) == {("", 0): 2 * RECORD.cost_nusd}


WIDE = [
    spend_record(
        f"{'chatcmpl-' if at % 2 else ''}{at:024x}",
        started_at_ms=1_790_000_000_000 + at * 400_000_000,
        team_id=f"t{at % 3}",
        project_id="web" if at % 2 else None,
        end_user="ann" if at % 4 else "",
        cached_input_tokens=at % 2,
        abandoned_nusd=at % 5,
        detail={"chain": [["mistral-7b", at * 7, 1.5]], "note": "007 \x1a 一"} if at else {},
    )
    for at in range(12)
]


def test_an_upgrade_from_0002_compacts_the_ledger_and_sums_it_up(engine: Engine) -> None:
    """And a downgrade spreads it out again."""
    to_revision(engine, "0002")
    columns = [column["name"] for column in inspect(engine).get_columns("ledger")]
    wide = [record.to_json() | {"detail": orjson.dumps(record.detail).decode()} for record in WIDE]
    with writing(engine) as connection:
        places = ", ".join(f":{name}" for name in columns)
        connection.execute(
            text(f"INSERT INTO ledger ({', '.join(columns)}) VALUES ({places})"),
            [{name: row[name] for name in columns} for row in wide],
        )
    migrate(engine)
    ledger = SqlLedger(engine)
    assert [ledger.get(record.request_id) for record in WIDE] == WIDE
    assert ledger.append([*WIDE, spend_record("new")]) == 1
    cells = SqlBooks(engine).cells(0, 2**53, ("team_id", "hour_ms"))
    assert sum(cell.request_count for cell in cells) == 13
    assert sum(cell.cost_nusd for cell in cells) == sum(r.cost_nusd for r in WIDE) + spend_record("new").cost_nusd
    to_revision(engine, "0002")
    with reading(engine) as connection:
        query = text("SELECT * FROM ledger WHERE request_id <> 'new' ORDER BY started_at_ms")
        found = [dict(row) for row in connection.execute(query).mappings()]
    assert found == [{name: row[name] for name in found[0]} for row in wide]
    assert {column["name"] for column in inspect(engine).get_columns("ledger")} == set(columns)


def test_a_budget_put_on_top_of_a_migrated_one_keeps_its_id(engine: Engine) -> None:
    to_revision(engine, "0001")
    fill_0001(engine)
    migrate(engine)
    directory = SqlDirectory(engine)
    put = directory.put_budget(Budget(subject_kind="key", subject_id="key_2", limit=7))
    assert put.id == "key:key_1:month"
    assert len(directory.list_budgets()) == 2


def test_a_downgrade_leaves_what_0001_can_say(engine: Engine) -> None:
    to_revision(engine, "0001")
    fill_0001(engine)
    before = {table: rows(engine, table) for table in ("teams", "keys", "budgets")}
    migrate(engine)
    directory = SqlDirectory(engine)
    directory.create_project("support", "web")
    directory.put_budget(Budget(subject_kind="team", subject_id="support", limit=7, window="day"))
    directory.put_budget(Budget(subject_kind="team", subject_id="support", limit=7, unit="tokens"))
    directory.put_budget(Budget(subject_kind="team", subject_id="support", limit=7, model="gpt-4"))
    directory.put_budget(Budget(subject_kind="organization", subject_id="default", limit=7))
    to_revision(engine, "0001")
    assert {table: rows(engine, table) for table in before} == before
    assert set(inspect(engine).get_table_names()) == {"teams", "keys", "budgets", "ledger", "alembic_version"}
    with reading(engine) as connection:
        assert connection.execute(text("SELECT request_id FROM ledger")).scalars().all() == ["req_1"]
    migrate(engine)
    assert differences(engine) == []
    assert {budget.id for budget in SqlDirectory(engine).list_budgets()} == {"team:support:month", "key:key_1:month"}


def test_the_database_itself_refuses_a_second_budget_of_the_same_kind(engine: Engine) -> None:
    directory = SqlDirectory(engine)
    directory.create_team("support")
    directory.put_budget(Budget(subject_kind="team", subject_id="support", limit=7))
    with pytest.raises(exc.IntegrityError), writing(engine) as connection:
        connection.execute(insert(BUDGETS).from_select(list(BUDGETS.c), select(*_all_but_the_id())))


def _all_but_the_id() -> list[ColumnElement[object]]:
    return [literal("another"), *[column for column in BUDGETS.c if column.name != "id"]]
