"""`parquet_bytes`: typed columns as a Parquet file. The only importer of arro3.

arro3, because it is the Rust implementation of Arrow and Parquet and nothing more: 12 MB to fetch and 33 MB
installed. pyarrow, the usual choice, is 55 MB and 165 MB; polars brings a query engine at 54 MB; fastparquet needs
pandas and writes decimals as floats, which money here never is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from policies.money import format_usd

if TYPE_CHECKING:
    from arro3.core import Array

PhysicalType = Literal["text", "integer", "amount", "billionths", "decimal", "instant", "boolean"]
"""`amount` holds integer billionths of a currency; it is written as decimal128(38, 9), exactly. `billionths` holds the
same; it is written as decimal128(38, 0), for 64 bits end at 9.2 billion, which is little in rupiah. `decimal` holds a
`decimal.Decimal` of at most nine places. `instant` holds Unix milliseconds; it is written as a timestamp, UTC."""

_PRECISION, _SCALE = 38, 9


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """Values of one type; None is null, where `nullable` lets it."""

    name: str
    type: PhysicalType
    values: Sequence[Any]
    nullable: bool = True
    description: str = ""


def parquet_bytes(columns: Sequence[TypedColumn], metadata: Mapping[str, str]) -> bytes:
    """One row group after another of all columns, compressed. `metadata` stands in the file's footer."""
    # Rarely needed, and nothing else needs it.
    from arro3.core import Field, Schema, Table
    from arro3.io import write_parquet

    arrays = [_array(column) for column in columns]
    fields = [
        Field(column.name, array.type, nullable=column.nullable, metadata=_described(column))
        for column, array in zip(columns, arrays, strict=True)
    ]
    file = io.BytesIO()
    write_parquet(
        Table.from_arrays(arrays, schema=Schema(fields)),
        file,
        compression="zstd(3)",
        created_by="parsimony",
        key_value_metadata=dict(metadata),
    )
    return file.getvalue()


def _described(column: TypedColumn) -> dict[str, str]:
    return {"description": column.description} if column.description else {}


def _array(column: TypedColumn) -> Array:
    from arro3.core import Array, DataType

    values = list(column.values)
    if column.type in _DECIMALS:
        text, scale = _DECIMALS[column.type]
        texts = [None if value is None else text(value) for value in values]
        array = Array(texts, type=DataType.utf8()).cast(DataType.decimal128(_PRECISION, scale))
    elif column.type == "instant":
        array = Array(values, type=DataType.int64()).cast(DataType.timestamp("ms", tz="UTC"))
    else:
        plain = {"text": DataType.utf8(), "integer": DataType.int64(), "boolean": DataType.bool()}
        array = Array(values, type=plain[column.type])
    # A cast turns what it cannot read into null, without a word.
    assert array.null_count == values.count(None), f"{column.name} holds what {column.type} cannot"
    return array


def _decimal_text(value: Decimal) -> str:
    """Raises ValueError where nine places would not hold it: the cast would cut it off."""
    if value != round(value, _SCALE):
        raise ValueError(f"{value} has more than {_SCALE} places")
    return f"{value:f}"


_DECIMALS: Mapping[PhysicalType, tuple[Callable[[Any], str], int]] = {
    "amount": (format_usd, _SCALE),
    "billionths": (str, 0),
    "decimal": (_decimal_text, _SCALE),
}
"""How they are told to the cast, and with how many places."""
