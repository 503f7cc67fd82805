"""`SqlRates`: what was spent in a span of time, by whoever spent it."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.sql.elements import ColumnElement

from router.stores.sql_engine import reading
from router.stores.sql_schema import KEYS, LEDGER

Spender = Literal["team", "project", "key", "user", "model"]
SPENDERS: tuple[Spender, ...] = ("team", "project", "key", "user", "model")

_NAMES: dict[Spender, ColumnElement[Any]] = {
    "team": LEDGER.c.team_id,
    "project": LEDGER.c.project_id,
    # A key that was replaced counts for the one that stands in for it.
    "key": func.coalesce(KEYS.c.replaced_by, LEDGER.c.key_id),
    # No join of strings in SQL, where a user without a name would be null on one database and empty on the other.
    "user": LEDGER.c.end_user,
    "model": LEDGER.c.deployment,
}


class SqlRates:
    """Sums over the ledger for who spends fastest. Raises StoreUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def spent(self, by: Spender, from_ms: int, to_ms: int, team_id: str | None = None) -> dict[str, int]:
        """Nano-USD of the requests that started in [from_ms, to_ms), by name; a user's is `<team>/<user>`.

        What belongs to nobody of that kind (a request without a project, say) is left out, as are those who spent
        nothing.
        """
        name = _NAMES[by]
        query = (
            select(LEDGER.c.team_id, name, func.sum(LEDGER.c.cost_nusd))
            .select_from(LEDGER.outerjoin(KEYS, KEYS.c.id == LEDGER.c.key_id))
            .where(LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms)
            .group_by(LEDGER.c.team_id, name)
        )
        if team_id is not None:
            query = query.where(LEDGER.c.team_id == team_id)
        spent: dict[str, int] = {}
        with reading(self._engine) as connection:
            for team, found, amount in connection.execute(query):
                if found and amount:
                    shown = f"{team}/{found}" if by == "user" else found
                    spent[shown] = spent.get(shown, 0) + int(amount)
        return spent
