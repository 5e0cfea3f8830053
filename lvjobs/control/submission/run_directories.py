"""Files that the control plane writes into run directories for workers, which never read runs.db."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lvjobs.files import create_exclusive, is_foreign, json_text, make_private, write_many
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Member, RunRecord, WorkCounts
from lvjobs.records.allowance import Allowance
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState


def prepare(study: StudyContext, runs: Sequence[RunRecord]) -> None:
    """Make the run directories, each with its run.json and a place for claims. Harmless when done twice.

    A pass has to see claims at once, and an NFS client looks afresh at a directory that is there, not at a name that
    was missing a moment ago. What else a worker needs it makes itself: file systems count directories too.
    """
    contents = {}
    make_private([study.layout.run(run.name).root for run in runs])
    make_private([study.layout.run(run.name).generations for run in runs])
    for run in runs:
        files = study.layout.run(run.name)
        content = RunFile(
            id=run.id, name=run.name, stage=run.stage, fingerprint=run.fingerprint, config=run.configuration
        )
        if run.declared:
            content = content.model_copy(update={"declared": dict(run.declared)})
        # Only what was declared: its code, which reads this, knows no key that is newer.
        contents[files.config] = json_text(content.model_dump(mode="json", exclude_unset=True))
    write_many(contents)


def write_again(study: StudyContext, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Write the run.json of those runs again whose own is lost, damaged or edited: no job would train them.

    A directory of another user's, or of another run, is left alone. Return the runs whose run.json was written.
    """
    lost = [run for run in runs if _is_lost(study.layout.run(run.name), run)]
    prepare(study, lost)
    return lost


def _is_lost(files: RunLayout, run: RunRecord) -> bool:
    if is_foreign(files.root):
        return False
    try:
        found = RunFile.read(files.config)
    except (OSError, ValueError):
        return True
    return found.id == run.id and is_edited(found, run)


def is_edited(found: RunFile, run: RunRecord) -> bool:
    """Return whether a run.json says something else than the ledger's `run`, which it names, was declared with."""
    return found.fingerprint != run.fingerprint or not found.is_as_declared


def allow(study: StudyContext, works: Mapping[str, WorkCounts]) -> None:
    """Tell the workers of runs, by their names, how much they may execute."""
    allowances = {study.layout.run(name).allowance: Allowance(training=work.training) for name, work in works.items()}
    make_private([path.parent for path in allowances])
    write_many({path: allowance.to_json() for path, allowance in allowances.items()})


def put_back(ledger: Ledger, study: StudyContext) -> list[str]:
    """Write again what workers are to be told and no file tells them any more; return what was done, a line each.

    These are the allowance of a run that has a job, which would train without a bound, and the mark of a submission
    that may train its run no more. A directory that is gone, or is another user's, is left alone.
    """
    with ledger.transaction() as transaction:
        members, reserved = transaction.members(), transaction.reservations()
        names = {run.id: run.name for run in transaction.find_runs({member.run_id for member in members})}
    told = []
    for member in members:
        name = names[member.run_id]
        files = study.layout.run(name)
        path = _told_by(member, files, is_bounded=member.run_id in reserved)
        if path is None or path.exists() or not files.root.is_dir() or is_foreign(files.root):
            continue
        if path == files.allowance:
            allow(study, {name: reserved[member.run_id]})
        else:
            make_private([path.parent])
            create_exclusive(path, "")
        told.append(f"{name}: {path} was gone, and is written again")
    return told


def _told_by(member: Member, files: RunLayout, *, is_bounded: bool) -> Path | None:
    """Return the file that tells the workers of a submission how much they may train, or that they may not."""
    if member.state is MemberState.REVOKED:
        return files.revoked / member.token
    return files.allowance if is_bounded and member.state is MemberState.LIVE else None
