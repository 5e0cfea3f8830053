"""The migrations, as alembic runs them: on the engine that `open_ledger` hands over, in one transaction."""

from alembic import context

from lvjobs.ledger.tables import metadata

with context.config.attributes["engine"].connect() as connection:
    # Tables that others refer to are copied and replaced: SQLite allows that only while it looks away, and can be told
    # to look away only outside a transaction. It is made to look at everything again before the commit.
    connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        context.run_migrations()
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(f"the migration would leave rows that refer to nothing: {broken[:3]}")
