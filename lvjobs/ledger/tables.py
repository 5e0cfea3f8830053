"""The tables of runs.db. A change needs a migration (lvjobs/ledger/migrations)."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from lvjobs.study.words import MemberState

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)

settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("name", String, primary_key=True),
    Column("ordinal", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("winner", String, nullable=False),
    Column("because", Text, nullable=False),
    Column("by_hand", Boolean, nullable=False),
)

# The runs that a stage compares. A run that two stages have in common is trained once.
cells = Table(
    "cells",
    metadata,
    Column("stage", String, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("position", Integer, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("ordinal", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False, unique=True),
    Column("stage", String, nullable=False),
    Column("fingerprint", String, nullable=False, index=True),
    Column("config", JSON, nullable=False),
    Column("profile", String, nullable=False),
    Column("resources", JSON, nullable=False),
    Column("code", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("cause", String),
    Column("reason", Text, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("forgiven_until", Integer, nullable=False),
    Column("rates", JSON, nullable=False),
    Column("held_for", String, nullable=False),
    Column("after", String, nullable=False),
    Column("typed", JSON, nullable=False),
    Column("declared", JSON, nullable=False),
    Column("profile_copy", String, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("generation", Integer),
    Column("token", String, nullable=False),
    Column("job_id", String, nullable=False),
    Column("restart_count", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("cause", String),
    Column("evidence", Text, nullable=False),
    Column("resumed_from", Integer, nullable=False),
    Column("resumed_generation", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("executed", Integer, nullable=False),
    Column("checkpoint_step", Integer, nullable=False),
    Column("loss", Float),
    Column("untrained_loss", Float),
    Column("validation_loss", Float),
    Column("validation_step", Integer),
    Column("validation_windows", Integer, nullable=False),
    Column("signal", String, nullable=False),
    Column("leave_cause", String, nullable=False),
    Column("leave_action", String, nullable=False),
    Column("error", Text, nullable=False),
    Column("traceback", Text, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("journal_offset", Integer, nullable=False),
    Column("grown", Float, nullable=False),
    Column("generated", Integer, nullable=False),
    Column("train_seconds", Float, nullable=False),
    Column("validation_seconds", Float, nullable=False),
    Column("checkpoint_seconds", Float, nullable=False),
    Column("checkpoints", Integer, nullable=False),
    Column("checkpoint_bytes", BigInteger, nullable=False),
    Column("allocated_seconds", Float),
    Column("gpus", Integer),
    Column("sharing", Integer, nullable=False),
    Column("died", String, nullable=False),
    Column("curve", JSON, nullable=False),
    Column("checkpoint_every", Integer),
    Column("failed_node", String, nullable=False),
    Column("exit_status", Integer),
    UniqueConstraint("run_id", "generation", name="uq_attempts_generation"),
)

submissions = Table(
    "submissions",
    metadata,
    Column("token", String, primary_key=True),
    Column("profile", String, nullable=False),
    Column("backend", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("size", Integer, nullable=False),
    Column("job_id", String),
    Column("packed", Boolean, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("token", String, ForeignKey("submissions.token"), primary_key=True),
    Column("member", Integer, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("state", String, nullable=False, index=True),
    Column("missing_since", Float),
    Column("hold_lifted", Integer, nullable=False),
)
# One run has one live submission: a second sbatch for a run whose first is unsettled is a bug, not a race.
Index("uq_members_live", members.c.run_id, unique=True, sqlite_where=members.c.state == MemberState.LIVE.value)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("run_id", String, index=True),
    Column("details", JSON, nullable=False),
    Column("attempt_id", Integer),
)

charges = Table(
    "charges",
    metadata,
    Column("attempt_id", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("units", Integer, nullable=False),
    Column("estimated", Integer, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("training", Integer, nullable=False),
    Column("validation", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
)

# The results of closed runs (see `Closed` in records.py). A trigger deletes a row as soon as anything of the run
# changes in the tables above.
closed = Table(
    "closed",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, unique=True),
    Column("row", Text, nullable=False),
    Column("tally", Text, nullable=False),
    sqlite_autoincrement=True,
)

# The state of parts of the product (`lvjobs.ledger.kept`), each as records of its own. A table without a key has at
# most one row.

avoided_nodes = Table(
    "avoided_nodes",
    metadata,
    Column("node", String, primary_key=True),
    Column("since", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("used_in", JSON, nullable=False),
)

# The nodes that each job has to avoid.
told_jobs = Table(
    "told_jobs",
    metadata,
    Column("job", String, primary_key=True),
    Column("nodes", JSON, nullable=False),
)

driver = Table(
    "driver",
    metadata,
    Column("stopped", Boolean, nullable=False),
    Column("refused", Text, nullable=False),
    Column("refused_at", Float, nullable=False),
    Column("asked", Text, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("held", JSON, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Column("failed", Text, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    Column("stage", String, primary_key=True),
    Column("identity", String, nullable=False),
    Column("entries", JSON, nullable=False),
)

prunings = Table(
    "prunings",
    metadata,
    Column("stage", String, primary_key=True),
    Column("reports", JSON, nullable=False),
    Column("pruned", JSON, nullable=False),
)

# The times of reconcile passes, and the jobs that they found suspended.
watch = Table(
    "watch",
    metadata,
    Column("last", Float, nullable=False),
    Column("since", Float, nullable=False),
    Column("machine", String, nullable=False),
    Column("uptime", Float, nullable=False),
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("place", String, primary_key=True),
    Column("restart", Integer, nullable=False),
    Column("total", Float),
    Column("since", Float, nullable=False),
)

site_limits = Table(
    "site_limits",
    metadata,
    Column("key", String, primary_key=True),
    Column("time", Float, nullable=False),
    Column("caps", JSON, nullable=False),
    Column("members", Integer),
    Column("minutes", Integer),
)

# The sums of closed runs, and the rules by which they were closed.
closed_sums = Table(
    "closed_sums",
    metadata,
    Column("count", Integer, nullable=False),
    Column("token", String, nullable=False),
    Column("tally", Text, nullable=False),
)

closed_basis = Table(
    "closed_basis",
    metadata,
    Column("format", Integer, nullable=False),
    Column("terms", JSON, nullable=False),
    Column("gpus", JSON, nullable=False),
    Column("profiles", JSON, nullable=False),
)
