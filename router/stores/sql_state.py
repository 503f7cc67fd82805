"""Numbers about the ledger itself."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from router.stores.sql_schema import LEDGER_STATE

_ROWS_FROM_MS = "rows_from_ms"


def rows_from_ms(connection: Connection) -> int:
    """From when on the ledger has its records, and not only their sums."""
    query = select(LEDGER_STATE.c.value).where(LEDGER_STATE.c.name == _ROWS_FROM_MS)
    return connection.execute(query).scalar() or 0


def remember_that_rows_begin(connection: Connection, at_ms: int) -> None:
    connection.execute(
        text(
            "INSERT INTO ledger_state (name, value) VALUES (:name, :value) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE ledger_state.value < excluded.value"
        ),
        {"name": _ROWS_FROM_MS, "value": at_ms},
    )
