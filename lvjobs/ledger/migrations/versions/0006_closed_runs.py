"""The results of runs that are over, kept so that no pass has to read their rows again."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_WATCHED = {"runs": "id", "attempts": "run_id", "charges": "run_id", "reservations": "run_id", "members": "run_id"}
"""Tables that say something of a run, and the column with its id."""


def upgrade() -> None:
    """Migrate forward: nothing is closed yet. Whatever changes of a run, it is no longer closed: triggers see to it.

    A later migration that makes one of these tables anew (batch_alter_table does) has to make its triggers anew too.
    """
    op.create_table(
        "closed",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("tally", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("run_id", name="uq_closed_run_id"),
        sqlite_autoincrement=True,
    )
    for table, column in _WATCHED.items():
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            reopen = f"DELETE FROM closed WHERE run_id = {row}.{column}"  # noqa: S608 - names from above
            op.execute(f"CREATE TRIGGER reopen_{table}_{event.lower()} AFTER {event} ON {table} BEGIN {reopen}; END")
