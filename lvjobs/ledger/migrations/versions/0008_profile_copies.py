"""Under which hash the study keeps a run's profile, as it was last submitted."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Migrate forward: of older runs no copy was kept, and the profile's own file is used."""
    op.add_column("runs", sa.Column("profile_copy", sa.String(), nullable=False, server_default=""))
