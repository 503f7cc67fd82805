"""Keys as rows: how they are stored, found and ended, each within the caller's transaction."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Connection, insert, or_, select, update

from router.stores.base import KeyInfo, UnknownEntryError
from router.stores.sql_schema import KEYS


def existing(connection: Connection, key_id: str) -> KeyInfo:
    """Locked, so that on PostgreSQL changes of one key take their turns."""
    row = connection.execute(select(KEYS).where(KEYS.c.id == key_id).with_for_update()).mappings().first()
    if row is None:
        raise UnknownEntryError(f"there is no key {key_id!r}; `parsimony keys list` shows them")
    return _key(row)


def by_hash(connection: Connection, secret_sha256_hex: str) -> KeyInfo | None:
    row = connection.execute(select(KEYS).where(KEYS.c.secret_sha256 == secret_sha256_hex)).mappings().first()
    return None if row is None else _key(row)


def listed(connection: Connection, team_id: str | None) -> tuple[KeyInfo, ...]:
    query = select(KEYS).order_by(KEYS.c.created_at_ms, KEYS.c.id)
    if team_id is not None:
        query = query.where(KEYS.c.team_id == team_id)
    return tuple(_key(row) for row in connection.execute(query).mappings())


def add(connection: Connection, key: KeyInfo, secret_sha256_hex: str) -> None:
    models = key.allowed_models
    stored = {
        "secret_sha256": secret_sha256_hex,
        "allowed_models": None if models is None else orjson.dumps(sorted(models)).decode(),
        "tags": orjson.dumps(key.tags).decode(),
    }
    connection.execute(insert(KEYS).values(asdict(key) | stored))


def revoke(connection: Connection, key: KeyInfo, now_ms: int) -> KeyInfo:
    connection.execute(update(KEYS).where(KEYS.c.id == key.id).values(revoked_at_ms=now_ms))
    return existing(connection, key.id)


def replace_by(connection: Connection, old: KeyInfo, new: KeyInfo, now_ms: int, grace_seconds: int) -> KeyInfo:
    """Ends `old` and lets `new` stand in for it, and for all that `old` stood in for. Returns `old` as it is now."""
    ending: dict[str, int] = {"revoked_at_ms": now_ms}
    if grace_seconds:
        ending = {"expires_at_ms": min(now_ms + grace_seconds * 1000, old.expires_at_ms or 2**63 - 1)}
    connection.execute(update(KEYS).where(KEYS.c.id == old.id).values(**ending))
    connection.execute(
        update(KEYS).where(or_(KEYS.c.id == old.id, KEYS.c.replaced_by == old.id)).values(replaced_by=new.id)
    )
    return existing(connection, old.id)


def as_json(key: KeyInfo) -> dict[str, Any]:
    """For the record of changes: all but the beginning of the secret."""
    models = key.allowed_models
    values = asdict(key) | {"allowed_models": None if models is None else sorted(models), "tags": list(key.tags)}
    del values["prefix"]
    return values


def _key(row: Any) -> KeyInfo:
    values = {name: value for name, value in row.items() if name != "secret_sha256"}
    models = values["allowed_models"]
    values["allowed_models"] = None if models is None else frozenset(orjson.loads(models))
    values["tags"] = tuple(orjson.loads(values["tags"]))
    return KeyInfo(**values)
