"""Whoever changes the ledger takes turns with the others."""

from __future__ import annotations

from sqlalchemy import Connection, text

LEDGER_LOCK = 0x6C6564676572  # any number, so long as every Parsimony takes the same


def take_turn(connection: Connection) -> None:
    """Waits until no other transaction changes the ledger, and lets none until this one ends.

    They would wait for each other anyway, at the sums of the same hour. So what one reads (what is known already) holds
    until it has written, and none can block another in a circle. SQLite has one writer at a time by nature.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LEDGER_LOCK})
