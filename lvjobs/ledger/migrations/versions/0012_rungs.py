"""The step at which a run stops, until its stage has compared all runs there."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Migrate forward. The column is added in place: a new table would have no triggers (0006)."""
    op.add_column("runs", sa.Column("stop_at", sa.Integer(), nullable=False, server_default="0"))
