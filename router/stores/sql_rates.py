"""`SqlRates`: what was spent in a span of time, by whoever spent it."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Engine, select

from router.stores.cells import Dimension
from router.stores.sql_books import SqlBooks
from router.stores.sql_engine import reading
from router.stores.sql_schema import KEYS

Spender = Literal["team", "project", "key", "user", "model"]
SPENDERS: tuple[Spender, ...] = ("team", "project", "key", "user", "model")

_DIMENSIONS: dict[Spender, Dimension] = {
    "team": "team_id",
    "project": "project_id",
    "key": "key_id",
    "user": "end_user",
    "model": "deployment",
}


class SqlRates:
    """Sums over the ledger for who spends fastest. Raises StoreUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def spent(self, by: Spender, from_ms: int, to_ms: int, team_id: str | None = None) -> dict[str, int]:
        """Nano-USD of the requests that started in [from_ms, to_ms), by name; a user's is `<team>/<user>`.

        What belongs to nobody of that kind (a request without a project, say) is left out, as are those who spent
        nothing. A key that was replaced counts for the one that stands in for it.
        """
        dimension = _DIMENSIONS[by]
        where = None if team_id is None else {"team_id": [team_id]}
        cells = SqlBooks(self._engine).cells(from_ms, to_ms, ("team_id", dimension), where)  # type: ignore[arg-type]
        replaced_by = self._replacements() if by == "key" else {}
        spent: dict[str, int] = {}
        for cell in cells:
            found = str(cell.key[dimension] or "")
            if found and cell.cost_nusd:
                name = f"{cell.key['team_id']}/{found}" if by == "user" else replaced_by.get(found, found)
                spent[name] = spent.get(name, 0) + cell.cost_nusd
        return spent

    def _replacements(self) -> dict[str, str]:
        with reading(self._engine) as connection:
            query = select(KEYS.c.id, KEYS.c.replaced_by).where(KEYS.c.replaced_by.is_not(None))
            return {id_: str(replacement) for id_, replacement in connection.execute(query)}
