"""`SqlRepricings`: late corrections of prices in the ledger, and what each record said before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Engine, Select, func, insert, select

from policies.repricing import Amounts
from policies.spend import SpendRecord
from router.stores.base import AuditEntry
from router.stores.sql_amounts import PRICED
from router.stores.sql_audit import record as record_change
from router.stores.sql_booking import Booker, Known
from router.stores.sql_detail import pack_id
from router.stores.sql_engine import reading, writing
from router.stores.sql_schema import REPRICED_ROWS, REPRICINGS


@dataclass(frozen=True, slots=True)
class Repricing:
    """One correction: when, by whom and why, and how many rows it changed."""

    id: int
    at_ms: int
    actor: str
    reason: str
    row_count: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a record said before a repricing."""

    repricing: Repricing
    amounts: Amounts


class SqlRepricings:
    """Methods raise StoreUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._booker = Booker()

    def begin(self, at_ms: int, actor: str, reason: str, terms: dict[str, Any]) -> int:
        """Opens a repricing, and returns its id. `terms` say which rows it is about, for the record of changes."""
        with writing(self._engine) as connection:
            values = {"at_ms": at_ms, "actor": actor, "reason": reason}
            (opened,) = connection.execute(insert(REPRICINGS).values(values)).inserted_primary_key or (None,)
            assert opened is not None  # the database counts them
            after = {"reason": reason, **terms}
            record_change(connection, AuditEntry(at_ms, actor, "ledger.reprice", f"repricing:{opened}", None, after))
        return int(opened)

    def apply(self, repricing_id: int, corrections: Sequence[tuple[SpendRecord, Amounts]]) -> int:
        """Corrects records and the sums of their hours in one transaction, keeping what they said; returns how many.

        One that is no longer as it was read stays as it is: its tokens may have changed with it.
        """
        with writing(self._engine) as connection:
            booking = self._booker.begin(connection)
            wanted = {(pack_id(old.request_id), old.started_at_ms): (old, new) for old, new in corrections}
            known = booking.known(wanted)
            changes = [(known[key], *wanted[key]) for key in known if _is_as_read(known[key], wanted[key][0])]
            if changes:
                booking.reprice(repricing_id, changes)
        booking.done()
        return len(changes)

    def all(self, limit: int = 100) -> tuple[Repricing, ...]:
        """The newest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(_REPRICINGS.order_by(REPRICINGS.c.id.desc()).limit(limit)).mappings()
            return tuple(Repricing(**row) for row in rows)

    def of_request(self, request_id: str) -> tuple[Replaced, ...]:
        """What a record said before each of its repricings, the oldest first."""
        names = tuple(Amounts.__slots__)
        query = (
            _REPRICINGS.add_columns(*(REPRICED_ROWS.c[name] for name in names))
            .join(REPRICED_ROWS, REPRICED_ROWS.c.repricing_id == REPRICINGS.c.id)
            .where(REPRICED_ROWS.c.request_id == pack_id(request_id))
            .order_by(REPRICINGS.c.id)
        )
        with reading(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return tuple(
            Replaced(amounts=Amounts(**{name: row.pop(name) for name in names}), repricing=Repricing(**row))
            for row in rows
        )


def _repricings() -> Select[Any]:
    rows_of_it = select(func.count()).where(REPRICED_ROWS.c.repricing_id == REPRICINGS.c.id)
    return select(REPRICINGS, rows_of_it.correlate(REPRICINGS).scalar_subquery().label("row_count"))


_REPRICINGS = _repricings()
_priced = attrgetter(*PRICED)


def _is_as_read(known: Known, record: SpendRecord) -> bool:
    return known.status == record.status and _priced(known) == _priced(record)
