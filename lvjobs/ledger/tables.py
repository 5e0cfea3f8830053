"""The tables of runs.db. A change needs a migration (lvjobs/ledger/migrations).

The columns of a table that has a record (`lvjobs.ledger.records`) are the record's fields.
"""

from collections.abc import Callable
from dataclasses import Field, fields
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from lvjobs.ledger.reading import current_rates
from lvjobs.ledger.records import (
    AttemptRecord,
    Charge,
    Closed,
    Event,
    Member,
    RunRecord,
    StageRecord,
    SubmissionRecord,
)
from lvjobs.study.words import MemberState, RunState

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)


_RECENT = 1024
"""The number of values that are kept after they were read."""


class Stored(TypeDecorator[Any]):
    """A value that is stored as another type and read by a function. A member of an enum is stored by its value."""

    impl = String
    cache_ok = True

    def __init__(self, stored: type[String | JSON], read: Callable[[Any], Any]) -> None:
        super().__init__()
        self.stored = stored
        self.read = read

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type as which it is stored."""
        return dialect.type_descriptor(self.stored())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return what is stored."""
        return value.value if isinstance(value, Enum) else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return the function that reads a value. It keeps recent results: many rows have the same value."""
        parse = self.load_dialect_impl(dialect).result_processor(dialect, coltype) or (lambda value: value)
        return lru_cache(_RECENT)(lambda value: None if value is None else self.read(parse(value)))


_TYPES = {str: String, int: Integer, float: Float, bool: Boolean}
_TEXTS = {"reason", "because", "evidence", "error", "traceback", "text", "row", "tally"}


def _column(item: Field[Any]) -> Column[Any]:
    """Return the column of a record's field. It may be NULL where the field may be None."""
    kinds = get_args(item.type) if NoneType in get_args(item.type) else (item.type,)
    kind = kinds[0]
    if item.name in _TEXTS:
        return Column(item.name, Text, nullable=False)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return Column(item.name, Stored(String, kind), nullable=NoneType in kinds)
    return Column(item.name, _TYPES.get(kind) or Stored(JSON, lambda value: value), nullable=NoneType in kinds)


def _table(name: str, record: type, *items: SchemaItem, **options: Any) -> Table:
    """Return a table with a column for each field of `record`, in order; keys are among `items`."""
    given = {item.name: item for item in items if isinstance(item, Column)}
    derived = {item.name: given.pop(item.name) if item.name in given else _column(item) for item in fields(record)}
    others = [item for item in items if not isinstance(item, Column)]
    return Table(name, metadata, *given.values(), *derived.values(), *others, **options)


settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)

stages = _table("stages", StageRecord, Column("name", String, primary_key=True))

# The runs that a stage compares. A run that two stages have in common is trained once.
cells = Table(
    "cells",
    metadata,
    Column("stage", String, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("position", Integer, nullable=False),
)

runs = _table(
    "runs",
    RunRecord,
    Column("ordinal", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False, unique=True),
    Column("fingerprint", String, nullable=False, index=True),
    Column("state", Stored(String, RunState), nullable=False, index=True),
    Column("rates", Stored(JSON, current_rates), nullable=False),
)

attempts = _table(
    "attempts",
    AttemptRecord,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("checkpoint_bytes", BigInteger, nullable=False),
    UniqueConstraint("run_id", "generation", name="uq_attempts_generation"),
)

submissions = _table("submissions", SubmissionRecord, Column("token", String, primary_key=True))

members = _table(
    "members",
    Member,
    Column("token", String, ForeignKey("submissions.token"), primary_key=True),
    Column("member", Integer, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
    Column("state", Stored(String, MemberState), nullable=False, index=True),
)
# One run has one live submission: a second sbatch for a run whose first is unsettled is a bug, not a race.
Index("uq_members_live", members.c.run_id, unique=True, sqlite_where=members.c.state == MemberState.LIVE)

events = _table(
    "events",
    Event,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, index=True),
)

charges = _table(
    "charges",
    Charge,
    Column("attempt_id", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, index=True),
)

reservations = Table(
    "reservations",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("training", Integer, nullable=False),
    Column("validation", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("gpu_seconds", Integer, nullable=False, server_default="0"),
)

# The results of closed runs. A trigger deletes a row as soon as anything of the run changes in the tables above.
closed = _table(
    "closed",
    Closed,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String, ForeignKey("runs.id"), nullable=False, unique=True),
    sqlite_autoincrement=True,
)

# The state of parts of the product (`KeptTable` in `lvjobs.ledger.rows`), each as records of its own. A table without
# a key has at most one row.

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
