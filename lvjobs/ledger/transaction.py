"""The queries and changes of the ledger, inside one transaction."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import count
from operator import attrgetter
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from lvjobs.ledger import tables
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import (
    AttemptRecord,
    Charge,
    Event,
    Member,
    RunRecord,
    StageRecord,
    SubmissionRecord,
    WorkCounts,
)
from lvjobs.ledger.rows import Rows, values_of
from lvjobs.study.words import Cause, LeaveCause, MemberState, StageState


class Transaction(Rows):
    """The queries and changes inside one transaction. Records go in and come out as frozen dataclasses."""

    # -- runs ---------------------------------------------------------------------------------------------------

    def runs(self, *, only_open: bool = False) -> list[RunRecord]:
        """Return all runs in the order of declaration; `only_open` omits completed and cancelled runs."""
        if only_open:
            return [run for run in self.unclosed() if not run.state.is_final]
        in_order = select(tables.runs).order_by(tables.runs.c.ordinal)
        return list(self._kept("runs", lambda: self._records(RunRecord, in_order)))

    def find_run(self, *, name: str | None = None, id: str | None = None) -> RunRecord | None:  # noqa: A002
        """Return the run with this name or id, or None."""
        wanted = {key: value for key, value in (("name", name), ("id", id)) if value is not None}
        return next(iter(self._records(RunRecord, select(tables.runs).filter_by(**wanted).limit(1))), None)

    def update_runs_of(self, token: str, **changes: Any) -> None:
        """Change columns of all runs that are members of a submission."""
        self._forget("runs", "unclosed")
        members = select(tables.members.c.run_id).where(tables.members.c.token == token)
        self._connection.execute(tables.runs.update().where(tables.runs.c.id.in_(members)).values(**changes))

    def add_runs(self, runs: Sequence[RunRecord]) -> None:
        """Insert runs; their ordinals are assigned here, in this order."""
        self._forget("runs", "unclosed")
        self._insert(tables.runs, runs)

    def update_run(self, run_id: str, **changes: Any) -> None:
        """Change columns of a run."""
        self.update_runs({run_id: changes})

    def update_runs(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change columns of runs, by their ids."""
        if changes:
            self._forget("runs", "unclosed")
            self._update(tables.runs, ["id"], {(run_id,): values for run_id, values in changes.items()})

    def delete_run(self, run_id: str) -> None:
        """Delete a run that was refused before it had an attempt, with its places, events and cells."""
        self._forget("runs", "unclosed", "members")
        query = select(tables.members.c.token).where(tables.members.c.run_id == run_id)
        tokens = list(self._connection.execute(query).scalars())
        for table in (tables.members, tables.events, tables.cells):
            self._connection.execute(delete(table).where(table.c.run_id == run_id))
        token = tables.submissions.c.token
        orphans = token.in_(tokens) & token.not_in(select(tables.members.c.token))
        self._connection.execute(delete(tables.submissions).where(orphans))
        self.give_back([run_id])
        self._connection.execute(delete(tables.runs).where(tables.runs.c.id == run_id))

    # -- attempts -----------------------------------------------------------------------------------------------

    def attempts(self, run_ids: Collection[str] | None = None) -> list[AttemptRecord]:
        """Return the attempts of these runs, or all, oldest first."""
        found = self._of_runs("attempts", AttemptRecord, tables.attempts, run_ids)
        return sorted(found, key=attrgetter("id"))

    def attempts_of_packs(self) -> list[AttemptRecord]:
        """Return the attempts in jobs that several runs share, while these jobs are not settled."""
        members, submissions = tables.members.c, tables.submissions.c
        unsettled = select(members.token).where(members.state != MemberState.SETTLED)
        packs = select(submissions.token).where(submissions.packed, submissions.token.in_(unsettled))
        return self._records(AttemptRecord, select(tables.attempts).where(tables.attempts.c.token.in_(packs)))

    def runs_without_last_word(self, causes: Sequence[Cause], since: float) -> set[str]:
        """Return the ids of runs with a claimed attempt whose journal has no closing line.

        Only attempts that ended for one of `causes`, and after `since` (seconds since the epoch), count.
        """
        columns = tables.attempts.c
        query = select(columns.run_id).where(
            columns.cause.in_(causes),
            columns.ended > since,
            columns.generation.is_not(None),
            columns.leave_cause == LeaveCause.NONE,
            columns.error == "",
            columns.finished.is_(False),
        )
        return set(self._connection.execute(query).scalars())

    def save_attempts(self, attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
        """Write the rows of these attempts, and return them. New ones get an id here where they have none (0).

        The log omits those of open runs about which nothing was concluded. A rebuild reads their journals instead.
        """
        columns, open_runs = tables.attempts.c, self._unclosed().keys()
        highest = self._connection.execute(select(func.max(columns.id))).scalar() or 0
        ids = count(highest + 1)
        saved = [attempt if attempt.id else replace(attempt, id=next(ids)) for attempt in attempts]
        run_ids = {attempt.run_id for attempt in saved}
        known = {attempt.id: attempt for attempt in self.attempts(run_ids)}
        self._reopened(run_ids)
        added, concluded, read_on = [], {}, {}
        for attempt in saved:
            values, before = values_of(tables.attempts, attempt), known.get(attempt.id)
            if before is None:
                added.append({**values, "id": attempt.id})
            elif attempt.generation is None or attempt.run_id not in open_runs or _ends(before) != _ends(attempt):
                concluded[attempt.id,] = values
            else:
                read_on[attempt.id,] = values
                self._read_on.add(attempt.run_id)
        self._execute(insert(tables.attempts), added)
        self._update(tables.attempts, ["id"], concluded)
        self._update(tables.attempts, ["id"], read_on, logged=False)
        rows = known | {attempt.id: attempt for attempt in saved}
        self._known.setdefault("attempts", {}).update(by_run(rows.values()))
        return saved

    # -- submissions --------------------------------------------------------------------------------------------

    def submissions(self, *, unsettled: bool = True) -> list[SubmissionRecord]:
        """Return the submissions with a member that is not settled, or all, oldest first."""
        query = select(tables.submissions).order_by(tables.submissions.c.created)
        if unsettled:
            pending = select(tables.members.c.token).where(tables.members.c.state != MemberState.SETTLED)
            query = query.where(tables.submissions.c.token.in_(pending))
        return self._records(SubmissionRecord, query)

    def members(self, *, unsettled: bool = True) -> list[Member]:
        """Return the members that are not settled, or all."""
        query = select(tables.members).order_by(tables.members.c.token, tables.members.c.member)
        if not unsettled:
            return self._records(Member, query)
        query = query.where(tables.members.c.state != MemberState.SETTLED)
        return list(self._kept("members", lambda: self._records(Member, query)))

    def add_submission(self, submission: SubmissionRecord, run_ids: Sequence[str]) -> None:
        """Insert a submission with a live member for each of `run_ids`, in order."""
        self._insert(tables.submissions, [submission])
        self.add_members([Member(submission.token, index, run_id) for index, run_id in enumerate(run_ids)])

    def add_members(self, members: Sequence[Member]) -> None:
        """Insert runs' places in submissions."""
        self._forget("members")
        self._reopened(member.run_id for member in members)
        self._insert(tables.members, members)

    def delete_submission(self, token: str) -> None:
        """Delete a submission that created no job, with its members."""
        self._reopen_members(token)
        self._connection.execute(delete(tables.members).where(tables.members.c.token == token))
        self._connection.execute(delete(tables.submissions).where(tables.submissions.c.token == token))

    def update_submission(self, token: str, **changes: Any) -> None:
        """Change columns of a submission."""
        self._reopen_members(token)
        self._update(tables.submissions, ["token"], {(token,): changes})

    def update_members(self, changes: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Change columns of members, by the token of their submission and the id of their run."""
        if changes:
            self._forget("members")
        self._reopened(run_id for _, run_id in changes)
        self._update(tables.members, ["token", "run_id"], changes)

    # -- events and charges -------------------------------------------------------------------------------------

    def add_event(self, item: Event) -> None:
        """Append an event."""
        self.add_events([item])

    def add_events(self, items: Sequence[Event]) -> None:
        """Append events, in this order."""
        self._insert(tables.events, items)

    def events(self, run_id: str | None = None, limit: int = 100) -> list[Event]:
        """Return the latest events, oldest first; of one run, or of all."""
        number, *columns = tables.events.c
        query = select(*columns).order_by(number.desc()).limit(limit)
        if run_id is not None:
            query = query.where(tables.events.c.run_id == run_id)
        return self._records(Event, query)[::-1]

    def replace_charges(self, charges: Mapping[str, Sequence[Charge]]) -> None:
        """Replace the charges of runs, by their ids. Charges follow from the attempts, so none are ever added.

        The log omits those that follow from attempts which it omits.
        """
        self._reopened(charges)
        query = delete(tables.charges).where(tables.charges.c.run_id == bindparam("of_run"))
        for logged in (True, False):
            chosen = [run_id for run_id in charges if (run_id not in self._read_on) == logged]
            self._execute(query, [{"of_run": run_id} for run_id in chosen], logged=logged)
            rows = [values_of(tables.charges, charge) for run_id in chosen for charge in charges[run_id]]
            self._execute(insert(tables.charges), rows, logged=logged)
        self._known.setdefault("charges", {}).update(charges)

    def charges(self, run_ids: Collection[str] | None = None) -> list[Charge]:
        """Return the charges of these runs, or all. Sum them in Python: SQL would sum in floats."""
        return self._of_runs("charges", Charge, tables.charges, run_ids)

    # -- reservations -------------------------------------------------------------------------------------------

    def reservations(self) -> dict[str, WorkCounts]:
        """Return what each run with a reservation may execute, counted from its beginning, by the run's id."""
        rows = self._kept("reservations", lambda: self._connection.execute(select(tables.reservations)).all())
        return {run_id: WorkCounts(*work) for run_id, *work in rows}

    def reserve(self, reservations: Mapping[str, WorkCounts]) -> None:
        """Set what runs may execute, counted from their beginning, in place of earlier reservations."""
        self._forget("reservations")
        self._reopened(reservations)
        rows = [(run_id, *astuple(work)) for run_id, work in reservations.items()]
        if rows:
            columns = "run_id, training, validation, generation, gpu_seconds"
            change = f"INSERT OR REPLACE INTO reservations ({columns}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
            self._connection.exec_driver_sql(change, rows)

    def give_back(self, run_ids: Collection[str]) -> None:
        """End the reservations of runs: the parts that were not spent are free again."""
        self._forget("reservations")
        self._reopened(run_ids)
        query = delete(tables.reservations).where(tables.reservations.c.run_id == bindparam("of_run"))
        self._execute(query, [{"of_run": run_id} for run_id in run_ids])

    # -- stages -------------------------------------------------------------------------------------------------

    def stages(self) -> list[StageRecord]:
        """Return all stages, in the order of their declaration."""
        return self._records(StageRecord, select(tables.stages).order_by(tables.stages.c.ordinal))

    def declare_stages(self, definitions: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the stages as study.toml declares them now, in order. A requested stage keeps its definition of then.

        So does a stage that study.toml no longer has and that a requested one names: the name has to refer to a stage.
        """
        known = {stage.name: stage for stage in self.stages()}
        kept = {name for name, stage in known.items() if stage.state is not StageState.DECLARED}
        named = kept
        while named := {other for name in named for other in _named(known[name])} & known.keys() - kept:
            named -= definitions.keys()
            kept |= named
        gone = [name for name in known if name in kept and name not in definitions]
        names = enumerate([*definitions, *gone])
        stages = [
            replace(known[name], ordinal=at) if name in kept else StageRecord(name, at, definitions[name])
            for at, name in names
        ]
        if stages != list(known.values()):
            self._connection.execute(delete(tables.stages))
            self._insert(tables.stages, stages)

    def update_stage(self, name: str, **changes: Any) -> None:
        """Change columns of a stage."""
        self._update(tables.stages, ["name"], {(name,): changes})

    def cells(self) -> dict[str, list[str]]:
        """Return the ids of the runs that each stage compares, in the order of declaration."""
        found: dict[str, list[str]] = {}
        for row in self._connection.execute(select(tables.cells).order_by(tables.cells.c.position)):
            found.setdefault(row.stage, []).append(row.run_id)
        return found

    def add_cells(self, stage: str, run_ids: Sequence[str]) -> None:
        """Let a stage compare these runs too; the runs that it already has keep their places."""
        known = dict.fromkeys(self.cells().get(stage, []))
        new = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in known]
        rows = [{"stage": stage, "run_id": each, "position": len(known) + at} for at, each in enumerate(new)]
        if rows:
            self._connection.execute(insert(tables.cells), rows)

    def _reopen_members(self, token: str) -> None:
        self._forget("members")
        query = select(tables.members.c.run_id).where(tables.members.c.token == token)
        self._reopened(self._connection.execute(query).scalars())


def _ends(attempt: AttemptRecord) -> tuple[Any, ...]:
    """Return what passes conclude about an attempt that has a journal. All else follows from the journal."""
    return attempt.cause, attempt.evidence, attempt.allocated_seconds, attempt.gpus


def _named(stage: StageRecord) -> Iterator[str]:
    """Yield the other stages that its definition names."""
    for key in ("from", "after", "evaluate"):
        value = stage.definition.get(key) or ()
        yield from [value] if isinstance(value, str) else value
