"""The audit: the ledger compared with run directories, claims, journals and done markers. Reads only."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.journal_fold import begin, fold
from lvjobs.control.reconcile.observe import read_claims, read_done, read_from
from lvjobs.control.recovery.findings import Finding, finding
from lvjobs.control.submission.submission_files import is_claimed, is_edited, orders_for
from lvjobs.files import is_foreign
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import AttemptRecord, Charge, Member, RunRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.journal import Entry, parse_entries
from lvjobs.records.software import drift_of, record_of
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState, RunState

_COUNTED = ("step", "executed", "checkpoint_step", "validation_windows", "generated", "resumed_from", "finished")
"""The fields of an attempt that follow from its journal and are compared."""


def audit(transaction: Transaction, layout: StudyLayout, where: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield every disagreement, run by run, and then the run directories that the ledger does not know.

    `where`: see `StudyContext.where`.
    """
    attempts, charges = by_run(transaction.attempts()), by_run(transaction.charges())
    members, reserved = by_run(transaction.members(unsettled=False)), transaction.reservations()
    names = set()
    for run in transaction.runs():
        names.add(run.name)
        rows = (attempts[run.id], charges[run.id], members[run.id], reserved.get(run.id))
        audited = _Audited(run, layout, where, *rows)
        try:
            yield from audited.findings()
        except (OSError, ValueError, TypeError) as error:
            yield audited.finding("unreadable", root=audited.files.root, error=error)
    yield from _strangers(names, layout.checkpoints, where)


