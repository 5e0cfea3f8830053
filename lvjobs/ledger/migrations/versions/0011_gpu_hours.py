"""Reservations of GPU-seconds, beside those of the work that costs FLOPs."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Migrate forward. The column is added in place: a new table would have no triggers (0006)."""
    op.add_column("reservations", sa.Column("gpu_seconds", sa.Integer(), nullable=False, server_default="0"))
