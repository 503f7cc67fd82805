"""Moves the records between the ledger of revision 0002, a table as wide as a record, and that of 0003.

It speaks of the tables as they were then: later code may change them, and this must still find its way.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from router.stores.sql_detail import join_detail, pack_id, split_detail

logger = logging.getLogger(__name__)

_CHUNK = 5_000
_LOGGED_EACH = 100_000
_FIRST_YEAR, _LAST_YEAR = 2020, 2099
"""Those whose months have partitions of their own."""

_KEPT = """request_id started_at_ms duration_ms first_token_ms team_id key_id project_id end_user tags alias deployment
deployment_tier provider_name request_model response_model reason tier score classifier status error_code cache stream
attempts finish_reasons input_tokens output_tokens cached_input_tokens reasoning_tokens usage_source cost_nusd
reserved_nusd abandoned_nusd price_effective_from baseline_model baseline_input_tokens baseline_output_tokens
baseline_cost_nusd simulated detail""".split()
_DIMENSIONS = """kind team_id key_id project_id alias deployment deployment_tier provider_name request_model reason tier
task observed_deployment status cache usage_source price_effective_from baseline_model estimator simulated""".split()
_ATTRIBUTES = """response_model classifier error_code stream attempts finish_reasons
baseline_price_effective_from""".split()
_COPIED = """started_at_ms cost_nusd baseline_cost_nusd reserved_nusd score duration_ms first_token_ms input_tokens
output_tokens baseline_input_tokens baseline_output_tokens end_user tags""".split()
_SPARSE = "abandoned_nusd cached_input_tokens reasoning_tokens".split()
_SUMMED = """input_tokens output_tokens cached_input_tokens reasoning_tokens duration_ms cost_nusd retries_nusd
prompt_cache_nusd baseline_cost_nusd observed_cost_nusd""".split()
_TRUTH_VALUES = ("stream", "simulated")


def compact(connection: sa.Connection) -> None:
    """Fills the tables of 0003 from `ledger_before`, and sums them up by hours."""
    total = connection.execute(sa.text("SELECT count(*) FROM ledger_before")).scalar() or 0
    texts = {
        "dimensions": _Texts(connection, "ledger_dimensions", _DIMENSIONS),
        "attributes": _Texts(connection, "ledger_attributes", _ATTRIBUTES),
        "templates": _Texts(connection, "ledger_templates", ["detail_template"]),
    }
    if connection.dialect.name == "postgresql":
        _create_partitions(connection)
    rows = _table("ledger_rows", *_COPIED, *_SPARSE, "request_id", "detail_numbers", *_IDS)
    for done, chunk in _chunks(connection, "ledger_before", "request_id", _KEPT):
        connection.execute(rows.insert(), [_compacted(row, texts) for row in chunk])
        _log_progress(done, total)
    sums = ", ".join(f"sum(coalesce({name}, 0))" for name in _SUMMED)
    connection.execute(
        sa.text(
            f"INSERT INTO hourly_sums (dimension_id, hour_ms, request_count, {', '.join(_SUMMED)}) "
            f"SELECT dimension_id, started_at_ms / 3600000 * 3600000, count(*), {sums} FROM ledger_rows GROUP BY 1, 2"
        )
    )


_IDS = ("dimension_id", "attribute_id", "template_id")


def _compacted(row: dict[str, Any], texts: dict[str, _Texts]) -> dict[str, Any]:
    template, numbers = split_detail(orjson.loads(row["detail"]))
    row |= {"kind": "request", "detail_template": template}
    return {
        **{name: row[name] for name in _COPIED},
        **{name: row[name] or None for name in _SPARSE},
        "request_id": pack_id(row["request_id"]),
        "detail_numbers": numbers,
        **dict(zip(_IDS, (table.id_of(row) for table in texts.values()), strict=True)),
    }


def expand(connection: sa.Connection) -> None:
    """Fills `ledger_before` from the view of 0003."""
    before = _table("ledger_before", *_KEPT)
    names = [*(name for name in _KEPT if name != "detail"), "stored_id", "detail_template", "detail_numbers"]
    for _, chunk in _chunks(connection, "ledger", "stored_id", names, "kind = 'request'"):
        for row in chunk:
            detail = join_detail(row.pop("detail_template"), bytes(row.pop("detail_numbers")))
            row |= {"detail": orjson.dumps(detail).decode()}
        connection.execute(before.insert(), [{name: row[name] for name in _KEPT} for row in chunk])


class _Texts:
    """The ids of texts that repeat; new ones are added."""

    def __init__(self, connection: sa.Connection, table: str, names: Sequence[str]) -> None:
        self._connection = connection
        self._names = names
        self._table = _table(table, "id", "digest", *names)
        self._ids: dict[tuple[Any, ...], int] = {}

    def id_of(self, row: dict[str, Any]) -> int:
        values = tuple(row.get(name) for name in self._names)
        if values not in self._ids:
            digest = hashlib.blake2b(orjson.dumps(values), digest_size=16).digest()
            added = dict(zip(self._names, values, strict=True)) | {"digest": digest}
            self._ids[values] = self._connection.execute(
                self._table.insert().returning(self._table.c.id), added
            ).scalar_one()
        return self._ids[values]


def _table(name: str, *columns: str) -> sa.Table:
    return sa.Table(name, sa.MetaData(), *(sa.Column(column, _type(column)) for column in columns))


def _type(column: str) -> Any:
    if column in _TRUTH_VALUES:
        return sa.Boolean()
    if column == "id":
        return sa.Integer()
    return sa.LargeBinary() if column in ("digest", "stored_id", "detail_numbers") else sa.types.NullType()


def _chunks(
    connection: sa.Connection, table: str, key: str, names: Sequence[str], condition: str = "true"
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """All rows in the order of `key`, a few thousand at a time, with how many these and those before are."""
    source = _table(table, *names)
    done, after = 0, None
    while True:
        query = sa.select(source).where(sa.text(condition)).order_by(source.c[key]).limit(_CHUNK)
        if after is not None:
            query = query.where(source.c[key] > after)
        chunk = [dict(row) for row in connection.execute(query).mappings()]
        if not chunk:
            return
        done, after = done + len(chunk), chunk[-1][key]
        yield done, chunk


def _create_partitions(connection: sa.Connection) -> None:
    days = connection.execute(sa.text("SELECT DISTINCT started_at_ms / 86400000 FROM ledger_before")).scalars()
    years = range(_FIRST_YEAR, _LAST_YEAR + 1)
    found = [datetime.fromtimestamp(day * 86_400, UTC) for day in days if 0 <= day < 60_000]
    for year, month in sorted({(day.year, day.month) for day in found if day.year in years}):
        first = datetime(year, month, 1, tzinfo=UTC)
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        bounds = [int(edge.timestamp()) * 1000 for edge in (first, end)]
        connection.execute(
            sa.text(
                f"CREATE TABLE ledger_rows_{year}_{month:02} PARTITION OF ledger_rows "
                f"FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
            )
        )


def _log_progress(done: int, total: int) -> None:
    if done % _LOGGED_EACH < _CHUNK and total >= _LOGGED_EACH:
        logger.warning("compacting the ledger: %d of %d records (%d %%)", done, total, done * 100 // total)
