"""`SqlLedger`: the account of every request, each booked once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from sqlalchemy import Engine, Row, exc, or_, select

from policies.budget import Budget
from policies.spend import SpendRecord
from router.stores.base import AlteredText, LedgerRefused, UnreadableRecord
from router.stores.sql_booking import Booker, Booking, Key, Known
from router.stores.sql_detail import pack_id
from router.stores.sql_engine import reading, writing
from router.stores.sql_rows import StoredRow, record_of
from router.stores.sql_schema import LEDGER
from router.stores.sql_usage import usage


class SqlLedger:
    """`router.stores.base.Ledger` in the tables of `sql_schema`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._booker = Booker()

    def append(self, records: Sequence[SpendRecord]) -> int:
        """Books `records` in one transaction; returns how many were new, or the truth about an abandoned request."""
        if not records:
            return 0
        try:
            # In the order of the index, so that neighbours are written one after the other.
            rows = sorted(self._booker.stored(records), key=attrgetter("stored_id"))
            try:
                return self._booked(rows, _book_new)
            except exc.IntegrityError:  # Some are known. They nearly never are, so nobody asks before.
                return self._booked(rows, _book)
        except (exc.IntegrityError, exc.DataError, OverflowError, UnicodeEncodeError) as error:
            raise LedgerRefused(f"the ledger refuses the records: {' '.join(str(error).split())}") from error

    def _booked(self, rows: Sequence[StoredRow], book: Callable[[Booking, Sequence[StoredRow]], int]) -> int:
        with writing(self._engine) as connection:
            booking = self._booker.begin(connection)
            changed = book(booking, rows)
        booking.done()
        return changed

    def get(self, request_id: str) -> SpendRecord | None:
        with reading(self._engine) as connection:
            row = connection.execute(select(LEDGER).where(LEDGER.c.stored_id == pack_id(request_id))).first()
        return None if row is None else _read(row)

    def records(self, from_ms: int, to_ms: int, at_once: int = 5_000) -> Iterator[list[SpendRecord]]:
        within = (LEDGER.c.started_at_ms >= from_ms, LEDGER.c.started_at_ms < to_ms)
        query = select(LEDGER).where(*within).order_by(LEDGER.c.started_at_ms, LEDGER.c.stored_id).limit(at_once)
        rest = query
        while True:
            # A transaction each: a reader that takes minutes keeps no writer and no clean-up waiting.
            with reading(self._engine) as connection:
                rows = connection.execute(rest).all()
            if not rows:
                return
            yield [_read(row) for row in rows]
            at_ms, id_ = rows[-1].started_at_ms, rows[-1].stored_id
            # The first condition follows from the second, and is the one that an index serves.
            rest = query.where(
                LEDGER.c.started_at_ms >= at_ms, or_(LEDGER.c.started_at_ms > at_ms, LEDGER.c.stored_id > id_)
            )

    def altered_texts(self) -> list[AlteredText]:
        """Of what records share, that which was changed by hand."""
        tables = self._booker.dimensions, self._booker.attributes, self._booker.templates
        with reading(self._engine) as connection:
            return [altered for texts in tables for altered in texts.altered(connection)]

    def usage(
        self, budget: Budget, from_ms: int, to_ms: int, bucket_ms: int | None = None
    ) -> dict[tuple[str, int], int]:
        with reading(self._engine) as connection:
            return usage(connection, budget, from_ms, to_ms, bucket_ms)


def _read(row: Row[Any]) -> SpendRecord:
    """Raises UnreadableRecord, which names it."""
    try:
        record = record_of(row)
        if not isinstance(record.detail, dict):
            raise ValueError(f"it is {type(record.detail).__name__}, not dict")
        return record
    except (AttributeError, ValueError) as error:  # it has another template, or none
        raise UnreadableRecord(f"the detail of the record {row.request_id!r} cannot be read: {error}") from error


def _book_new(booking: Booking, rows: Sequence[StoredRow]) -> int:
    """Raises IntegrityError where one of them is booked, or there twice."""
    booking.replace((), rows)
    return len(rows)


def _book(booking: Booking, rows: Sequence[StoredRow]) -> int:
    """Books what is new, and the truth about what is booked as abandoned; returns how many changes that were."""
    known = booking.known({row.key for row in rows})
    old: list[Known] = []
    new: dict[Key, StoredRow] = {}
    changed = 0
    for row in rows:
        before = new.get(row.key) or known.get(row.key)
        if before is not None:
            told = before.record if isinstance(before, StoredRow) else before
            if told.status != "abandoned" or row.record.status == "abandoned":
                continue
            (row,) = booking.booker.stored([replace(row.record, abandoned_nusd=int(told.cost_nusd))])
            if not isinstance(before, StoredRow):
                old.append(before)
        new[row.key] = row
        changed += 1
    if changed:
        booking.replace(old, list(new.values()))
    return changed
