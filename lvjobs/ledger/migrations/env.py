"""How alembic runs the migrations: on the engine that `open_ledger` hands over, in one transaction."""

from alembic import context

from lvjobs.ledger.tables import metadata

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()
