"""The audit: the ledger compared with run directories, claims, journals and done markers. Reads only."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.reconcile.journal_fold import begin, fold
from lvjobs.control.reconcile.observe import read_claims, read_done
from lvjobs.control.recovery.findings import Finding
from lvjobs.control.submission.run_directories import is_edited
from lvjobs.files import is_foreign
from lvjobs.ledger.records import AttemptRecord, Charge, Member, RunRecord, WorkCounts
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.allowance import Allowance
from lvjobs.records.journal import parse_entries
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState, RunState

_COUNTED = ("step", "executed", "checkpoint_step", "validation_windows", "generated", "resumed_from", "finished")
"""The fields of an attempt that follow from its journal and are compared."""


@dataclass(frozen=True)
class Rows:
    """The ledger's rows of the runs, read in one transaction; the mappings are by run id."""

    runs: Sequence[RunRecord]
    attempts: Mapping[str, Sequence[AttemptRecord]]
    charges: Mapping[str, Sequence[Charge]]
    members: Mapping[str, Sequence[Member]]
    reservations: Mapping[str, WorkCounts]


def read_rows(transaction: Transaction) -> Rows:
    """Read all rows that the audit needs."""
    attempts, charges, members = defaultdict(list), defaultdict(list), defaultdict(list)
    for attempt in transaction.attempts():
        attempts[attempt.run_id].append(attempt)
    for charge in transaction.charges():
        charges[charge.run_id].append(charge)
    for member in transaction.members(unsettled=False):
        members[member.run_id].append(member)
    return Rows(transaction.runs(), attempts, charges, members, transaction.reservations())


