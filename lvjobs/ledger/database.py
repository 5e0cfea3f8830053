"""The opening of runs.db, under the lease.

Rollback journal, never WAL: WAL's shared memory does not exist on a network file system. Every transaction is `BEGIN
IMMEDIATE` and first checks that the lease's epoch is still the ledger's.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, select, text, update
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import QueuePool

from lvjobs import remedies
from lvjobs.errors import LvjobsError
from lvjobs.files import write_atomic
from lvjobs.ledger import tables
from lvjobs.ledger.backup_record import BackupRecord, backup_records
from lvjobs.ledger.lease import LeaseLost, claim_path, newest_claim
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.layout import StudyLayout

HEAD = "0009"
"""The newest migration. It is compared without loading alembic, which only an old or new file needs."""

_BUSY_SECONDS = 30.0

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class LedgerError(LvjobsError):
    """A runs.db that cannot be used."""


Keep = Callable[[Sequence[BackupRecord]], None]
"""A function that writes backup records beside their runs."""


class Ledger:
    """An open runs.db, under a lease whose number is `epoch`.

    `keep` is called after each commit that changed runs. `where`: see `lvjobs.study.config.StudyContext.where`.
    """

    def __init__(self, engine: Engine, epoch: int, keep: Keep | None = None, where: Sequence[str] = ()) -> None:
        self._engine = engine
        self._epoch = epoch
        self._keep = keep
        self._where = where
        self._known: dict[str, Any] = {}

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open one atomic transaction.

        Raises:
            LeaseLost: a later holder of the lease has opened the ledger; nothing is written.
            LedgerError: runs.db cannot be written; nothing is changed.
        """
        try:
            with self._engine.begin() as connection:
                self._check_epoch(connection)
                transaction = Transaction(connection, self._known)
                yield transaction
                records = backup_records(transaction, transaction.touched) if self._keep else []
        except BaseException as error:
            self._known.clear()  # it may hold what was read after a change that is now rolled back
            if not isinstance(error, OperationalError):
                raise
            raise LedgerError(
                f"runs.db cannot be written ({error.orig}); nothing was changed: see that the disk has room and that "
                "no other program holds the file"
            ) from error
        if self._keep and records:
            self._keep(records)

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
        epoch = int(connection.execute(select(tables.settings.c.value).where(_is_epoch())).scalar_one())
        if epoch > self._epoch:
            self._check_claims(epoch)
            raise LeaseLost(
                "another lvjobs process took over this study while this one slept; nothing was written: type the "
                f"command again, and if that does not help: {remedies.LEDGER_CHECK(*self._where)}"
            )
        if epoch < self._epoch:
            connection.execute(update(tables.settings).where(_is_epoch()).values(value=str(self._epoch)))

    def _check_claims(self, epoch: int) -> None:
        """Refuse to write where no process can have claimed the ledger's epoch.

        Typing the command again would not help then.

        Raises:
            LeaseLost: the newest claim of the lease is older than the epoch.
        """
        directory = StudyLayout(Path(str(self._engine.url.database)).parent).lease
        newest = newest_claim(directory)
        if newest < epoch:
            claim = claim_path(directory, epoch)
            raise LeaseLost(
                f".lvjobs/lease is gone, or runs.db is from a later time (it was written under lease {epoch}, and the "
                f"newest in .lvjobs/lease is {newest}); nothing was written: if no other lvjobs runs on this study, "
                f"type: {remedies.TOUCH(path=claim)}"
            )

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def _is_epoch() -> Any:
    return tables.settings.c.key == "epoch"


def open_ledger(path: Path, epoch: int, keep: Keep | None = None, where: Sequence[str] = ()) -> Ledger:
    """Open the ledger at `path`, and create or migrate it where needed. The caller holds the lease numbered `epoch`.

    A ledger with an older schema is copied to `runs.db.<revision>.bak` before it is migrated. `keep`, `where`: see
    `Ledger`.

    Raises:
        LedgerError: the file is no ledger, is newer than this lvjobs, or cannot be read.
        LeaseLost: see `Ledger.transaction`.
    """
    engine = _engine(path.absolute())
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite itself would let others read it for a moment
        path.chmod(0o600)
        revision = _revision(engine) if path.stat().st_size else None
        if revision != HEAD:
            _migrate(engine, path, revision)
            engine.dispose()  # a migration leaves its connection with foreign keys off
    except (DatabaseError, OSError) as error:
        engine.dispose()
        reason = getattr(error, "orig", None) or error
        check = remedies.LEDGER_CHECK(*where)
        raise LedgerError(f"{path} cannot be opened as a ledger ({reason}); see: {check}") from error
    ledger = Ledger(engine, epoch, keep, where)
    try:
        with ledger.transaction():
            return ledger
    except BaseException:
        ledger.close()
        raise


@lru_cache(maxsize=4)
def _engine(path: Path) -> Engine:
    """Return the engine of a file, always the same one because it keeps the statements that it has compiled.

    It has one connection, from the first transaction until `Ledger.close`.
    """
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
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        known = connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")).scalar()
        if known is None:
            return None
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision


def _migrate(engine: Engine, path: Path, revision: str | None) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    if revision is not None:
        write_atomic(path.with_name(f"{path.name}.{revision}.bak"), path.read_bytes())
    config = Config()
    scripts = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", scripts.replace("%", "%%"))  # alembic expands what follows a single %
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(
            f"{path} was written by another release of lvjobs (schema {revision}); use that release or a newer one"
        ) from error
