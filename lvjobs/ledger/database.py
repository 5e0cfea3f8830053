"""The opening of runs.db, under the lease.

Rollback journal, never WAL: WAL's shared memory does not exist on a network file system. Every transaction is `BEGIN
IMMEDIATE` and first checks that the lease's epoch is still the ledger's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, event, select, update
from sqlalchemy.exc import DatabaseError, OperationalError

from lvjobs import remedies
from lvjobs.files import fsync_directory
from lvjobs.ledger import tables
from lvjobs.ledger.lease import LeaseLost
from lvjobs.ledger.log import Change, LedgerLog
from lvjobs.ledger.schema import HEAD, LedgerError, LedgerUnwritable, migrate, new_engine, revision_of
from lvjobs.ledger.transaction import Transaction

COMMITS = "commits"
"""The setting that counts the commits which changed more than the epoch."""

_ROWS_A_LINE = 1000

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Ledger:
    """An open runs.db, under a lease whose number is `epoch`. The first change records the epoch.

    `log` gets each commit. `where`: see `lvjobs.study.config.StudyContext.where`.
    """

    def __init__(self, engine: Engine, epoch: int, log: LedgerLog | None = None, where: Sequence[str] = ()) -> None:
        self._engine = engine
        self._epoch = epoch
        self._log = log
        self._where = where
        self._known: dict[str, Any] = {}
        self._version: Any = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open one atomic transaction.

        Raises:
            LeaseLost: another process changed the ledger since this one opened it; nothing is written.
            LedgerError: runs.db cannot be written; nothing is changed. Or the log cannot be written; runs.db has the
                changes.
        """
        try:
            with self._engine.begin() as connection:
                self._check_epoch(connection)
                before, changes = _changes_in(connection), _record_changes(connection)
                transaction = Transaction(connection, self._known)
                yield transaction
                if _changes_in(connection) != before:
                    epoch = update(tables.settings).where(_is_epoch()).values(value=str(self._epoch))
                    connection.execute(epoch, execution_options={"logged": False})
                commit = int(transaction.setting(COMMITS) or 0)
                if changes:
                    commit += 1
                    transaction.set_setting(COMMITS, str(commit))
        except BaseException as error:  # an interrupt is rolled back, too
            self._known.clear()  # it may hold what was read after a change that is now rolled back
            if not isinstance(error, OperationalError):
                raise
            raise LedgerUnwritable(
                f"runs.db cannot be written ({error.orig}); nothing was changed: check the disk space and that "
                "no other program holds the file"
            ) from error
        if changes:
            # SQLite commits by deleting its journal, and syncs that deletion only with the next commit. Until then a
            # power failure could bring the journal back, and undo a commit after which a job was submitted.
            fsync_directory(Path(str(self._engine.url.database)).parent)
        if self._log is not None:
            self._write_log(self._log, commit, changes)

    def _write_log(self, log: LedgerLog, commit: int, changes: Sequence[Change]) -> None:
        with self._log_errors():
            if changes and log.last == commit - 1:
                log.append(commit, changes)
            elif log.last != commit:
                with self._engine.begin() as connection:
                    self._check_epoch(connection)
                    log.write_anew(commit, _all_rows(connection))

    @contextmanager
    def _log_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerUnwritable(
                f".lvjobs/ledger.log cannot be written ({error.strerror}); runs.db is complete, and nothing else was "
                f"done: free disk space, then run the command again"
            ) from error

    def call(
        self,
        function: Callable[Concatenate[Transaction, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Return what a method of `Transaction`, or a function of one, returns in a transaction of its own."""
        with self.transaction() as transaction:
            return function(transaction, *args, **kwargs)

    def _check_epoch(self, connection: Connection) -> None:
        """Refuse to write after a later holder of the lease, or after an earlier one that woke up.

        The epoch is recorded with the first change. Until then, a change by another process shows in `data_version`.
        """
        epoch = int(connection.execute(select(tables.settings.c.value).where(_is_epoch())).scalar_one())
        version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        if epoch > self._epoch or (epoch < self._epoch and self._version not in (None, version)):
            who = (
                "another lvjobs process took over this study while this one was suspended"
                if epoch > self._epoch
                else "a suspended lvjobs process wrote to this study meanwhile"
            )
            raise LeaseLost(
                f"{who}; nothing was written: run the command again; if that does not help: "
                f"{remedies.LEDGER_CHECK(*self._where)}"
            )
        self._version = version

    def close(self) -> None:
        """Close the file, and make its log durable."""
        self._engine.dispose()
        if self._log is not None:
            with self._log_errors():
                self._log.close()


def _is_epoch() -> Any:
    return tables.settings.c.key == "epoch"


def _changes_in(connection: Connection) -> int:
    """Return how many rows this connection has changed since it was opened."""
    changes: int = connection.connection.dbapi_connection.total_changes  # type: ignore[union-attr]
    return changes


def _record_changes(connection: Connection) -> list[Change]:
    """Return a list that gets each later change of this transaction.

    Changes with the execution option `logged=False` are omitted.
    """
    changes: list[Change] = []

    @event.listens_for(connection, "after_cursor_execute")
    def _record(
        _connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")) and context.execution_options.get("logged", True):
            changes.append((statement, parameters if executemany else [parameters]))

    return changes


def _all_rows(connection: Connection) -> Iterator[Change]:
    """Yield the changes that give an empty ledger the rows of this one.

    The results of closed runs come after the rows whose triggers delete them, and then the counter of their numbers.
    """
    others = [table.name for table in tables.metadata.sorted_tables if table is not tables.closed]
    for name in (*others, tables.closed.name, "sqlite_sequence"):
        yield f"DELETE FROM {name}", [()]  # noqa: S608 - names from above
        rows = connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY rowid")  # noqa: S608
        columns = list(rows.keys())
        insert = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        for part in rows.partitions(_ROWS_A_LINE):
            yield insert, [tuple(row) for row in part]


def open_ledger(path: Path, epoch: int, log: Path | None = None, where: Sequence[str] = ()) -> Ledger:
    """Open the ledger at `path`, and create or migrate it where needed. The caller holds the lease numbered `epoch`.

    A ledger with an older schema is copied to `runs.db.<revision>.bak` before it is migrated. `log`: the file that gets
    a copy of each commit. `where`: see `Ledger`.

    Raises:
        LedgerError: the file is no ledger, is newer than this lvjobs, or cannot be read.
        LeaseLost: the ledger would be migrated, and a later holder of the lease has opened it.
    """
    engine = _engine(path.absolute())
    try:
        revision = None
        if path.exists() and path.stat().st_size:
            path.chmod(0o600)
            revision = revision_of(engine)
        if revision != HEAD:
            if revision is not None and revision < HEAD:  # a former holder may sleep, with this file open
                Ledger(engine, epoch, None, where).call(Transaction.set_setting, "epoch", str(epoch))
            engine.dispose()
            migrate(path.resolve(), revision)
        most = 4 * path.stat().st_size + (1 << 20)
        return Ledger(engine, epoch, None if log is None else LedgerLog(log, HEAD, most), where)
    except (DatabaseError, OSError) as error:
        engine.dispose()
        reason = getattr(error, "orig", None) or error
        check = remedies.LEDGER_CHECK(*where)
        raise LedgerError(f"{path} cannot be opened as a ledger ({reason}); see: {check}") from error


@lru_cache(maxsize=4)
def _engine(path: Path) -> Engine:
    """Return the engine of a file, always the same one because it keeps the statements that it has compiled."""
    return new_engine(path)
