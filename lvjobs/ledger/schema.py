"""The schema of runs.db: how the file is opened, created, and migrated from the schema of an older release."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from lvjobs.errors import LvjobsError, Unwritable
from lvjobs.files import aside_of, create_new, write_atomic

HEAD = "0013"
"""The newest migration. It is compared without loading alembic, which only an old or new file needs."""

_BUSY_SECONDS = 30.0


class LedgerError(LvjobsError):
    """A runs.db that cannot be used."""


class LedgerUnwritable(LedgerError, Unwritable):
    """runs.db, or its log, cannot be written. Nothing is wrong with its content."""


def new_engine(path: Path, synchronous: str = "FULL") -> Engine:
    """Return an engine of a file. It has one connection, from the first transaction until it is disposed of."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),  # not as text: a ? or %20 in the path would then have a meaning
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def revision_of(engine: Engine) -> str | None:
    """Return the schema of a ledger; None for another database."""
    with engine.connect() as connection:
        known = connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")).scalar()
        if known is None:
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision


def epoch_of(path: Path) -> int:
    """Return the epoch of the ledger at `path`; 0 where there is none, or it cannot be read now.

    No lease is needed: an interrupted write is rolled back by whoever reads first.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            (epoch,) = connection.execute("SELECT value FROM settings WHERE key = 'epoch'").fetchone()
            return int(epoch)
    except (sqlite3.DatabaseError, TypeError, ValueError):
        return 0


def migrate(path: Path, revision: str | None) -> None:
    """Migrate a ledger of an older revision, or create one (None). It is made aside, and written to the disk once.

    A ledger that is migrated is copied to `runs.db.<revision>.bak` first.

    Raises:
        LedgerError: see `upgrade`.
    """
    aside, journal = aside_of(path), path.with_name(f"{path.name}-journal")
    try:
        with os.fdopen(create_new(aside), "r+b") as stream:
            data = path.read_bytes() if path.exists() else b""
            if revision is not None:
                write_atomic(path.with_name(f"{path.name}.{revision}.bak"), data)
            stream.write(data)
            stream.flush()
            upgrade(aside, revision)
            os.fsync(stream.fileno())
        journal.unlink(missing_ok=True)  # of a ledger that is gone: SQLite would apply it to this one
        aside.rename(path)
    finally:
        for leftover in (aside, aside.with_name(f"{aside.name}-journal")):
            leftover.unlink(missing_ok=True)


def upgrade(path: Path, schema: str | None, target: str = "head") -> None:
    """Migrate the file at `path`, which may be empty, to the revision `target`. Nothing is synced.

    `schema` is the revision with which the ledger was written, for the message.

    Raises:
        LedgerError: `schema` is of another release.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    scripts = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", scripts.replace("%", "%%"))  # alembic expands what follows a single %
    engine = config.attributes["engine"] = new_engine(path, synchronous="OFF")
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise LedgerError(
            f"runs.db was written by another release of lvjobs (schema {schema}); use that release or a newer one"
        ) from error
    finally:
        engine.dispose()
