"""Opening runs.db, and the one small API that the rest of the house has for it.

Rollback journal, never WAL (WAL's shared memory does not exist on a network file system); every transaction is
`BEGIN IMMEDIATE` and first checks that the lease's epoch is still the ledger's.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from lvjobs.errors import LvjobsError
from lvjobs.ledger import tables
from lvjobs.ledger.lease import LeaseLost
from lvjobs.ledger.records import Attempt, Charge, Event, Member, Run, Submission
from lvjobs.study.words import Cause, RunState

HEAD = "0001"
"""The newest migration: checked without loading alembic, which only an old or new file needs."""

_BUSY_SECONDS = 30.0
_Record = TypeVar("_Record", Run, Attempt, Submission, Member, Event, Charge)


class LedgerError(LvjobsError):
    """runs.db cannot be used."""


class Ledger:
    """An open runs.db, under a lease whose number is `epoch`."""

    def __init__(self, engine: Engine, epoch: int) -> None:
        self._engine = engine
        self._epoch = epoch

    @contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """One atomic piece of work.

        Raises:
            LeaseLost: a later holder of the lease has opened the ledger; nothing is written.
        """
        try:
            with self._engine.begin() as connection:
                self._check_epoch(connection)
                yield Transaction(connection)
        except OperationalError as error:
            raise LedgerError(
                f"runs.db cannot be written ({error.orig}); nothing was changed: see that the disk has room and that "
                "no other program holds the file"
            ) from error

    def _check_epoch(self, connection: Connection) -> None:
        epoch = int(connection.execute(select(tables.settings.c.value).where(_is_epoch())).scalar_one())
        if epoch > self._epoch:
            raise LeaseLost(
                "another lvjobs process took over this study while this one slept; nothing was written: type the "
                "command again"
            )
        if epoch < self._epoch:
            connection.execute(update(tables.settings).where(_is_epoch()).values(value=str(self._epoch)))

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def _is_epoch() -> Any:
    return tables.settings.c.key == "epoch"


def open_ledger(path: Path, epoch: int) -> Ledger:
    """Open (make, migrate) the ledger at `path`; the caller holds the lease numbered `epoch`.

    An older schema is copied to `runs.db.<revision>.bak` and migrated.

    Raises:
        LedgerError: not a ledger, newer than this lvjobs, or not readable.
        LeaseLost: see `Ledger.transaction`.
    """
    engine = _engine(path)
    try:
        revision = _revision(engine) if path.exists() and path.stat().st_size else None
        if revision != HEAD:
            _migrate(engine, path, revision)
    except (DatabaseError, OSError) as error:
        raise LedgerError(f"{path} cannot be opened as a ledger: {getattr(error, 'orig', None) or error}") from error
    ledger = Ledger(engine, epoch)
    with ledger.transaction():
        path.chmod(0o600)
    return ledger


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", poolclass=NullPool, connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None}
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
        shutil.copy2(path, path.with_name(f"{path.name}.{revision}.bak"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(
            f"{path} was written by another release of lvjobs (schema {revision}); use that release or a newer one"
        ) from error


class Transaction:
    """What can be asked and changed inside one transaction. Records go in and come out as frozen dataclasses."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- settings -----------------------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        """A study-wide value, or None."""
        query = select(tables.settings.c.value).where(tables.settings.c.key == key)
        return self._connection.execute(query).scalar()

    def set_setting(self, key: str, value: str) -> None:
        """Keep a study-wide value."""
        self._connection.execute(insert(tables.settings).prefix_with("OR REPLACE").values(key=key, value=value))

    def store_stages(self, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the stages as study.toml declares them now, in order."""
        self._connection.execute(delete(tables.stages))
        for ordinal, (name, definition) in enumerate(definitions.items()):
            row = {"name": name, "ordinal": ordinal, "definition": definition}
            self._connection.execute(insert(tables.stages).values(**row))

    # -- runs ---------------------------------------------------------------------------------------------------

    def runs(self, *, only_open: bool = False) -> list[Run]:
        """All runs in the order they were made; `only_open` leaves out those to which nothing more will happen."""
        query = select(tables.runs).order_by(tables.runs.c.ordinal)
        if only_open:
            query = query.where(tables.runs.c.state.not_in([state.value for state in RunState if state.is_final]))
        return [_run(row) for row in self._connection.execute(query)]

    def find_run(self, *, name: str | None = None, id: str | None = None, fingerprint: str | None = None) -> Run | None:  # noqa: A002
        """The run with this name, id or configuration; the first made where several have the configuration."""
        wanted = {"name": name, "id": id, "fingerprint": fingerprint}
        query = select(tables.runs).order_by(tables.runs.c.ordinal)
        for column, value in wanted.items():
            if value is not None:
                query = query.where(tables.runs.c[column] == value)
        row = self._connection.execute(query.limit(1)).first()
        return _run(row) if row else None

    def add_run(self, run: Run) -> None:
        """Insert a run; its ordinal is assigned here."""
        values = _values(run)
        values.pop("ordinal")
        self._connection.execute(insert(tables.runs).values(**values))

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Change columns of a run."""
        self._connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(**_plain(changes)))

    def delete_run(self, run_id: str) -> None:
        """Forget a run that never was: refused before it had an attempt."""
        tokens = select(tables.members.c.token).where(tables.members.c.run_id == run_id)
        orphans = list(self._connection.execute(tokens).scalars())
        self._connection.execute(delete(tables.members).where(tables.members.c.run_id == run_id))
        for token in orphans:
            left = select(func.count()).select_from(tables.members).where(tables.members.c.token == token)
            if self._connection.execute(left).scalar_one() == 0:
                self._connection.execute(delete(tables.submissions).where(tables.submissions.c.token == token))
        self._connection.execute(delete(tables.events).where(tables.events.c.run_id == run_id))
        self._connection.execute(delete(tables.runs).where(tables.runs.c.id == run_id))

    # -- attempts -----------------------------------------------------------------------------------------------

    def attempts(self, run_ids: Sequence[str] | None = None) -> list[Attempt]:
        """Attempts, oldest first; of these runs, or of all."""
        query = select(tables.attempts).order_by(tables.attempts.c.id)
        if run_ids is not None:
            query = query.where(tables.attempts.c.run_id.in_(run_ids))
        return [_attempt(row) for row in self._connection.execute(query)]

    def add_attempt(self, attempt: Attempt) -> int:
        """Insert an attempt; returns its row id."""
        values = _values(attempt)
        values.pop("id")
        key = self._connection.execute(insert(tables.attempts).values(**values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def save_attempt(self, attempt: Attempt) -> None:
        """Write an attempt's row anew."""
        values = _values(attempt)
        self._connection.execute(update(tables.attempts).where(tables.attempts.c.id == attempt.id).values(**values))

    # -- submissions --------------------------------------------------------------------------------------------

    def submissions(self, *, unsettled: bool = True) -> list[Submission]:
        """Submissions with a member that is not settled, or all."""
        query = select(tables.submissions).order_by(tables.submissions.c.created)
        if unsettled:
            pending = select(tables.members.c.token).where(tables.members.c.state != "settled")
            query = query.where(tables.submissions.c.token.in_(pending))
        return [Submission(**row._mapping) for row in self._connection.execute(query)]  # noqa: SLF001

    def members(self, *, unsettled: bool = True) -> list[Member]:
        """Members that are not settled, or all."""
        query = select(tables.members).order_by(tables.members.c.token, tables.members.c.member)
        if unsettled:
            query = query.where(tables.members.c.state != "settled")
        return [Member(**row._mapping) for row in self._connection.execute(query)]  # noqa: SLF001

    def add_submission(self, submission: Submission, run_ids: Sequence[str]) -> None:
        """Insert a submission with a live member for each of `run_ids`, in order."""
        self._connection.execute(insert(tables.submissions).values(**_values(submission)))
        for index, run_id in enumerate(run_ids):
            member = Member(submission.token, index, run_id)
            self._connection.execute(insert(tables.members).values(**_values(member)))

    def delete_submission(self, token: str) -> None:
        """Forget a submission that made no job, with its members."""
        self._connection.execute(delete(tables.members).where(tables.members.c.token == token))
        self._connection.execute(delete(tables.submissions).where(tables.submissions.c.token == token))

    def update_submission(self, token: str, **changes: Any) -> None:
        """Change columns of a submission."""
        query = update(tables.submissions).where(tables.submissions.c.token == token)
        self._connection.execute(query.values(**changes))

    def update_member(self, token: str, run_id: str, **changes: Any) -> None:
        """Change columns of a member."""
        which = (tables.members.c.token == token) & (tables.members.c.run_id == run_id)
        self._connection.execute(update(tables.members).where(which).values(**changes))

    # -- events and charges -------------------------------------------------------------------------------------

    def add_event(self, item: Event) -> None:
        """Append an event."""
        self._connection.execute(insert(tables.events).values(**_values(item)))

    def events(self, run_id: str | None = None, limit: int = 100) -> list[Event]:
        """The latest events, oldest first; of one run, or of all."""
        columns = [column for column in tables.events.c if column.name != "id"]
        query = select(*columns).order_by(tables.events.c.id.desc()).limit(limit)
        if run_id is not None:
            query = query.where(tables.events.c.run_id == run_id)
        return [Event(**row._mapping) for row in self._connection.execute(query)][::-1]  # noqa: SLF001

    def replace_charges(self, run_id: str, charges: Sequence[Charge]) -> None:
        """State anew what a run's attempts spent: charges follow from the attempts, so they are never added to."""
        self._connection.execute(delete(tables.charges).where(tables.charges.c.run_id == run_id))
        for charge in charges:
            self._connection.execute(insert(tables.charges).values(**_values(charge)))

    def charges(self) -> list[Charge]:
        """All charges. Sum them in Python: SQL would sum in floats."""
        return [Charge(**row._mapping) for row in self._connection.execute(select(tables.charges))]  # noqa: SLF001


def _values(record: _Record) -> dict[str, Any]:
    return _plain({item.name: getattr(record, item.name) for item in fields(record)})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, (RunState, Cause)) else value for key, value in values.items()}


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)  # noqa: SLF001
    values["state"] = RunState(values["state"])
    values["cause"] = Cause(values["cause"]) if values["cause"] else None
    return Run(**values)


def _attempt(row: Row[Any]) -> Attempt:
    values = dict(row._mapping)  # noqa: SLF001
    values["cause"] = Cause(values["cause"]) if values["cause"] else None
    return Attempt(**values)