def audit(rows: Rows, layout: StudyLayout, where: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield every disagreement, run by run, and then the run directories that the ledger does not know.

    `where`: see `StudyContext.where`.
    """
    for run in rows.runs:
        files = layout.run(run.name)
        try:
            yield from _audit_run(run, rows, files, where)
        except (OSError, ValueError, TypeError) as error:
            yield Finding("error", run.name, f"{files.root} cannot be read ({error})", "see what happened to that file")
    yield from _strangers({run.name for run in rows.runs}, layout.checkpoints, where)


def _audit_run(run: RunRecord, rows: Rows, files: RunLayout, where: Sequence[str]) -> Iterator[Finding]:
    if not files.root.is_dir():
        yield Finding(
            "error",
            run.name,
            f"its directory {files.root} is gone, and with it its checkpoints and the journals that its charges "
            "follow from",
            "restore it from a backup; else the run begins anew, and what it spent stays charged",
        )
        return
    if is_foreign(files.root):
        yield foreign(run.name, files.root)
        return
    yield from _identity(run, files, where)
    done = read_done(files)
    if done is not None and run.state is not RunState.COMPLETED:
        yield Finding("note", run.name, f"is done, and the ledger has it as {run.state.value}", "a pass will see it")
    if done is None and run.state is RunState.COMPLETED:
        what = "is completed by the ledger, and its done marker is gone: a job of it would train again"
        yield Finding("error", run.name, what, f"restore {files.done} from a backup")
    yield from _spent(run, rows, files, where)
    yield from _allowed(run, rows, files, where)
    for member in rows.members.get(run.id, ()):
        path = files.revoked / member.token
        if member.state is MemberState.REVOKED and not path.exists():
            what = f"submission {member.token} may not train it any more, and no worker is told"
            yield Finding("error", run.name, what, _next_pass(where))


def _identity(run: RunRecord, files: RunLayout, where: Sequence[str]) -> Iterator[Finding]:
    remedy = f"runs.db has what was in it, and writes it again: {remedies.RESUME_RUN(*where, run=run.name)}"
    try:
        found = RunFile.read(files.config)
    except (OSError, ValueError) as error:
        then = "" if run.state.is_final else ", so no job will train it"
        what = f"{files.config} cannot be read{then} ({str(error).splitlines()[0]})"
        yield Finding("error", run.name, what, remedy)
        return
    if found.id != run.id:
        what = f"{files.config} is of another run than the ledger's"
        yield Finding("error", run.name, what, "move that directory away, or restore the right one")
    elif is_edited(found, run):
        yield Finding("error", run.name, f"{files.config} was edited after the run was declared", remedy)


def _spent(run: RunRecord, rows: Rows, files: RunLayout, where: Sequence[str]) -> Iterator[Finding]:
    """Yield where attempts or charges do not follow from the journals, as far as passes have read them.

    Yield notes too: on unread attempts, on changed versions, and on damaged checkpoints.
    """
    known = rows.attempts.get(run.id, ())
    claims = {claim.generation: claim for claim in read_claims(files, known=frozenset())}
    unread = sorted(set(claims) - {attempt.generation for attempt in known})
    if unread:
        what = f"attempts that the ledger has not seen yet: {', '.join(map(str, unread))}"
        yield Finding("note", run.name, what, f"a pass will read them: {remedies.STATUS(*where)}")
    told: list[AttemptRecord] = []
    started: dict[int, Mapping[str, Any]] = {}
    for attempt in known:
        if attempt.generation is None:
            told.append(attempt)
            continue
        claim = claims.get(attempt.generation)
        data = _read(files.journal(attempt.generation))
        if claim is None or len(data) < attempt.journal_offset:
            what = f"of attempt {attempt.generation} a part of the journal, or its claim, is gone: its charges stay as "
            yield Finding("error", run.name, what + "they were read", f"restore {files.journals} from a backup")
            told.append(attempt)
            continue
        entries, consumed = parse_entries(data[: attempt.journal_offset])
        seen = fold(begin(claim, run.id, attempt.grown), entries, consumed, attempt.grown)
        told.append(replace(attempt, **{name: getattr(seen, name) for name in _COUNTED if name != "finished"}))
        different = [name for name in _COUNTED if getattr(seen, name) != getattr(attempt, name)]
        if (
            "finished" in different and attempt.finished
        ):  # known by the done marker; the journal's line was never written
            different.remove("finished")
        if different:
            pairs = ", ".join(f"{name} {getattr(attempt, name)} and {getattr(seen, name)}" for name in different)
            what = f"of attempt {attempt.generation} ledger and journal say different things ({pairs})"
            yield Finding("error", run.name, what, _anew(where))
        if len(data[: data.rfind(b"\n") + 1]) > attempt.journal_offset:
            yield Finding("note", run.name, f"attempt {attempt.generation} has written more since the last pass")
        for entry in parse_entries(data)[0]:
            if entry.kind == "start":
                started[attempt.generation] = {
                    **(entry.fields.get("versions") or {}),
                    "processes": entry.fields.get("processes", 1),
                }
                yield from _differences(run, attempt, started)
            if entry.kind == "invalid_checkpoint":
                name, problem = entry.fields.get("name"), entry.fields.get("problem")
                what = f"checkpoint {name} was damaged ({problem}); attempt {attempt.generation} went on from an older"
                yield Finding("note", run.name, what, "see whether the disk is sound")
    yield from _compare(run, charges_of(run, told), rows.charges.get(run.id, ()), where)


def _differences(run: RunRecord, attempt: AttemptRecord, started: Mapping[int, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield the versions and process count that differ from the attempt whose checkpoint this one began from.

    `started` has both attempts' values, by generation.
    """
    before, now = started.get(attempt.resumed_generation, {}), started[attempt.generation or 0]
    changed = [name for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
    if changed:
        new, old = (", ".join(f"{name} {each[name]}" for name in changed) for each in (now, before))
        what = (
            f"attempt {attempt.generation} went on with {new}, where attempt {attempt.resumed_generation} had {old}: "
            "its weights are no longer, bit for bit, those of an undisturbed run"
        )
        yield Finding("note", run.name, what, "where that matters, submit it anew under another --name")


def _anew(where: Sequence[str]) -> str:
    return f"make the ledger anew from the journals: {remedies.LEDGER_REBUILD_ASIDE(*where)}"


def _next_pass(where: Sequence[str]) -> str:
    return f"the next pass writes it again: {remedies.RESUME(*where)}"


def _compare(
    run: RunRecord, derived: Sequence[Charge], kept: Sequence[Charge], where: Sequence[str]
) -> Iterator[Finding]:
    """Yield each charge that differs from the one that follows from the journals."""
    wanted = {(charge.attempt_id, charge.kind): charge for charge in derived}
    there = {(charge.attempt_id, charge.kind): charge for charge in kept}
    for key in sorted(wanted.keys() | there.keys()):
        if wanted.get(key) != there.get(key):
            charged, shown = _words(there.get(key)), _words(wanted.get(key))
            what = f"{key[1]} of attempt {key[0]}: charged are {charged}, and the journals show {shown}"
            yield Finding("error", run.name, what, _anew(where))


def _words(charge: Charge | None) -> str:
    if charge is None:
        return "0"
    return f"{charge.units}" + (f" ({charge.estimated} of them estimated)" if charge.estimated else "")


def _allowed(run: RunRecord, rows: Rows, files: RunLayout, where: Sequence[str]) -> Iterator[Finding]:
    reserved = rows.reservations.get(run.id)
    if reserved is None:
        return
    try:
        allowed = Allowance.from_json(files.allowance.read_text(encoding="utf-8")).training
    except FileNotFoundError:
        if rows.members.get(run.id):
            what = f"{files.allowance} is gone: a worker would train without a bound"
            yield Finding("error", run.name, what, _next_pass(where))
        return
    if allowed > reserved.training:
        what = f"its worker may execute {allowed} steps, and {reserved.training} are reserved for it"
        yield Finding("error", run.name, what, "a pass that renews its reservation puts it right")


def _strangers(names: set[str], checkpoints: Path, where: Sequence[str]) -> Iterator[Finding]:
    try:
        directories = sorted(path for path in checkpoints.iterdir() if path.is_dir() and path.name not in names)
    except FileNotFoundError:
        return
    for path in directories:
        if any((path / "generations").glob("*")):
            what = f"{path} holds a run that the ledger does not know"
            anew = remedies.LEDGER_REBUILD_ASIDE(*where)
            remedy = f"submit the same again, and it goes on from there; or move it away; or type: {anew}"
            yield Finding("error", path.name, what, remedy)
        elif (path / "run.json").exists():
            what = f"{path} was made for a run that came to nothing"
            yield Finding("note", path.name, what, "it may be deleted")


def foreign(name: str, root: Path) -> Finding:
    """Return the finding that another user owns a run directory."""
    owner, me = root.stat().st_uid, os.getuid()
    what = f"{root} belongs to user {owner}, and this is user {me}: nothing in it is believed"
    return Finding("error", name, what, "copy it as yourself, or have it given to you")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
