"""Reservations; rates of several conventions a run; runs after runs; what attempts held and how long things took."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_RUNS = sa.table(
    "runs",
    sa.column("id", sa.String),
    sa.column("rates", sa.JSON),
    sa.column("step_flops", sa.BigInteger),
    sa.column("validation_flops", sa.BigInteger),
)
_COUNTED = ("generated", "checkpoints", "checkpoint_bytes")
_TIMED = ("train_seconds", "validation_seconds", "checkpoint_seconds")


def upgrade() -> None:
    """Migrate forward. Until now the official convention was the only one; a run keeps the rates it was given."""
    op.create_table(
        "reservations",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("training", sa.Integer(), nullable=False),
        sa.Column("validation", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.add_column("runs", sa.Column("rates", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("runs", sa.Column("held_for", sa.String(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("after", sa.String(), nullable=False, server_default=""))
    connection = op.get_bind()
    for run_id, _, training, validation in connection.execute(sa.select(_RUNS)).all():
        if training:
            rates = {"official": {"training": training, "validation": validation, "generation": 0}}
            connection.execute(sa.update(_RUNS).where(_RUNS.c.id == run_id).values(rates=rates))
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("step_flops")
        batch_op.drop_column("validation_flops")
    for name in _COUNTED:
        kind = sa.BigInteger() if name == "checkpoint_bytes" else sa.Integer()
        op.add_column("attempts", sa.Column(name, kind, nullable=False, server_default="0"))
    for name in _TIMED:
        op.add_column("attempts", sa.Column(name, sa.Float(), nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("allocated_seconds", sa.Float(), nullable=True))
    op.add_column("attempts", sa.Column("gpus", sa.Integer(), nullable=True))
    with op.batch_alter_table("charges", schema=None) as batch_op:
        batch_op.alter_column("steps", new_column_name="units")
        batch_op.add_column(sa.Column("estimated", sa.Integer(), nullable=False, server_default="0"))
        batch_op.drop_column("flops_per_step")
