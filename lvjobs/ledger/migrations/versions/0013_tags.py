"""The tags that the user has given to runs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Migrate forward. The column is added in place: a new table would have no triggers (0006)."""
    op.add_column("runs", sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
