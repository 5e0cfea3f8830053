"""runs.db as a file: whether it is sound, a consistent copy of it, and putting it aside. The caller holds the lease."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import aside_of, create_new, fsync_directory, link_new
from lvjobs.ledger.database import HEAD, LedgerError

_JOURNAL = "-journal"
"""What SQLite leaves beside the file when a write was cut short: it belongs to that file and to no other."""


@dataclass(frozen=True)
class Soundness:
    """What the file says of itself. `problems` are SQLite's words, empty where it is sound; `revision` its schema."""

    revision: str | None
    epoch: int | None
    problems: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether this lvjobs can read it as it is."""
        return not self.problems and self.revision == HEAD


def examine(path: Path, *, frozen: bool = False) -> Soundness:
    """Look through the whole file. Nothing is migrated; a write that was cut short is rolled back.

    `frozen`: it lies where nothing can be written, and is read as it is.
    """
    try:
        with closing(_open(path, "mode=ro&immutable=1" if frozen else "mode=rw")) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            problems = [row for row in rows if row != "ok"]
            problems += [
                f"a row of {table} refers to a row of {parent} that is not there"
                for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(20)
            ]
            revision = _one(connection, "SELECT version_num FROM alembic_version")
            epoch = _one(connection, "SELECT value FROM settings WHERE key = 'epoch'")
            return Soundness(revision, None if epoch is None else int(epoch), tuple(problems))
    except (sqlite3.DatabaseError, ValueError) as error:
        return Soundness(None, None, (str(error),))


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)


def _one(connection: sqlite3.Connection, query: str) -> str | None:
    row = connection.execute(query).fetchone()
    return None if row is None else str(row[0])


def back_up(path: Path, target: Path, where: Sequence[str] = ()) -> None:
    """Copy the ledger to `target`, whole, checked and durable. `where`: see `StudyContext.where`.

    Raises:
        UsageError: there is something at `target` already, or it cannot be written.
        LedgerError: the ledger, or the copy, is not sound. No copy is left.
    """
    aside, check = aside_of(target), remedies.LEDGER_CHECK(*where)
    try:
        os.close(create_new(aside))
        with closing(_open(path, "mode=rw")) as source, closing(sqlite3.connect(aside)) as copy:
            source.backup(copy)
        found = examine(aside)
        if found.problems:
            raise LedgerError(f"{path} is damaged ({found.problems[0]}), and no copy was kept; see: {check}")
        _sync(aside)
        if not link_new(aside, target):
            raise UsageError(f"{target} exists, and is left as it is; name another file")
        fsync_directory(target.parent)
    except sqlite3.DatabaseError as error:
        raise LedgerError(f"{path} cannot be copied to {target} ({error}); no copy was kept: see {check}") from error
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written ({error.strerror}); no copy was kept: name another file"
        ) from error
    finally:
        for leftover in (aside, aside.with_name(aside.name + _JOURNAL)):
            with suppress(FileNotFoundError):
                leftover.unlink()


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def put_aside(path: Path, word: str) -> Iterator[Path]:
    """Rename the ledger, and what SQLite left beside it, so that nothing of it is taken for another's; where to.

    `word` makes the new names: `runs.db.<word>.aside`.
    """
    for name in (path.name + _JOURNAL, path.name):  # a journal without its file does no harm, the reverse does
        old = path.with_name(name)
        new = path.with_name(f"{path.name}.{word}.aside{name.removeprefix(path.name)}")
        if old.exists():
            if new.exists():
                raise UsageError(f"{new} exists; move it away")
            old.rename(new)
            yield new
    fsync_directory(path.parent)
