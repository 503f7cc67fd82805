"""Which scheduled reports were made, by whom they are being made, and when to try again; samples without records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "report_runs",
        sa.Column("schedule_id", sa.Text, nullable=False),
        sa.Column("period_end_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("schedule_id", "period_end_ms", name="pk_report_runs"),
    )
    op.create_table(
        "kept_samples",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger, nullable=False),
        sa.Column("dimension_id", sa.Integer, nullable=False),
        sa.Column("booked_nusd", sa.BigInteger, nullable=False),
        sa.Column("actual_nusd", sa.BigInteger, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_kept_samples"),
    )
    op.create_index("ix_kept_samples_started_at_ms", "kept_samples", ["started_at_ms"])


def downgrade() -> None:
    op.drop_table("kept_samples")
    op.drop_table("report_runs")
