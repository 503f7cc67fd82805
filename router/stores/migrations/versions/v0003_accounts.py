"""A compact ledger (a star schema, by months on PostgreSQL), hourly sums, hours of machines, repricings."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from router.stores.migrations.compact_ledger import compact, expand

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger

_DIMENSIONS = {
    "kind": False,
    "team_id": False,
    "key_id": False,
    "project_id": True,
    "alias": False,
    "deployment": True,
    "deployment_tier": True,
    "provider_name": True,
    "request_model": True,
    "reason": False,
    "tier": True,
    "task": True,
    "observed_deployment": True,
    "status": False,
    "cache": False,
    "usage_source": False,
    "price_effective_from": True,
    "baseline_model": False,
    "estimator": True,
}
"""Texts, and whether they may be NULL."""

_SUMS = (
    "request_count",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "reasoning_tokens",
    "duration_ms",
    "cost_nusd",
    "retries_nusd",
    "prompt_cache_nusd",
    "baseline_cost_nusd",
    "observed_cost_nusd",
)


def upgrade() -> None:
    for name in ("ix_ledger_started_at_ms", "ix_ledger_team_id_started_at_ms", "ix_ledger_key_id_started_at_ms"):
        op.drop_index(name, "ledger")
    op.rename_table("ledger", "ledger_before")
    _create_repeated()
    _create_rows()
    _create_hourly_sums()
    op.create_table(
        "ledger_state",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_ledger_state"),
    )
    op.execute(_view(op.get_bind().dialect.name))
    _create_hour_costs()
    _create_repricings()
    compact(op.get_bind())
    op.drop_table("ledger_before")


def downgrade() -> None:
    """Loses what revision 0002 cannot say: shadow samples and drivers, sums of hours whose records are gone, hours of
    machines, what was repriced."""
    _create_old_ledger()
    expand(op.get_bind())
    op.execute("DROP VIEW ledger")
    op.rename_table("ledger_before", "ledger")
    op.create_index("ix_ledger_started_at_ms", "ledger", ["started_at_ms"])
    op.create_index("ix_ledger_team_id_started_at_ms", "ledger", ["team_id", "started_at_ms"])
    op.create_index("ix_ledger_key_id_started_at_ms", "ledger", ["key_id", "started_at_ms"])
    for name in ("repriced_rows", "repricings", "hour_costs", "ledger_state", "hourly_sums", "ledger_rows"):
        op.drop_table(name)
    for name in ("ledger_templates", "ledger_attributes", "ledger_dimensions"):
        op.drop_table(name)


def _create_repeated() -> None:
    _create_table_of_texts(
        "ledger_dimensions",
        *(sa.Column(name, sa.Text, nullable=nullable) for name, nullable in _DIMENSIONS.items()),
        sa.Column("simulated", sa.Boolean, nullable=False),
    )
    _create_table_of_texts(
        "ledger_attributes",
        sa.Column("response_model", sa.Text),
        sa.Column("classifier", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("finish_reasons", sa.Text, nullable=False),
        sa.Column("baseline_price_effective_from", sa.Text),
    )
    _create_table_of_texts("ledger_templates", sa.Column("detail_template", sa.Text, nullable=False))


def _create_table_of_texts(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        sa.UniqueConstraint("digest", name=f"uq_{name}_digest"),
    )


def _create_rows() -> None:
    op.create_table(
        "ledger_rows",
        sa.Column("started_at_ms", _BIG, nullable=False),
        sa.Column("cost_nusd", _BIG, nullable=False),
        sa.Column("baseline_cost_nusd", _BIG, nullable=False),
        sa.Column("reserved_nusd", _BIG, nullable=False),
        sa.Column("retries_nusd", _BIG),
        sa.Column("prompt_cache_nusd", _BIG),
        sa.Column("observed_cost_nusd", _BIG),
        sa.Column("abandoned_nusd", _BIG),
        sa.Column("score", sa.Double),
        sa.Column("sample_share", sa.Double),
        sa.Column("dimension_id", sa.Integer, nullable=False),
        sa.Column("attribute_id", sa.Integer, nullable=False),
        sa.Column("template_id", sa.Integer, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("first_token_ms", sa.Integer),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("cached_input_tokens", sa.Integer),
        sa.Column("reasoning_tokens", sa.Integer),
        sa.Column("recounted_output_tokens", sa.Integer),
        sa.Column("baseline_input_tokens", sa.Integer, nullable=False),
        sa.Column("baseline_output_tokens", sa.Integer, nullable=False),
        sa.Column("request_id", sa.LargeBinary, nullable=False),
        sa.Column("parent_id", sa.LargeBinary),
        sa.Column("end_user", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("detail_numbers", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "started_at_ms", name="pk_ledger_rows"),
        postgresql_partition_by="RANGE (started_at_ms)",
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE ledger_rows_other PARTITION OF ledger_rows DEFAULT")
    op.create_index("ix_ledger_rows_started_at_ms", "ledger_rows", ["started_at_ms"])
    of_users, of_children = sa.text("end_user != ''"), sa.text("parent_id IS NOT NULL")
    op.create_index(
        "ix_ledger_rows_end_user",
        "ledger_rows",
        ["dimension_id", "end_user", "started_at_ms"],
        sqlite_where=of_users,
        postgresql_where=of_users,
    )
    op.create_index(
        "ix_ledger_rows_parent_id",
        "ledger_rows",
        ["parent_id"],
        sqlite_where=of_children,
        postgresql_where=of_children,
    )


def _create_hourly_sums() -> None:
    key = ("dimension_id", "hour_ms")
    op.create_table(
        "hourly_sums",
        sa.Column("dimension_id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("hour_ms", _BIG, nullable=False),
        *(sa.Column(name, _BIG, nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint(
            *(key if op.get_bind().dialect.name == "sqlite" else reversed(key)), name="pk_hourly_sums"
        ),
        sqlite_with_rowid=False,
    )


def _view(dialect: str) -> str:
    def unpacked(column: str) -> str:
        zero = "x'00'" if dialect == "sqlite" else r"'\x00'::bytea"
        hexadecimal = "lower(hex(substr({0}, 2)))" if dialect == "sqlite" else "encode(substr({0}, 2), 'hex')"
        plain = "CAST({0} AS TEXT)" if dialect == "sqlite" else "convert_from({0}, 'UTF8')"
        either = f"CASE WHEN substr({{0}}, 1, 1) = {zero} THEN 'chatcmpl-' || {hexadecimal} ELSE {plain} END"
        return either.format(column)

    plain = "sample_share started_at_ms duration_ms first_token_ms end_user tags score input_tokens output_tokens"
    amounts = "cost_nusd reserved_nusd baseline_input_tokens baseline_output_tokens baseline_cost_nusd"
    sparse = "cached_input_tokens reasoning_tokens retries_nusd prompt_cache_nusd observed_cost_nusd abandoned_nusd"
    attributes = "response_model classifier error_code stream attempts finish_reasons baseline_price_effective_from"
    columns = [
        f"{unpacked('r.request_id')} AS request_id",
        f"{unpacked('r.parent_id')} AS parent_id",
        *(f"r.{name}" for name in f"{plain} {amounts} dimension_id detail_numbers".split()),
        *(f"coalesce(r.{name}, 0) AS {name}" for name in f"{sparse} recounted_output_tokens".split()),
        *(f"d.{name}" for name in (*_DIMENSIONS, "simulated")),
        *(f"a.{name}" for name in attributes.split()),
        "t.detail_template",
        "r.request_id AS stored_id",
        "r.parent_id AS stored_parent_id",
    ]
    # Outer joins, though none misses: a database leaves out those of which a query needs nothing.
    return (
        f"CREATE VIEW ledger AS SELECT {', '.join(columns)} FROM ledger_rows r "
        "LEFT JOIN ledger_dimensions d ON d.id = r.dimension_id "
        "LEFT JOIN ledger_attributes a ON a.id = r.attribute_id "
        "LEFT JOIN ledger_templates t ON t.id = r.template_id"
    )


def _create_hour_costs() -> None:
    op.create_table(
        "hour_costs",
        sa.Column("hour_ms", _BIG, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hardware", sa.Text, nullable=False),
        sa.Column("unit_count", sa.Integer, nullable=False),
        sa.Column("cost_nusd", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("hour_ms", "source", name="pk_hour_costs"),
    )


def _create_repricings() -> None:
    op.create_table(
        "repricings",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at_ms", _BIG, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_repricings"),
    )
    op.create_table(
        "repriced_rows",
        sa.Column("repricing_id", sa.Integer, nullable=False),
        sa.Column("request_id", sa.LargeBinary, nullable=False),
        sa.Column("cost_nusd", _BIG, nullable=False),
        sa.Column("retries_nusd", _BIG, nullable=False),
        sa.Column("prompt_cache_nusd", _BIG, nullable=False),
        sa.Column("baseline_cost_nusd", _BIG, nullable=False),
        sa.Column("price_effective_from", sa.Text),
        sa.Column("baseline_price_effective_from", sa.Text),
        sa.PrimaryKeyConstraint("repricing_id", "request_id", name="pk_repriced_rows"),
        sa.ForeignKeyConstraint(["repricing_id"], ["repricings.id"], name="fk_repriced_rows_repricing_id"),
    )
    op.create_index("ix_repriced_rows_request_id", "repriced_rows", ["request_id"])


def _create_old_ledger() -> None:
    needed = "request_id team_id key_id alias reason status cache finish_reasons usage_source baseline_model detail"
    optional = "deployment provider_name request_model response_model tier classifier error_code price_effective_from"
    numbers = "input_tokens output_tokens cached_input_tokens reasoning_tokens cost_nusd reserved_nusd"
    of_baseline = "baseline_input_tokens baseline_output_tokens baseline_cost_nusd"
    op.create_table(
        "ledger_before",
        *(sa.Column(name, sa.Text, nullable=False) for name in needed.split()),
        *(sa.Column(name, sa.Text) for name in f"{optional} project_id deployment_tier".split()),
        *(sa.Column(name, _BIG, nullable=False) for name in f"{numbers} {of_baseline} started_at_ms".split()),
        sa.Column("duration_ms", _BIG, nullable=False),
        sa.Column("first_token_ms", _BIG),
        sa.Column("score", sa.Double),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("simulated", sa.Boolean, nullable=False),
        sa.Column("end_user", sa.Text, nullable=False, server_default=""),
        sa.Column("tags", sa.Text, nullable=False, server_default=""),
        sa.Column("abandoned_nusd", _BIG, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("request_id", name="pk_ledger"),
    )
