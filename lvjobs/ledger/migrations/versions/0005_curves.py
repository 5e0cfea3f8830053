"""The course of each attempt's training loss, in a handful of means."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Migrate forward: of what was read of journals until now, only the last loss is known."""
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("curve", sa.JSON(), nullable=False, server_default="{}"))
