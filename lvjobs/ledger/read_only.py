"""runs.db for callers that only read: a copy, where neither file nor lease can be written; and the runs of a job."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from lvjobs.ledger.database import Ledger, open_ledger
from lvjobs.ledger.schema import LedgerError, epoch_of

_RUNS_OF_JOB = """\
SELECT DISTINCT name FROM runs JOIN attempts ON attempts.run_id = runs.id
WHERE job_id = :job AND token = (SELECT token FROM attempts WHERE job_id = :job ORDER BY id DESC LIMIT 1)
"""


@contextmanager
def open_copy(path: Path, where: Sequence[str] = ()) -> Iterator[Ledger]:
    """Yield a copy of the ledger at `path`, in a temporary directory. Changes of it are lost.

    `where`: see `lvjobs.study.config.StudyContext.where`.

    Raises:
        LedgerError: The ledger cannot be read so: it is damaged, an interrupted write has to be rolled back first, or
            there is no room for a copy.
    """
    try:
        directory = TemporaryDirectory(prefix="lvjobs-")
    except OSError as error:
        raise LedgerError(f"{path} cannot be copied to be read ({error.strerror})") from error
    with directory as name:
        copy = Path(name) / path.name
        try:
            with closing(_connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{path} cannot be read ({error})") from error
        with closing(open_ledger(copy, epoch_of(copy), where=where)) as ledger:
            yield ledger


def runs_of_job(path: Path, job_id: str) -> list[str]:
    """Return the names of the runs that had attempts in a job; of an id that Slurm used twice, the later job.

    Return an empty list if there are none, or the ledger at `path` cannot be read.
    """
    with suppress(sqlite3.DatabaseError), closing(_connect(path)) as connection:
        return [name for (name,) in connection.execute(_RUNS_OF_JOB, {"job": job_id})]
    return []


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
