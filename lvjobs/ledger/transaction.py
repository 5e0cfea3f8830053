"""The queries and changes of the ledger, inside one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, delete, func, insert, select, update

from lvjobs.ledger import tables
from lvjobs.ledger.closed import Closing, rows_among, rows_of
from lvjobs.ledger.kept import Keeping
from lvjobs.ledger.reading import record_of
from lvjobs.ledger.records import (
    AttemptRecord,
    Charge,
    Event,
    Member,
    Reservation,
    RunRecord,
    SubmissionRecord,
    WorkCounts,
)
from lvjobs.ledger.staging import Staging, plain, values_of
from lvjobs.study.words import Cause, LeaveCause, MemberState

_CONCLUDED = ("cause", "evidence", "allocated_seconds", "gpus")
"""The columns that backup records keep of an attempt that has a journal."""


class Transaction(Closing, Keeping, Staging):
    """The queries and changes inside one transaction. Records go in and come out as frozen dataclasses."""

    def __init__(self, connection: Connection, known: dict[str, Any]) -> None:
        """Use `known`, which holds what transactions of the same ledger have read already.

        No other process writes while the ledger is open.
        """
        self._connection = connection
        self._known = known
        self.touched: set[str] = set()
        """Ids of the runs whose backup records changed (see `lvjobs.ledger.memo`)."""

    # -- settings -----------------------------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        """Return a study-wide value, or None."""
        query = select(tables.settings.c.value).where(tables.settings.c.key == key)
        return self._connection.execute(query).scalar()

    def set_setting(self, key: str, value: str) -> None:
        """Store a study-wide value."""
        self._connection.execute(insert(tables.settings).prefix_with("OR REPLACE").values(key=key, value=value))

    # -- runs ---------------------------------------------------------------------------------------------------

    def runs(self, *, only_open: bool = False) -> list[RunRecord]:
        """Return all runs in the order of declaration; `only_open` omits completed and cancelled runs."""
        if only_open:
            return [run for run in self.unclosed() if not run.state.is_final]
        if "runs" not in self._known:
            query = select(tables.runs).order_by(tables.runs.c.ordinal)
            self._known["runs"] = [record_of(RunRecord, row) for row in rows_of(self._connection.execute(query))]
        return list(self._known["runs"])

    def find_run(self, *, name: str | None = None, id: str | None = None) -> RunRecord | None:  # noqa: A002
        """Return the run with this name or id, or None."""
        wanted = {"name": name, "id": id}
        query = select(tables.runs)
        for column, value in wanted.items():
            if value is not None:
                query = query.where(tables.runs.c[column] == value)
        row = self._connection.execute(query.limit(1)).first()
        return record_of(RunRecord, dict(row._mapping)) if row else None  # noqa: SLF001

    def add_run(self, run: RunRecord) -> None:
        """Insert a run; its ordinal is assigned here."""
        self.add_runs([run])

    def add_runs(self, runs: Sequence[RunRecord]) -> None:
        """Insert runs; their ordinals are assigned here, in this order."""
        self._touch(*(run.id for run in runs))
        rows = [values_of(run) for run in runs]
        self._insert(tables.runs, [{key: row[key] for key in row if key != "ordinal"} for row in rows])

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Change columns of a run."""
        self.update_runs({run_id: changes})

    def update_runs(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change columns of runs, by their ids. Each run must change the same columns."""
        if changes:
            self._touch(*changes)
            query = update(tables.runs).where(tables.runs.c.id == bindparam("of_run"))
            rows = [{**plain(values), "of_run": run_id} for run_id, values in changes.items()]
            self._connection.execute(query, rows)

    def delete_run(self, run_id: str) -> None:
        """Delete a run that was refused before it had an attempt, with its places, events and cells."""
        self._touch()
        tokens = select(tables.members.c.token).where(tables.members.c.run_id == run_id)
        orphans = list(self._connection.execute(tokens).scalars())
        self._connection.execute(delete(tables.members).where(tables.members.c.run_id == run_id))
        for token in orphans:
            left = select(func.count()).select_from(tables.members).where(tables.members.c.token == token)
            if self._connection.execute(left).scalar_one() == 0:
                self._connection.execute(delete(tables.submissions).where(tables.submissions.c.token == token))
        self._connection.execute(delete(tables.events).where(tables.events.c.run_id == run_id))
        self._connection.execute(delete(tables.cells).where(tables.cells.c.run_id == run_id))
        self.give_back(run_id)
        self._connection.execute(delete(tables.runs).where(tables.runs.c.id == run_id))

    # -- attempts -----------------------------------------------------------------------------------------------

    def attempts(self, run_ids: Sequence[str] | None = None) -> list[AttemptRecord]:
        """Return the attempts of these runs, or all, oldest first."""
        rows = self._of_runs(select(tables.attempts), tables.attempts, run_ids)
        return [record_of(AttemptRecord, row) for row in sorted(rows, key=itemgetter("id"))]

    def attempts_of_packs(self) -> list[AttemptRecord]:
        """Return the attempts in jobs that several runs share, while these jobs are not settled."""
        members, submissions = tables.members.c, tables.submissions.c
        unsettled = select(members.token).where(members.state != MemberState.SETTLED.value)
        packs = select(submissions.token).where(submissions.packed, submissions.token.in_(unsettled))
        query = select(tables.attempts).where(tables.attempts.c.token.in_(packs))
        return [record_of(AttemptRecord, row) for row in rows_of(self._connection.execute(query))]

    def runs_without_last_word(self, causes: Sequence[Cause], since: float) -> set[str]:
        """Return the ids of runs with a claimed attempt whose journal has no closing line.

        Only attempts that ended for one of `causes`, and after `since` (seconds since the epoch), count.
        """
        columns = tables.attempts.c
        query = select(columns.run_id).where(
            columns.cause.in_([cause.value for cause in causes]),
            columns.ended > since,
            columns.generation.is_not(None),
            columns.leave_cause == LeaveCause.NONE.value,
            columns.error == "",
            columns.finished.is_(False),
        )
        return set(self._connection.execute(query).scalars())

    def add_attempt(self, attempt: AttemptRecord) -> int:
        """Insert an attempt and return its row id, which is assigned here where it has none (0)."""
        self._note(attempt.run_id)
        values = values_of(attempt)
        if not attempt.id:
            values.pop("id")
        key = self._connection.execute(insert(tables.attempts).values(**values)).inserted_primary_key
        assert key is not None
        return int(key[0])

    def save_attempts(self, attempts: Sequence[AttemptRecord]) -> None:
        """Replace the rows of these attempts."""
        if not attempts:
            return
        self._reopened(attempt.run_id for attempt in attempts)
        columns = tables.attempts.c
        query = select(columns.id, columns.run_id, *(columns[name] for name in _CONCLUDED))
        rows = self._of_runs(query, tables.attempts, [attempt.run_id for attempt in attempts])
        before = {row["id"]: [row[name] for name in _CONCLUDED] for row in rows}
        values = [{**values_of(attempt), "of_attempt": attempt.id} for attempt in attempts]
        for row in values:
            if before.get(row["id"]) != [row[name] for name in _CONCLUDED]:
                self.touched.add(row["run_id"])  # another step, as in most passes, is only in the journal
        self._connection.execute(update(tables.attempts).where(columns.id == bindparam("of_attempt")), values)

    # -- submissions --------------------------------------------------------------------------------------------

    def submissions(self, *, unsettled: bool = True) -> list[SubmissionRecord]:
        """Return the submissions with a member that is not settled, or all, oldest first."""
        query = select(tables.submissions).order_by(tables.submissions.c.created)
        if unsettled:
            pending = select(tables.members.c.token).where(tables.members.c.state != MemberState.SETTLED.value)
            query = query.where(tables.submissions.c.token.in_(pending))
        return [SubmissionRecord(**row._mapping) for row in self._connection.execute(query)]  # noqa: SLF001

    def members(self, *, unsettled: bool = True) -> list[Member]:
        """Return the members that are not settled, or all."""
        query = select(tables.members).order_by(tables.members.c.token, tables.members.c.member)
        if unsettled:
            query = query.where(tables.members.c.state != MemberState.SETTLED.value)
        return [record_of(Member, row) for row in rows_of(self._connection.execute(query))]

    def add_submission(self, submission: SubmissionRecord, run_ids: Sequence[str]) -> None:
        """Insert a submission with a live member for each of `run_ids`, in order."""
        self._connection.execute(insert(tables.submissions).values(**values_of(submission)))
        self._note(*run_ids)
        members = [Member(submission.token, index, run_id) for index, run_id in enumerate(run_ids)]
        self._insert(tables.members, [values_of(member) for member in members])

    def add_member(self, member: Member) -> None:
        """Insert a run's place in a submission."""
        self._note(member.run_id)
        self._connection.execute(insert(tables.members).values(**values_of(member)))

    def delete_submission(self, token: str) -> None:
        """Delete a submission that created no job, with its members."""
        self._touch_members(token)
        self._connection.execute(delete(tables.members).where(tables.members.c.token == token))
        self._connection.execute(delete(tables.submissions).where(tables.submissions.c.token == token))

    def update_submission(self, token: str, **changes: Any) -> None:
        """Change columns of a submission."""
        self._touch_members(token)
        query = update(tables.submissions).where(tables.submissions.c.token == token)
        self._connection.execute(query.values(**changes))

    def update_member(self, token: str, run_id: str, **changes: Any) -> None:
        """Change columns of a member."""
        self._note(run_id)
        which = (tables.members.c.token == token) & (tables.members.c.run_id == run_id)
        self._connection.execute(update(tables.members).where(which).values(**plain(changes)))

    # -- events and charges -------------------------------------------------------------------------------------

    def add_event(self, item: Event) -> None:
        """Append an event."""
        self.add_events([item])

    def add_events(self, items: Sequence[Event]) -> None:
        """Append events, in this order."""
        self._insert(tables.events, [values_of(item) for item in items])

    def events(self, run_id: str | None = None, limit: int = 100) -> list[Event]:
        """Return the latest events, oldest first; of one run, or of all."""
        columns = [column for column in tables.events.c if column.name != "id"]
        query = select(*columns).order_by(tables.events.c.id.desc()).limit(limit)
        if run_id is not None:
            query = query.where(tables.events.c.run_id == run_id)
        return [Event(**row._mapping) for row in self._connection.execute(query)][::-1]  # noqa: SLF001

    def replace_charges(self, run_id: str, charges: Sequence[Charge]) -> None:
        """Replace the charges of a run."""
        self.replace_charges_of({run_id: charges})

    def replace_charges_of(self, charges: Mapping[str, Sequence[Charge]]) -> None:
        """Replace the charges of runs, by their ids. Charges follow from the attempts, so none are ever added."""
        if charges:
            self._reopened(charges)
            query = delete(tables.charges).where(tables.charges.c.run_id == bindparam("of_run"))
            self._connection.execute(query, [{"of_run": run_id} for run_id in charges])
            self._insert(tables.charges, [values_of(charge) for each in charges.values() for charge in each])

    def charges(self, run_ids: Sequence[str] | None = None) -> list[Charge]:
        """Return the charges of these runs, or all. Sum them in Python: SQL would sum in floats."""
        return [Charge(**row) for row in self._of_runs(select(tables.charges), tables.charges, run_ids)]

    # -- reservations -------------------------------------------------------------------------------------------

    def reservations(self) -> dict[str, WorkCounts]:
        """Return what each run with a reservation may execute, counted from its beginning, by the run's id."""
        rows = self._connection.execute(select(tables.reservations))
        return {row.run_id: WorkCounts(row.training, row.validation, row.generation) for row in rows}

    def reserve(self, reservation: Reservation) -> None:
        """Set a run's reservation, in place of an earlier one."""
        self.reserve_all([reservation])

    def reserve_all(self, reservations: Sequence[Reservation]) -> None:
        """Set runs' reservations, in place of earlier ones."""
        self._note(*(each.run_id for each in reservations))
        rows = [{"run_id": each.run_id, **values_of(each.work)} for each in reservations]
        if rows:
            self._connection.execute(insert(tables.reservations).prefix_with("OR REPLACE"), rows)

    def give_back(self, run_id: str) -> None:
        """End a run's reservation: the part that was not spent is free again."""
        self._note(run_id)
        self._connection.execute(delete(tables.reservations).where(tables.reservations.c.run_id == run_id))

    def _of_runs(self, query: Select[Any], table: Table, run_ids: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        """Yield rows by column, of these runs or of all."""
        if run_ids is None:
            return rows_of(self._connection.execute(query))
        return rows_among(self._connection, query, table.c.run_id, run_ids)

    def _touch(self, *run_ids: str) -> None:
        """Note that the rows of these runs change, and with them their backup records."""
        self._known.pop("runs", None)
        self._known.pop("unclosed", None)
        self.touched.update(run_ids)

    def _note(self, *run_ids: str) -> None:
        """Note that something else in the backup records of these runs changes."""
        self._reopened(run_ids)
        self.touched.update(run_ids)

    def _insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert all rows by one statement; for no rows, SQLAlchemy would insert one of defaults."""
        if rows:
            self._connection.execute(insert(table), rows)

    def _touch_members(self, token: str) -> None:
        query = select(tables.members.c.run_id).where(tables.members.c.token == token)
        self._note(*self._connection.execute(query).scalars())
