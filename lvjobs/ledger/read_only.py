"""runs.db for a caller that only reads, where neither the file nor the lease can be written: a copy of it is opened."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lvjobs.ledger.database import Ledger, open_ledger
from lvjobs.ledger.schema import LedgerError, epoch_of


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
            original = f"{path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(original, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{path} cannot be read ({error})") from error
        with closing(open_ledger(copy, epoch_of(copy), where=where)) as ledger:
            yield ledger
