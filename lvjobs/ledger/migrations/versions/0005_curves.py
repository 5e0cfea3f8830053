"""The course of each attempt's training loss, in a handful of means."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Migrate forward: of what was read of journals until now, only the last loss is known."""
    op.add_column("attempts", sa.Column("curve", sa.JSON(), nullable=False, server_default="{}"))