@dataclass(frozen=True)
class _Audited:
    """One run's directory and the ledger's rows of it."""

    run: RunRecord
    layout: StudyLayout
    where: Sequence[str]
    attempts: Sequence[AttemptRecord]
    charges: Sequence[Charge]
    members: Sequence[Member]
    reserved: WorkCounts | None

    @property
    def files(self) -> RunLayout:
        return self.layout.run(self.run.name)

    def finding(self, name: str, /, **values: object) -> Finding:
        return finding(name, self.run.name, self.where, **values)

    def findings(self) -> Iterator[Finding]:
        run, files = self.run, self.files
        if not files.root.is_dir():
            is_archived = self.layout.archive(run.name).exists()
            if not is_archived and any(attempt.generation for attempt in self.attempts):  # a claim is what creates it
                yield self.finding("gone", root=files.root)
            yield from self._ordered()
            return
        if is_foreign(files.root):
            yield foreign(run.name, files.root)
            return
        yield from self._identity()
        done = read_done(files)
        if done is not None and run.state is not RunState.COMPLETED:
            yield self.finding("done", state=run.state.value)
        if done is None and run.state is RunState.COMPLETED:
            yield self.finding("not done", path=files.done)
        yield from self._spent()
        yield from self._ordered()

    def _identity(self) -> Iterator[Finding]:
        path = self.files.config
        if not path.exists() and not is_claimed(self.files):
            return  # its first worker writes it
        try:
            found = RunFile.read(path)
        except (OSError, ValueError) as error:
            then = "" if self.run.state.is_final else ", so no job will train it"
            yield self.finding("config unreadable", path=path, then=then, error=str(error).splitlines()[0])
            return
        if found.id != self.run.id:
            yield self.finding("config of another", path=path)
        elif is_edited(found, self.run):
            yield self.finding("config edited", path=path)

    def _spent(self) -> Iterator[Finding]:
        """Yield where attempts or charges do not follow from the journals, as far as passes have read them.

        Yield notes too: on unread attempts, on changed versions, and on damaged checkpoints.
        """
        claims = {claim.generation: claim for claim in read_claims(self.files, known=frozenset())}
        unread = sorted(set(claims) - {attempt.generation for attempt in self.attempts})
        if unread:
            yield self.finding("unseen", attempts=", ".join(map(str, unread)))
        derived: list[AttemptRecord] = []
        started: dict[int, Mapping[str, Any]] = {}
        for attempt in self.attempts:
            if attempt.generation is None:
                derived.append(attempt)
                continue
            claim, data = claims.get(attempt.generation), read_from(self.files.journal(attempt.generation))
            if claim is None or len(data) < attempt.journal_offset:
                yield self.finding("journal gone", attempt=attempt.generation, path=self.files.journals)
                derived.append(attempt)
                continue
            entries, consumed = parse_entries(data[: attempt.journal_offset])
            seen = fold(begin(claim, self.run.id, attempt.grown), entries, consumed, attempt.grown)
            # An attempt may be known to be finished by the done marker alone: its journal's line was never written.
            known = replace(attempt, finished=attempt.finished and seen.finished)
            different = [name for name in _COUNTED if getattr(seen, name) != getattr(known, name)]
            derived.append(replace(attempt, **{name: getattr(seen, name) for name in _COUNTED if name != "finished"}))
            if different:
                pairs = ", ".join(f"{name} {getattr(attempt, name)} and {getattr(seen, name)}" for name in different)
                yield self.finding("other journal", attempt=attempt.generation, pairs=pairs)
            if len(data[: data.rfind(b"\n") + 1]) > attempt.journal_offset:
                yield self.finding("written since", attempt=attempt.generation)
            yield from self._notes(attempt, parse_entries(data)[0], started)
        yield from self._compare(charges_of(self.run, derived))

    def _notes(
        self, attempt: AttemptRecord, entries: Sequence[Entry], started: dict[int, Mapping[str, Any]]
    ) -> Iterator[Finding]:
        """Yield notes on what an attempt began with, and on the checkpoints that it found damaged.

        `started` has the versions and the process count of this attempt, once it is read, and of earlier ones, by
        generation.
        """
        number, record = attempt.generation or 0, record_of(entries)
        for line in drift_of(number, record or {}):
            yield self.finding("other software", line=line)
        for entry in entries:
            if entry.kind == "start":
                now = {**(entry.fields.get("versions") or {}), "processes": entry.fields.get("processes", 1)}
                if record is not None:  # it says what changed of all packages
                    now = {key: now[key] for key in now.keys() & {"lvjobs", "device", "processes"}}
                before, started[number] = started.get(attempt.resumed_generation, {}), now
                changed = [name for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
                if changed:
                    new, old = (", ".join(f"{name} {each[name]}" for name in changed) for each in (now, before))
                    yield self.finding(
                        "other versions", attempt=number, new=new, before=attempt.resumed_generation, old=old
                    )
            if entry.kind == "invalid_checkpoint":
                name, problem = entry.fields.get("name"), entry.fields.get("problem")
                yield self.finding("damaged checkpoint", name=name, problem=problem, attempt=number)

    def _compare(self, derived: Sequence[Charge]) -> Iterator[Finding]:
        """Yield each charge that differs from the one that follows from the journals."""
        wanted = {(charge.attempt_id, charge.kind): charge for charge in derived}
        there = {(charge.attempt_id, charge.kind): charge for charge in self.charges}
        for key in sorted(wanted.keys() | there.keys()):
            if wanted.get(key) != there.get(key):
                charged, shown = _words(there.get(key)), _words(wanted.get(key))
                yield self.finding("wrong charge", attempt=key[0], kind=key[1], charged=charged, shown=shown)

    def _ordered(self) -> Iterator[Finding]:
        """Yield where the workers of a submission are told other than what the ledger has."""
        for member in self.members:
            if member.state is MemberState.SETTLED:
                continue
            try:
                is_revoked, allowed = orders_for(self.layout, self.run.name, member.token)
            except FileNotFoundError as error:
                is_revoked, allowed = False, None
                if member.state is MemberState.LIVE and self.reserved is not None:
                    yield self.finding("no allowance", path=error.filename)
            if member.state is MemberState.REVOKED and not is_revoked:
                yield self.finding("not revoked", token=member.token)
            if self.reserved is not None and allowed is not None and allowed > self.reserved.training:
                yield self.finding("large allowance", allowed=allowed, reserved=self.reserved.training)


def _words(charge: Charge | None) -> str:
    if charge is None:
        return "0"
    return f"{charge.units}" + (f" ({charge.estimated} of them estimated)" if charge.estimated else "")


def _strangers(names: set[str], checkpoints: Path, where: Sequence[str]) -> Iterator[Finding]:
    try:
        directories = sorted(path for path in checkpoints.iterdir() if path.is_dir() and path.name not in names)
    except FileNotFoundError:
        return
    for path in directories:
        if is_claimed(RunLayout(path)):
            yield finding("unknown", path.name, where, root=path)
        elif (path / "run.json").exists():
            yield finding("left over", path.name, root=path)


def foreign(name: str, root: Path) -> Finding:
    """Return the finding that another user owns a run directory."""
    return finding("foreign", name, root=root, owner=root.stat().st_uid, me=os.getuid())
