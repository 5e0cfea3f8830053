"""Runs that share a job: which submissions are such, among how many an execution was shared, how a process died."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Migrate forward: until now each run had its job, or its array's task, for itself."""
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("packed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("attempts", sa.Column("sharing", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("attempts", sa.Column("died", sa.String(), nullable=False, server_default=""))
