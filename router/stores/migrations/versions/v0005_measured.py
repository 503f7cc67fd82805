"""When requests were measured: the shadows of a time, among millions of requests, for each report of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME = "ix_ledger_rows_measured_at"


def upgrade() -> None:
    of_children = sa.text("parent_id IS NOT NULL")
    op.create_index(_NAME, "ledger_rows", ["started_at_ms"], sqlite_where=of_children, postgresql_where=of_children)


def downgrade() -> None:
    op.drop_index(_NAME, "ledger_rows")
