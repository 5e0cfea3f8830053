"""Stages that were asked for, with their winners; and the runs that each compares."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Migrate forward. A stage's name stood in its runs until now: those are its cells, as they were made."""
    with op.batch_alter_table("stages", schema=None) as batch_op:
        batch_op.add_column(sa.Column("state", sa.String(), nullable=False, server_default="declared"))
        batch_op.add_column(sa.Column("request", sa.JSON(), nullable=False, server_default="{}"))
        for name in ("reason", "because"):
            batch_op.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("winner", sa.String(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("by_hand", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "cells",
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("stage", "run_id"),
    )
    op.execute(
        "INSERT INTO cells (stage, run_id, position) "
        "SELECT stage, id, ordinal FROM runs WHERE stage IN (SELECT name FROM stages)"
    )
