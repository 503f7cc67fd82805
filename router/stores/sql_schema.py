"""The tables, as the newest migration leaves them. SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

TEAMS = Table(
    "teams",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

PROJECTS = Table(
    "projects",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("team_id", Text, ForeignKey("teams.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("team_id", Text, ForeignKey("teams.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("secret_sha256", Text, nullable=False, unique=True),
    Column("prefix", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
    # The key that stands in for this one now, however many rotations later.
    Column("replaced_by", Text, ForeignKey("keys.id"), index=True),
    Column("allowed_models", Text),  # a JSON list of names
    Column("expires_at_ms", BigInteger),
    Column("project_id", Text, ForeignKey("projects.id")),
    Column("trusted", Boolean, nullable=False),
    Column("tags", Text, nullable=False),  # a JSON list
)

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("window", Text, nullable=False),
    Column("limit", BigInteger, nullable=False),  # in the unit; nano-USD for usd
    Column("timezone", Text, nullable=False),
    # Empty for every model and every tier: no two NULLs are the same to a unique constraint.
    Column("model", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("downgrade_from", Text),  # a fraction, such as 4/5
    Column("downgrade_to", Text, nullable=False),
    Column("alert_shares", Text, nullable=False),  # a JSON list of fractions
    Column("paced", Boolean, nullable=False),
    Column("when_unavailable", Text),
    Column("source", Text, nullable=False),
    UniqueConstraint(
        "subject_kind", "subject_id", "unit", "window", "model", "tier", name="uq_budgets_what_is_limited"
    ),
)

BUDGET_ALERTS = Table(
    "budget_alerts",
    METADATA,
    Column("budget_id", Text, primary_key=True),
    Column("window_label", Text, primary_key=True),
    Column("share", Text, primary_key=True),
    Column("end_user", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", Text),  # a JSON object: what to tell people, until they were told
)
Index(
    None,
    BUDGET_ALERTS.c.at_ms,
    sqlite_where=BUDGET_ALERTS.c.event.is_not(None),
    postgresql_where=BUDGET_ALERTS.c.event.is_not(None),
)

# A scheduled report of a period. Until it is finished, nobody may begin it before `not_before_ms`: that is the lease of
# whoever makes it, and the wait after a failure.
REPORT_RUNS = Table(
    "report_runs",
    METADATA,
    Column("schedule_id", Text, primary_key=True),
    Column("period_end_ms", BigInteger, primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    Column("detail", Text, nullable=False),
)

# Rows are added, never changed. No foreign keys: what was done outlives what it was done to.
AUDIT_LOG = Table(
    "audit_log",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False, index=True),
    Column("before", Text),  # a JSON object
    Column("after", Text),  # a JSON object
)

# A record of the ledger is a row of `ledger_rows`, with the texts that repeat in tables of their own (a star schema):
# what reports are broken down by, what else repeats, and its detail without the numbers. `digest` tells what is known.
# No foreign keys: a record is booked whatever has become of its team or key, and each check would cost as much again.
LEDGER_DIMENSIONS = Table(
    "ledger_dimensions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("team_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("project_id", Text),
    Column("alias", Text, nullable=False),
    Column("deployment", Text),
    Column("deployment_tier", Text),
    Column("provider_name", Text),
    Column("request_model", Text),
    Column("reason", Text, nullable=False),
    Column("tier", Text),
    Column("task", Text),
    Column("observed_deployment", Text),
    Column("status", Text, nullable=False),
    Column("cache", Text, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("price_effective_from", Text),
    Column("baseline_model", Text, nullable=False),
    Column("estimator", Text),
    Column("simulated", Boolean, nullable=False),
)

LEDGER_ATTRIBUTES = Table(
    "ledger_attributes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("response_model", Text),
    Column("classifier", Text),
    Column("error_code", Text),
    Column("stream", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("finish_reasons", Text, nullable=False),
    Column("baseline_price_effective_from", Text),
)

LEDGER_TEMPLATES = Table(
    "ledger_templates",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("detail_template", Text, nullable=False),
)

# The widest columns come first, so that PostgreSQL fills no gaps between them, and what is mostly nothing is NULL,
# which takes no room. There the table has a partition for each month.
LEDGER_ROWS = Table(
    "ledger_rows",
    METADATA,
    Column("started_at_ms", BigInteger, nullable=False, index=True),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("baseline_cost_nusd", BigInteger, nullable=False),
    Column("reserved_nusd", BigInteger, nullable=False),
    Column("retries_nusd", BigInteger),
    Column("prompt_cache_nusd", BigInteger),
    Column("observed_cost_nusd", BigInteger),
    Column("abandoned_nusd", BigInteger),
    Column("score", Double),
    Column("sample_share", Double),
    Column("dimension_id", Integer, nullable=False),
    Column("attribute_id", Integer, nullable=False),
    Column("template_id", Integer, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("first_token_ms", Integer),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_input_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("recounted_output_tokens", Integer),
    Column("baseline_input_tokens", Integer, nullable=False),
    Column("baseline_output_tokens", Integer, nullable=False),
    Column("request_id", LargeBinary, nullable=False),  # as sql_detail.pack_id has it
    Column("parent_id", LargeBinary),
    Column("end_user", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("detail_numbers", LargeBinary, nullable=False),
    PrimaryKeyConstraint("request_id", "started_at_ms"),
    postgresql_partition_by="RANGE (started_at_ms)",
)
# Few records have an end user or a parent; the others pay nothing for these.
Index(
    "ix_ledger_rows_end_user",
    LEDGER_ROWS.c.dimension_id,
    LEDGER_ROWS.c.end_user,
    LEDGER_ROWS.c.started_at_ms,
    sqlite_where=LEDGER_ROWS.c.end_user != "",
    postgresql_where=LEDGER_ROWS.c.end_user != "",
)
Index(
    "ix_ledger_rows_parent_id",
    LEDGER_ROWS.c.parent_id,
    sqlite_where=LEDGER_ROWS.c.parent_id.is_not(None),
    postgresql_where=LEDGER_ROWS.c.parent_id.is_not(None),
)

Index(
    "ix_ledger_rows_measured_at",
    LEDGER_ROWS.c.started_at_ms,
    sqlite_where=LEDGER_ROWS.c.parent_id.is_not(None),
    postgresql_where=LEDGER_ROWS.c.parent_id.is_not(None),
)

# The sums of each hour. SQLite keeps the rows in the order of this key, PostgreSQL's key has the hour first: either is
# several times as fast there as the other.
HOURLY_SUMS = Table(
    "hourly_sums",
    METADATA,
    Column("dimension_id", Integer, primary_key=True, autoincrement=False),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("request_count", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("retries_nusd", BigInteger, nullable=False),
    Column("prompt_cache_nusd", BigInteger, nullable=False),
    Column("baseline_cost_nusd", BigInteger, nullable=False),
    Column("observed_cost_nusd", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Shadow samples whose records were let go. The dimension is that of the request that was measured.
KEPT_SAMPLES = Table(
    "kept_samples",
    METADATA,
    Column("request_id", Text, primary_key=True),
    Column("started_at_ms", BigInteger, nullable=False, index=True),
    Column("dimension_id", Integer, nullable=False),
    Column("booked_nusd", BigInteger, nullable=False),
    Column("actual_nusd", BigInteger, nullable=False),
    Column("share", Double, nullable=False),
)

# Numbers about the ledger itself. `rows_from_ms`: older rows were dropped, and of their hours only the sums are left.
LEDGER_STATE = Table(
    "ledger_state",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# A view that joins a record together again, by the names of its fields; but `detail` is in two parts, and there are
# the ids as they are stored, by which the indexes go.
LEDGER = Table(
    "ledger",
    MetaData(),
    Column("request_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("parent_id", Text),
    Column("sample_share", Double),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("first_token_ms", BigInteger),
    Column("team_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("project_id", Text),
    Column("end_user", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("deployment", Text),
    Column("deployment_tier", Text),
    Column("provider_name", Text),
    Column("request_model", Text),
    Column("response_model", Text),
    Column("reason", Text, nullable=False),
    Column("tier", Text),
    Column("score", Double),
    Column("classifier", Text),
    Column("task", Text),
    Column("observed_deployment", Text),
    Column("status", Text, nullable=False),
    Column("error_code", Text),
    Column("cache", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("finish_reasons", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("retries_nusd", BigInteger, nullable=False),
    Column("prompt_cache_nusd", BigInteger, nullable=False),
    Column("observed_cost_nusd", BigInteger, nullable=False),
    Column("reserved_nusd", BigInteger, nullable=False),
    Column("abandoned_nusd", BigInteger, nullable=False),
    Column("price_effective_from", Text),
    Column("baseline_model", Text, nullable=False),
    Column("baseline_price_effective_from", Text),
    Column("estimator", Text),
    Column("recounted_output_tokens", BigInteger, nullable=False),
    Column("baseline_input_tokens", BigInteger, nullable=False),
    Column("baseline_output_tokens", BigInteger, nullable=False),
    Column("baseline_cost_nusd", BigInteger, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("dimension_id", Integer, nullable=False),
    Column("stored_id", LargeBinary, nullable=False),
    Column("stored_parent_id", LargeBinary),
    Column("detail_template", Text, nullable=False),
    Column("detail_numbers", LargeBinary, nullable=False),
)

# A late correction of prices, and what each record said before it.
REPRICINGS = Table(
    "repricings",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

REPRICED_ROWS = Table(
    "repriced_rows",
    METADATA,
    Column("repricing_id", Integer, ForeignKey("repricings.id"), primary_key=True),
    Column("request_id", LargeBinary, primary_key=True, index=True),
    Column("cost_nusd", BigInteger, nullable=False),
    Column("retries_nusd", BigInteger, nullable=False),
    Column("prompt_cache_nusd", BigInteger, nullable=False),
    Column("baseline_cost_nusd", BigInteger, nullable=False),
    Column("price_effective_from", Text),
    Column("baseline_price_effective_from", Text),
)

# What machines cost, hour by hour, busy or idle. A closed hour stays as it is.
HOUR_COSTS = Table(
    "hour_costs",
    METADATA,
    Column("hour_ms", BigInteger, primary_key=True),
    Column("source", Text, primary_key=True),  # a deployment, or cells.ROUTER
    Column("hardware", Text, nullable=False),
    Column("unit_count", Integer, nullable=False),
    Column("cost_nusd", BigInteger, nullable=False),
)
