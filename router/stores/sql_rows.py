"""A record of the ledger as `sql_schema` keeps it, and back again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Column, Row

from classifiers.records import reader
from policies.repricing import Amounts
from policies.spend import FIELD_NAMES, SpendRecord
from router.stores.base import LedgerRefused
from router.stores.sql_detail import join_detail, pack_id, split_detail
from router.stores.sql_schema import HOURLY_SUMS, LEDGER, LEDGER_ATTRIBUTES, LEDGER_DIMENSIONS, LEDGER_ROWS

DIMENSIONS = tuple(column.name for column in LEDGER_DIMENSIONS.c)[2:]  # but for the id and the digest
ATTRIBUTES = tuple(column.name for column in LEDGER_ATTRIBUTES.c)[2:]
TEMPLATES = ("detail_template",)
SUMS = tuple(column.name for column in HOURLY_SUMS.c)[3:]
"""What is summed up of the fields of a record; `request_count` comes before them."""

ROW_IDS = ("dimension_id", "attribute_id", "template_id")
_PACKED = ("request_id", "parent_id", "end_user", "tags", "detail_numbers")
_PLAIN = tuple(
    column.name for column in LEDGER_ROWS.c if not column.nullable and column.name not in (*ROW_IDS, *_PACKED)
)
_UNKNOWN_AT_TIMES = ("score", "sample_share", "first_token_ms", "recounted_output_tokens")
_SPARSE = tuple(
    column.name for column in LEDGER_ROWS.c if column.nullable and column.name not in (*_UNKNOWN_AT_TIMES, *_PACKED)
)
"""Amounts that are mostly nothing, which is stored as NULL."""
_NOTHING = (None,) * len(_SPARSE)

ROW_COLUMNS = (*ROW_IDS, *_PLAIN, *_UNKNOWN_AT_TIMES, *_SPARSE, *_PACKED)
"""Numbers first, then PACKED_COUNT bytes and texts."""
PACKED_COUNT = len(_PACKED)
_OTHERS = (*_PLAIN, *_UNKNOWN_AT_TIMES, *_SPARSE, "request_id", "parent_id", "end_user", "tags", "detail")
_FIELDS = (*_OTHERS, *DIMENSIONS, *ATTRIBUTES)
_SPARSE_AT = len(_PLAIN) + len(_UNKNOWN_AT_TIMES)
_PACKED_AT = _SPARSE_AT + len(_SPARSE)
_TEXTS_AT = len(_OTHERS)
_others = reader(*_OTHERS)
_dimensions = reader(*DIMENSIONS)
_attributes = reader(*ATTRIBUTES)
_sums = reader(*SUMS)
_PRICE_AT = DIMENSIONS.index("price_effective_from")
_BASELINE_PRICE_AT = ATTRIBUTES.index("baseline_price_effective_from")


_VIEW = [column.name for column in LEDGER.c]
_TEMPLATE_AT, _DETAIL_NUMBERS_AT = _VIEW.index("detail_template"), _VIEW.index("detail_numbers")
_plain_fields = itemgetter(*(_VIEW.index(name) for name in FIELD_NAMES if name != "detail"))
"""`detail`, which the view has in two parts, is the last field."""

Values = tuple[Any, ...]
Lookup = Callable[[Values], int | None]


@dataclass(slots=True)
class StoredRow:
    """A record as it goes into the table, and into the sums of its hour."""

    record: SpendRecord
    values: Values
    """Of ROW_COLUMNS; of ROW_IDS, None where no id is remembered."""
    texts: tuple[Values, ...] | None
    """Dimensions, attributes and template, which all rows share that have the same; None where their ids are known."""
    sums: tuple[int, ...]
    """Of SUMS."""
    stored_id: bytes

    @property
    def key(self) -> tuple[bytes, int]:
        return self.stored_id, self.record.started_at_ms


def stored(record: SpendRecord, lookups: tuple[Lookup, Lookup, Lookup]) -> StoredRow:
    """`lookups` find the ids of dimensions, attributes and templates. All that a record has is looked at here, at once:
    by the next look, thousands of others have driven it out of the processor's cache.

    Raises LedgerRefused, because SQLite would take anything and no report could read it.
    """
    others = _others(record)
    request_id, parent_id, end_user, tags, detail = others[_PACKED_AT:]
    _check(request_id, 0, others)
    if record.started_at_ms < 0:
        raise LedgerRefused(f"record {request_id!r}: started_at_ms is before 1970")
    try:
        template, numbers = split_detail(detail)
    except orjson.JSONEncodeError as error:
        raise LedgerRefused(f"record {request_id!r}: detail cannot be JSON: {error}") from error
    texts = _dimensions(record), _attributes(record), (template,)
    ids = _found(texts, lookups)
    if None in ids:  # of others there is one that equals it, and was looked at
        _check(request_id, _TEXTS_AT, texts[0] + texts[1])
    sums = _sums(record)
    if max(sums) > _LARGEST or min(sums) < -_LARGEST:
        raise LedgerRefused(f"record {request_id!r}: {_too_large(sums)}")
    sparse = others[_SPARSE_AT:_PACKED_AT]
    stored_id = pack_id(request_id)
    values = (
        *ids,
        *others[:_SPARSE_AT],
        *([amount or None for amount in sparse] if any(sparse) else _NOTHING),
        stored_id,
        None if parent_id is None else pack_id(parent_id),
        without_nul(end_user),
        without_nul(tags),
        numbers,
    )
    return StoredRow(record, values, texts if None in ids else None, sums, stored_id)


_LARGEST = 2**53
"""Nine million dollars, for one request. A thousand such in an hour have sums of 64 bits: beyond these, PostgreSQL
would refuse whatever comes next, and SQLite go on in floats."""


def _too_large(sums: tuple[int, ...]) -> str:
    name, value = next(item for item in zip(SUMS, sums, strict=True) if abs(item[1]) > _LARGEST)
    return f"{name} is {value}; the largest that is booked is {_LARGEST}"


def _found(texts: tuple[Values, ...], lookups: tuple[Lookup, ...]) -> tuple[int | None, ...]:
    try:
        return tuple([lookup(each) for lookup, each in zip(lookups, texts, strict=True)])
    except TypeError:  # a list where a text should be, which nothing can be looked up by
        return (None,) * len(texts)


def repriced_texts(record: SpendRecord, amounts: Amounts) -> tuple[Values, Values]:
    """The dimensions and the attributes of a record that has other `amounts`."""
    dimensions, attributes = _dimensions(record), _attributes(record)
    return (
        (*dimensions[:_PRICE_AT], amounts.price_effective_from, *dimensions[_PRICE_AT + 1 :]),
        (
            *attributes[:_BASELINE_PRICE_AT],
            amounts.baseline_price_effective_from,
            *attributes[_BASELINE_PRICE_AT + 1 :],
        ),
    )


def record_of(row: Row[Any]) -> SpendRecord:
    """The inverse, of a row of the view with all its columns. By their places: by their names takes twice as long."""
    detail = join_detail(row[_TEMPLATE_AT], bytes(row[_DETAIL_NUMBERS_AT]))
    return SpendRecord.from_json(dict(zip(FIELD_NAMES, (*_plain_fields(row), detail), strict=True)))


def without_nul(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text, and a provider may name its model with one."""
    return value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value


def _check(request_id: str, first: int, values: Values) -> None:
    """Of the fields from that one on. Raises LedgerRefused."""
    wrong = _wrong_type(first, tuple(map(type, values)))
    if wrong is not None:
        raise LedgerRefused(f"record {request_id!r}: {wrong}")


@lru_cache(maxsize=4096)
def _wrong_type(first: int, types: tuple[type, ...]) -> str | None:
    """What is wrong with fields of these types. Records have few different ones, so one look decides of most."""
    for name, found in zip(_FIELDS[first:], types, strict=False):
        if found not in _ALLOWED_TYPES[name]:
            shown = " or ".join(sorted(allowed_type.__name__ for allowed_type in _ALLOWED_TYPES[name]))
            return f"{name} is {found.__name__}, not {shown}"
    return None


def _allowed_types(name: str) -> frozenset[type]:
    if name == "detail":
        return frozenset({dict})
    column: Column[Any] = LEDGER.c[name]
    python_type = column.type.python_type
    numbers = {int, float} if python_type is float else {python_type}
    return frozenset(numbers | ({type(None)} if column.nullable else set()))


_ALLOWED_TYPES = {name: _allowed_types(name) for name in _FIELDS}
