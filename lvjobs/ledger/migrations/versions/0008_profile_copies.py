"""Under which hash the study keeps a run's profile, as it was last submitted."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Migrate forward: of older runs no copy was kept, and the profile's own file is used."""
    op.add_column("runs", sa.Column("profile_copy", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    """Migrate back. The table is made anew, and with it the triggers that 0006 gave it."""
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("profile_copy")
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        reopen = f"DELETE FROM closed WHERE run_id = {row}.id"  # noqa: S608 - names from above
        op.execute(f"CREATE TRIGGER reopen_runs_{event.lower()} AFTER {event} ON runs BEGIN {reopen}; END")
