"""Alerts as rows: who tells of what, each within the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, and_, bindparam, select, text, update

from router.stores.base import AlertClaim
from router.stores.sql_schema import BUDGET_ALERTS

_COLUMNS = ("budget_id", "window_label", "share", "end_user")
# Both databases write it alike; SQLAlchemy's own constructs for it cost a tenth of a second to import.
_CLAIM = text(
    "INSERT INTO budget_alerts (budget_id, window_label, share, end_user, at_ms, event) "
    "VALUES (:budget_id, :window_label, :share, :end_user, :at_ms, :event) ON CONFLICT DO NOTHING"
)
_OF_CLAIM = and_(*(BUDGET_ALERTS.c[column] == bindparam(f"claimed_{column}") for column in _COLUMNS))


def claim(connection: Connection, wanted: AlertClaim, at_ms: int) -> bool:
    """True for the first only: both databases let others wait for its outcome."""
    values = {column: getattr(wanted, column) for column in _COLUMNS}
    return bool(connection.execute(_CLAIM, values | {"at_ms": at_ms, "event": wanted.event or None}).rowcount)


def confirm(connection: Connection, told: AlertClaim) -> None:
    """The row stays, without its event: the share is not told of again in this window."""
    connection.execute(update(BUDGET_ALERTS).where(_OF_CLAIM).values(event=None), _parameters(told))


def take_over(connection: Connection, claimed_before_ms: int, limit: int, at_ms: int) -> tuple[AlertClaim, ...]:
    """Where another takes some at the same time, PostgreSQL leaves those out; on SQLite there is one writer."""
    query = (
        select(*(BUDGET_ALERTS.c[column] for column in (*_COLUMNS, "event")))
        .where(BUDGET_ALERTS.c.event.is_not(None), BUDGET_ALERTS.c.at_ms < claimed_before_ms)
        .order_by(BUDGET_ALERTS.c.at_ms)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claims = tuple(AlertClaim(**row) for row in connection.execute(query).mappings())
    if claims:
        renewed = update(BUDGET_ALERTS).where(_OF_CLAIM).values(at_ms=at_ms)
        connection.execute(renewed, [_parameters(one) for one in claims])
    return claims


def _parameters(one: AlertClaim) -> dict[str, str]:
    return {f"claimed_{column}": getattr(one, column) for column in _COLUMNS}
