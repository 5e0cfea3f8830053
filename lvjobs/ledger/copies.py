"""runs.db as a file: whether it is lost, or sound; a consistent copy of it, and renaming it.

The caller holds the lease, except where it only asks whether the file is lost.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.files import aside_of, create_new, fsync_directory, link_new
from lvjobs.ledger.schema import HEAD, LedgerError
from lvjobs.study.config import StudyContext

_JOURNAL = "-journal"
"""The file that SQLite leaves beside runs.db when a write was interrupted. It belongs to that file only."""


def refuse_lost(study: StudyContext) -> None:
    """Refuse to begin a ledger beside runs that it would not know: they would be submitted twice.

    Raises:
        UsageError: runs.db is missing (or empty), and there are run directories, a log, or files of submissions.
    """
    layout = study.layout
    if layout.database.exists() and layout.database.stat().st_size:
        return
    runs = sum(1 for _ in layout.checkpoints.glob("*/run.json"))
    kept = [path for path in (layout.ledger_log, *layout.submissions.glob("*.jsonl")) if path.exists()]
    if runs or kept:
        what = "1 run" if runs == 1 else f"{runs} runs"
        there = f"{layout.checkpoints} holds {what}" if runs else f"{kept[0]} holds a copy of its runs"
        raise UsageError(
            f"{layout.database} is gone, and {there}, whose jobs may be in the queue; restore a backup, or rebuild it "
            f"from them: "
            f"{remedies.LEDGER_REBUILD(*study.where)}"
        )


@dataclass(frozen=True)
class Soundness:
    """The state of the file. `problems` are SQLite's words, empty where it is sound; `revision` is its schema."""

    revision: str | None
    problems: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Return whether this lvjobs can read the file as it is."""
        return not self.problems and self.revision == HEAD


def examine(path: Path, *, frozen: bool = False) -> Soundness:
    """Check the whole file. It is not migrated; an interrupted write is rolled back.

    `frozen`: the file is in a place where nothing can be written, and is read as it is.
    """
    try:
        with closing(_open(path, "mode=ro&immutable=1" if frozen else "mode=rw")) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(20)")]
            problems = [row for row in rows if row != "ok"]
            problems += [
                f"a row of {table} refers to a row of {parent} that is not there"
                for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(20)
            ]
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return Soundness(None if row is None else str(row[0]), tuple(problems))
    except (sqlite3.DatabaseError, ValueError) as error:
        return Soundness(None, (str(error),))


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)


def back_up(path: Path, target: Path, where: Sequence[str] = ()) -> None:
    """Copy the ledger to `target`, complete, checked and durable. `where`: see `StudyContext.where`.

    Raises:
        UsageError: `target` exists already, or it cannot be written.
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
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        if not link_new(aside, target):
            raise UsageError(f"{target} exists, and was not changed; name another file")
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


def put_aside(path: Path, word: str) -> list[Path]:
    """Rename the ledger and the file that SQLite left beside it, and return the new paths.

    `word` makes the new names: `runs.db.<word>.aside`. No leftover can then be mistaken for part of another ledger.
    At each point at which this may be interrupted, the ledger has the journal of its interrupted write beside it:
    without it, the ledger would look sound and have half of the write. A journal without its ledger is harmless.

    Raises:
        UsageError: a file with a new name exists. Nothing is renamed.
    """
    aside = path.with_name(f"{path.name}.{word}.aside")
    journal, journal_aside = (each.with_name(each.name + _JOURNAL) for each in (path, aside))
    moved = [new for old, new in ((journal, journal_aside), (path, aside)) if old.exists()]
    for new in moved:
        if new.exists():
            raise UsageError(f"{new} exists; move it away")
    if journal.exists():
        os.link(journal, journal_aside)
        fsync_directory(path.parent)
    if path.exists():
        path.rename(aside)
        fsync_directory(path.parent)
    journal.unlink(missing_ok=True)
    fsync_directory(path.parent)
    return moved
