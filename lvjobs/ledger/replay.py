"""The replay of the ledger's log (`lvjobs.ledger.log`) into a new file."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lvjobs.ledger.database import COMMITS
from lvjobs.ledger.log import DamagedLogError, read_log
from lvjobs.ledger.schema import upgrade

_AHEAD = 1_000_000
"""The commits that a replayed ledger skips, so that no line which was not replayed has the number of a new commit."""


@dataclass(frozen=True)
class Replayed:
    """The result of a replay. `commit` is the last commit that was replayed; `problem` is why no later one was."""

    commit: int
    problem: str = ""


def replay(log: Path, target: Path) -> Replayed | None:
    """Make a ledger at `target` from a log: the rows of the last commit before the first damaged line.

    The lease's epoch is not restored, because the lease may have been lost too. The next process that opens `target`
    makes it durable. Return None if there is no log, or its first line is damaged; then nothing is made.

    Raises:
        LedgerError: the log was written by a newer release.
    """
    lines, problem = read_log(log), ""
    try:
        commit, revision = next(lines)
    except (FileNotFoundError, DamagedLogError, StopIteration):
        return None
    upgrade(target, revision, revision)
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA foreign_keys=ON")
        try:
            for number, changes in lines:
                with connection:
                    connection.execute("BEGIN")
                    for statement, rows in changes:
                        connection.executemany(statement, rows)
                commit = number
        except (DamagedLogError, sqlite3.Error) as error:
            problem = str(error)
        connection.execute("UPDATE settings SET value = '0' WHERE key = 'epoch'")
        connection.execute("UPDATE settings SET value = value + ? WHERE key = ?", (_AHEAD, COMMITS))
    upgrade(target, revision)
    return Replayed(commit, problem)
