"""`Texts`: what many rows of the ledger have in common is stored once, and known by a number."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection, Table, insert, select

from router.stores.base import AlteredText, LedgerRefused
from router.stores.sql_rows import Values, without_nul

AT_ONCE = 2_000
"""Values in one question: databases take some thousands."""

_REMEMBERED = 50_000
_REPLACED = without_nul("\0")


class Texts:
    """The ids of the rows of `table`, whose columns are `id`, `digest` and `names`.

    What it remembers was committed: an id of a transaction that was undone may go to another row.
    """

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self._table = table
        self._names = names
        self._known: dict[Values, int] = {}

    def remembered(self, values: Values) -> int | None:
        return self._known.get(values)

    def ids(self, connection: Connection, wanted: Collection[Values]) -> dict[Values, int]:
        """Of each of `wanted`; new ones are added. The caller's transaction is the only one that writes here."""
        known = self._known
        ids = {values: known[values] for values in wanted if values in known}
        digests = {values: _digest(values) for values in wanted if values not in ids}
        if digests:
            found = self._found(connection, digests.values())
            missing = {digest: values for values, digest in digests.items() if digest not in found}
            if missing:
                connection.execute(insert(self._table), [self._row(*item) for item in missing.items()])
                found |= self._found(connection, missing)
            ids |= {values: found[digest] for values, digest in digests.items()}
        return ids

    def altered(self, connection: Connection) -> Iterator[AlteredText]:
        """Those that somebody changed by hand: all rows that share one change with it, and their sums alike."""
        columns = [self._table.c[name] for name in self._names]
        for id_, stored, *values in connection.execute(select(self._table.c.id, self._table.c.digest, *columns)):
            found = _digest(tuple(values))
            # A digest is of what came; of that, another sign stands for NUL.
            if found != bytes(stored) and not any(_REPLACED in str(value) for value in values):
                named = dict(zip(self._names, values, strict=True))
                yield AlteredText(f"{self._table.name}, id {id_}", found.hex(), bytes(stored).hex(), named)

    def remember(self, ids: dict[Values, int]) -> None:
        if len(self._known) + len(ids) > _REMEMBERED:
            self._known = {}
        self._known |= ids

    def _found(self, connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for some in in_parts(digests):
            query = select(self._table.c.digest, self._table.c.id).where(self._table.c.digest.in_(some))
            found |= {bytes(digest): id_ for digest, id_ in connection.execute(query)}
        return found

    def _row(self, digest: bytes, values: Values) -> dict[str, Any]:
        return {"digest": digest, **dict(zip(self._names, map(without_nul, values), strict=True))}


def in_parts(values: Iterable[Any]) -> Iterator[list[Any]]:
    """`values`, so many at a time as fit into one question."""
    rest = iter(values)
    while part := list(islice(rest, AT_ONCE)):
        yield part


def array(values: Iterable[int]) -> str:
    """An array as PostgreSQL writes it; much faster than the driver's way for lists."""
    return f"{{{','.join(map(str, values))}}}"


def array_of_bytes(values: Iterable[bytes]) -> str:
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def _digest(values: Values) -> bytes:
    try:
        return hashlib.blake2b(orjson.dumps(values), digest_size=16).digest()
    except orjson.JSONEncodeError as error:
        raise LedgerRefused(f"a text of the records cannot be stored: {error}") from error
