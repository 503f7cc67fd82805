"""Budgets of every subject, unit and window; projects; who changed what; alerts told; whose request it was."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD_BUDGETS = sa.table(
    "budgets", *map(sa.column, ("id", "subject_kind", "subject_id", "window", "limit_nusd", "timezone"))
)
_NEW_BUDGETS = sa.table(
    "budgets",
    *map(sa.column, ("id", "subject_kind", "subject_id", "unit", "window", "limit", "timezone", "model", "tier")),
    *map(sa.column, ("action", "downgrade_from", "downgrade_to", "alert_shares", "when_unavailable", "source")),
    sa.column("paced", sa.Boolean),
)
_AS_BEFORE = {
    "unit": "usd",
    "model": "",
    "tier": "",
    "action": "cache_only",
    "downgrade_from": None,
    "downgrade_to": "simple",
    "alert_shares": '["4/5","1"]',
    "paced": False,
    "when_unavailable": None,
    "source": "admin",
}
"""What every budget of revision 0001 was, in the words of this one."""


def upgrade() -> None:
    _create_projects()
    _create_audit_log()
    _create_budget_alerts()
    _extend_keys()
    _extend_ledger()
    # There are few budgets. A table made anew is the same on SQLite, which cannot drop a constraint, as on PostgreSQL.
    kept = [dict(row) for row in op.get_bind().execute(sa.select(_OLD_BUDGETS)).mappings()]
    op.drop_table("budgets")
    _create_budgets()
    op.bulk_insert(_NEW_BUDGETS, [_renamed(row, "limit_nusd", "limit") | _AS_BEFORE for row in kept])


def downgrade() -> None:
    """Loses all budgets that revision 0001 cannot express, the projects and what was done by whom."""
    budgets = _NEW_BUDGETS.c
    expressible = sa.select(
        budgets.id, budgets.subject_kind, budgets.subject_id, budgets.window, budgets.limit, budgets.timezone
    ).where(
        budgets.subject_kind.in_(("team", "key")),
        budgets.unit == "usd",
        budgets.window == "month",
        budgets.model == "",
        budgets.tier == "",
    )
    kept = [dict(row) for row in op.get_bind().execute(expressible).mappings()]
    op.drop_table("budgets")
    _create_old_budgets()
    op.bulk_insert(_OLD_BUDGETS, [_renamed(row, "limit", "limit_nusd") for row in kept])
    op.drop_index("ix_ledger_key_id_started_at_ms", "ledger")
    for column in ("project_id", "end_user", "tags", "deployment_tier", "abandoned_nusd"):
        op.drop_column("ledger", column)
    for column in ("project_id", "trusted", "tags"):
        op.drop_column("keys", column)
    for table in ("budget_alerts", "audit_log", "projects"):
        op.drop_table(table)


def _renamed(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in row.items()}


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("team_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name="fk_projects_team_id"),
    )
    op.create_index("ix_projects_team_id", "projects", ["team_id"])


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_at_ms", "audit_log", ["at_ms"])
    op.create_index("ix_audit_log_target", "audit_log", ["target"])


def _create_budget_alerts() -> None:
    op.create_table(
        "budget_alerts",
        sa.Column("budget_id", sa.Text, nullable=False),
        sa.Column("window_label", sa.Text, nullable=False),
        sa.Column("share", sa.Text, nullable=False),
        sa.Column("end_user", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text),
        sa.PrimaryKeyConstraint("budget_id", "window_label", "share", "end_user", name="pk_budget_alerts"),
    )
    # Few are still to be told of, of all that ever were.
    untold = sa.text("event IS NOT NULL")
    op.create_index("ix_budget_alerts_at_ms", "budget_alerts", ["at_ms"], sqlite_where=untold, postgresql_where=untold)


def _extend_keys() -> None:
    # Alembic would add the foreign key in a statement of its own, which SQLite does not know.
    op.execute("ALTER TABLE keys ADD COLUMN project_id TEXT CONSTRAINT fk_keys_project_id REFERENCES projects (id)")
    op.add_column("keys", sa.Column("trusted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("keys", sa.Column("tags", sa.Text, nullable=False, server_default="[]"))


def _extend_ledger() -> None:
    # With constant defaults neither database writes the rows anew, however many there are.
    op.add_column("ledger", sa.Column("project_id", sa.Text))
    op.add_column("ledger", sa.Column("end_user", sa.Text, nullable=False, server_default=""))
    op.add_column("ledger", sa.Column("tags", sa.Text, nullable=False, server_default=""))
    op.add_column("ledger", sa.Column("deployment_tier", sa.Text))
    op.add_column("ledger", sa.Column("abandoned_nusd", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_ledger_key_id_started_at_ms", "ledger", ["key_id", "started_at_ms"])


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("subject_kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("window", sa.Text, nullable=False),
        sa.Column("limit", sa.BigInteger, nullable=False),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("downgrade_from", sa.Text),
        sa.Column("downgrade_to", sa.Text, nullable=False),
        sa.Column("alert_shares", sa.Text, nullable=False),
        sa.Column("paced", sa.Boolean, nullable=False),
        sa.Column("when_unavailable", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint(
            "subject_kind", "subject_id", "unit", "window", "model", "tier", name="uq_budgets_what_is_limited"
        ),
    )


def _create_old_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("subject_kind", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text, nullable=False),
        sa.Column("window", sa.Text, nullable=False),
        sa.Column("limit_nusd", sa.BigInteger, nullable=False),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budgets"),
        sa.UniqueConstraint("subject_kind", "subject_id", "window", name="uq_budgets_subject_kind_subject_id_window"),
    )
