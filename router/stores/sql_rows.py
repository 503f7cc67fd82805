"""A record of the ledger as `sql_schema` keeps it, and back again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Column, Row

from policies.repricing import Amounts
from policies.spend import SpendRecord
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
_UNKNOWN_AT_TIMES = ("score", "sample_share", "first_token_ms")
_SPARSE = tuple(
    column.name for column in LEDGER_ROWS.c if column.nullable and column.name not in (*_UNKNOWN_AT_TIMES, *_PACKED)
)
"""Amounts that are mostly nothing, which is stored as NULL."""

ROW_COLUMNS = (*ROW_IDS, *_PLAIN, *_UNKNOWN_AT_TIMES, *_SPARSE, *_PACKED)
_sums = attrgetter(*SUMS)
_FIELDS = (*DIMENSIONS, *ATTRIBUTES, *_PLAIN, *_UNKNOWN_AT_TIMES, *_SPARSE)
_values = attrgetter(*_FIELDS)
"""One look at a record, of which the parts are slices: a look for each part took twice as long."""
_dimensions = attrgetter(*DIMENSIONS)
_attributes = attrgetter(*ATTRIBUTES)
_PRICE_AT = DIMENSIONS.index("price_effective_from")
_BASELINE_PRICE_AT = ATTRIBUTES.index("baseline_price_effective_from")
_ATTRIBUTES_AT = len(DIMENSIONS)
_PLAIN_AT = _ATTRIBUTES_AT + len(ATTRIBUTES)
_SPARSE_AT = len(_FIELDS) - len(_SPARSE)


@dataclass(slots=True)
class StoredRow:
    """`dimensions`, `attributes` and `template` are stored once for all rows that share them."""

    id: bytes
    record: SpendRecord
    dimensions: tuple[Any, ...]
    attributes: tuple[Any, ...]
    template: tuple[str]
    values: tuple[Any, ...]
    """Of ROW_COLUMNS, but for ROW_IDS."""

    @property
    def key(self) -> tuple[bytes, int]:
        return self.id, self.record.started_at_ms

    @property
    def sums(self) -> tuple[int, ...]:
        """`request_count` and SUMS."""
        return (1, *_sums(self.record))


def stored(record: SpendRecord) -> StoredRow:
    """Raises LedgerRefused, because SQLite would take anything and no report could read it."""
    values = _values(record)
    others = record.request_id, record.parent_id, record.end_user, record.tags, record.detail
    wrong = _wrong_type((*map(type, values), *map(type, others)))
    if wrong is not None:
        raise LedgerRefused(f"record {record.request_id!r}: {wrong}")
    if record.started_at_ms < 0:
        raise LedgerRefused(f"record {record.request_id!r}: started_at_ms is before 1970")
    try:
        template, numbers = split_detail(record.detail)
    except orjson.JSONEncodeError as error:
        raise LedgerRefused(f"record {record.request_id!r}: detail cannot be JSON: {error}") from error
    id_ = pack_id(record.request_id)
    return StoredRow(
        id_,
        record,
        values[:_ATTRIBUTES_AT],
        values[_ATTRIBUTES_AT:_PLAIN_AT],
        (template,),
        (
            *values[_PLAIN_AT:_SPARSE_AT],
            *[amount or None for amount in values[_SPARSE_AT:]],
            id_,
            None if record.parent_id is None else pack_id(record.parent_id),
            without_nul(record.end_user),
            without_nul(record.tags),
            numbers,
        ),
    )


def repriced_texts(record: SpendRecord, amounts: Amounts) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
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
    """The inverse, of a row of the view."""
    values = row._asdict()
    detail = join_detail(values["detail_template"], bytes(values["detail_numbers"]))
    return SpendRecord.from_json(values | {"detail": detail})


def without_nul(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text, and a provider may name its model with one."""
    return value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value


@lru_cache(maxsize=4096)
def _wrong_type(types: tuple[type, ...]) -> str | None:
    """What is wrong with fields of these types. Records have few different ones, so one look decides of most."""
    for name, found, allowed in zip(_CHECKED, types, _ALLOWED_TYPES, strict=True):
        if found not in allowed:
            shown = " or ".join(sorted(allowed_type.__name__ for allowed_type in allowed))
            return f"{name} is {found.__name__}, not {shown}"
    return None


def _allowed_types(name: str) -> frozenset[type]:
    if name == "detail":
        return frozenset({dict})
    column: Column[Any] = LEDGER.c[name]
    python_type = column.type.python_type
    numbers = {int, float} if python_type is float else {python_type}
    return frozenset(numbers | ({type(None)} if column.nullable else set()))


_CHECKED = (*_FIELDS, "request_id", "parent_id", "end_user", "tags", "detail")
_ALLOWED_TYPES = tuple(_allowed_types(name) for name in _CHECKED)
