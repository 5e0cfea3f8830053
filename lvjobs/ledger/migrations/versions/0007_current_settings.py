"""A run's typed settings, those it was declared with where they changed, and each attempt's interval."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Migrate forward. Of earlier runs it is not known what was typed: study.toml's values count for them.

    Columns are added in place: to make the tables anew would drop their triggers (0006).
    """
    op.add_column("runs", sa.Column("typed", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("declared", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("attempts", sa.Column("checkpoint_every", sa.Integer(), nullable=True))
