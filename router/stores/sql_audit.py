"""The record of every change: written in the transaction that makes it, never changed."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, func, insert, select

from router.stores.base import AuditEntry
from router.stores.sql_schema import AUDIT_LOG


def record(connection: Connection, entry: AuditEntry) -> None:
    connection.execute(
        insert(AUDIT_LOG).values(
            at_ms=entry.at_ms,
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            before=_as_text(entry.before),
            after=_as_text(entry.after),
        )
    )


def entries(connection: Connection, target: str | None, before_id: int | None, limit: int) -> tuple[AuditEntry, ...]:
    """The newest first."""
    query = select(AUDIT_LOG).order_by(AUDIT_LOG.c.id.desc()).limit(limit)
    if target is not None:
        # LIKE would ignore case on SQLite, and take `_` for any character.
        query = query.where(func.substr(AUDIT_LOG.c.target, 1, len(target)) == target)
    if before_id is not None:
        query = query.where(AUDIT_LOG.c.id < before_id)
    return tuple(_entry(row) for row in connection.execute(query).mappings())


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        at_ms=row["at_ms"],
        actor=row["actor"],
        action=row["action"],
        target=row["target"],
        before=_as_object(row["before"]),
        after=_as_object(row["after"]),
        id=row["id"],
    )


def _as_text(values: dict[str, Any] | None) -> str | None:
    return None if values is None else orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def _as_object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else orjson.loads(text)
