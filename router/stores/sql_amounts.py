"""Other amounts for rows that are booked, thousands at once; what they said before is kept.

As the drivers take it: by SQLAlchemy's parameters, or deleted and written anew, rows took several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from policies.repricing import Amounts
from router.stores.sql_texts import array, array_of_bytes

PRICED = ("cost_nusd", "baseline_cost_nusd", "retries_nusd", "prompt_cache_nusd")
"""The amounts of a row that depend on prices."""

_KEPT = ", ".join(Amounts.__slots__)
_KEEP = f"INSERT INTO repriced_rows (repricing_id, request_id, {_KEPT}) SELECT {{}}, stored_id, {_KEPT} FROM ledger"
_KEEP_ON_SQLITE = f"{_KEEP.format('?')} WHERE stored_id = ? AND started_at_ms = ?"
_KEEP_ON_POSTGRESQL = (
    f"{_KEEP.format('%s::integer')} JOIN unnest(%s::bytea[], %s::bigint[]) AS wanted (id, at_ms) "
    "ON ledger.stored_id = wanted.id AND ledger.started_at_ms = wanted.at_ms"
)
# What is mostly nothing is stored as NULL.
_CHANGE_ON_SQLITE = (
    "UPDATE ledger_rows SET cost_nusd = ?, baseline_cost_nusd = ?, retries_nusd = nullif(?, 0), "
    "prompt_cache_nusd = nullif(?, 0), dimension_id = ?, attribute_id = ? WHERE request_id = ? AND started_at_ms = ?"
)
_CHANGE_ON_POSTGRESQL = (
    "UPDATE ledger_rows SET cost_nusd = new.cost_nusd, baseline_cost_nusd = new.baseline_cost_nusd, "
    "retries_nusd = nullif(new.retries_nusd, 0), prompt_cache_nusd = nullif(new.prompt_cache_nusd, 0), "
    "dimension_id = new.dimension_id, attribute_id = new.attribute_id "
    "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::integer[], %s::integer[], %s::bytea[], "
    f"%s::bigint[]) AS new ({', '.join(PRICED)}, dimension_id, attribute_id, id, at_ms) "
    "WHERE ledger_rows.request_id = new.id AND ledger_rows.started_at_ms = new.at_ms"
)


def keep_amounts(connection: Connection, repricing_id: int, keys: Sequence[tuple[bytes, int]]) -> None:
    """Copies what the rows say now, before `repricing_id` changes it."""
    if connection.dialect.name == "postgresql":
        ids, times_ms = zip(*keys, strict=True)
        connection.exec_driver_sql(_KEEP_ON_POSTGRESQL, (repricing_id, array_of_bytes(ids), array(times_ms)))
    else:
        connection.exec_driver_sql(_KEEP_ON_SQLITE, [(repricing_id, *key) for key in keys])


def change_amounts(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Of each: PRICED, the ids of its dimensions and attributes, and its key."""
    if connection.dialect.name == "postgresql":
        *numbers, ids, times_ms = zip(*rows, strict=True)
        wanted = (*map(array, numbers), array_of_bytes(ids), array(times_ms))
        connection.exec_driver_sql(_CHANGE_ON_POSTGRESQL, wanted)
    else:
        connection.exec_driver_sql(_CHANGE_ON_SQLITE, list(rows))
