"""Runs the steps over the connection that `cad.ledger.tables.engine.migrate` gives, inside its transaction."""

from alembic import context

from cad.ledger.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
