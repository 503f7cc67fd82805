"""What savings are reckoned from: shadow samples, drivers, the estimate of the baseline's answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NULLABLE = {
    "parent_id": sa.Text(),
    "sample_share": sa.Double(),
    "task": sa.Text(),
    "observed_deployment": sa.Text(),
    "baseline_price_effective_from": sa.Text(),
    "estimator": sa.Text(),
}
_AMOUNTS = ("retries_nusd", "prompt_cache_nusd", "observed_cost_nusd", "recounted_output_tokens")


def upgrade() -> None:
    # With constant defaults neither database writes the rows anew, however many there are.
    op.add_column("ledger", sa.Column("kind", sa.Text, nullable=False, server_default="request"))
    for name, type_ in _NULLABLE.items():
        op.add_column("ledger", sa.Column(name, type_))
    for name in _AMOUNTS:
        op.add_column("ledger", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "hour_costs",
        sa.Column("hour_ms", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("hardware", sa.Text, nullable=False),
        sa.Column("unit_count", sa.Integer, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hour_ms", "source", name="pk_hour_costs"),
    )


def downgrade() -> None:
    op.drop_table("hour_costs")
    for name in ("kind", *_NULLABLE, *_AMOUNTS):
        op.drop_column("ledger", name)
