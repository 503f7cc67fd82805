"""Run by Alembic for every command: migrates over the connection that `sql_engine.migrate` hands it."""

from __future__ import annotations

from alembic import context

from router.stores.sql_schema import METADATA


def migrate() -> None:
    """Runs the migrations inside the caller's transaction, so that a failed one leaves no trace."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=METADATA,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# Alembic executes this file under the name `env_py`; a plain import does nothing.
if __name__ == "env_py":
    migrate()
