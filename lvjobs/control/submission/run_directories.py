"""The files that the control plane writes into run directories for workers, which never read runs.db."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lvjobs.files import create_exclusive, is_foreign, json_text, make_private, write_many
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.records import Member, RunRecord, WorkCounts
from lvjobs.records.run_files import Allowance
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import RunLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState


def prepare(study: StudyContext, runs: Sequence[RunRecord]) -> None:
    """Make the run directories, each with its run.json and a directory for claims. May be repeated.

    A pass has to see claims at once. An NFS client checks an existing directory again, but may remember for a moment
    that a name was missing. The worker makes all other directories when it needs them, because file systems limit their
    number too.

    Raises:
        OSError: A directory or file cannot be written.
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
        # Only declared keys: the run's code snapshot, which reads this file, does not know newer ones.
        contents[files.config] = json_text(content.model_dump(mode="json", exclude_unset=True))
    write_many(contents)


def clear(study: StudyContext, runs: Sequence[RunRecord]) -> None:
    """Remove the directories that `prepare` made, except those that a worker has claimed before."""
    for run in runs:
        files = study.layout.run(run.name)
        if not is_claimed(files):
            shutil.rmtree(files.root, ignore_errors=True)


def is_claimed(files: RunLayout) -> bool:
    """Return whether a worker has ever claimed the run directory."""
    return any(files.generations.glob("*"))


def write_again(study: StudyContext, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Write run.json again where it is lost, damaged or edited, because no job would train such a run.

    Directories of another user or of another run stay unchanged. Return the runs whose run.json was written.
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
    """Return whether a run.json differs from the declaration of the ledger's `run`, whose id it has."""
    return found.fingerprint != run.fingerprint or not found.is_as_declared


def allow(study: StudyContext, works: Mapping[str, WorkCounts]) -> None:
    """Write the allowances of runs: the training steps that each may execute in all. `works` is by run name."""
    allowances = {study.layout.run(name).allowance: Allowance(training=work.training) for name, work in works.items()}
    make_private([path.parent for path in allowances])
    write_many({path: allowance.to_json() for path, allowance in allowances.items()})


def put_back(ledger: Ledger, study: StudyContext) -> list[str]:
    """Write missing control files of workers again. Return what was done, one line for each file.

    These are the allowance of a run that has a job, which would train without a limit, and the revocation mark of a
    submission. A run directory that is gone, or belongs to another user, stays unchanged.
    """
    with ledger.transaction() as transaction:
        members, reserved = transaction.members(), transaction.reservations()
        names = {run.id: run.name for run in transaction.find_runs({member.run_id for member in members})}
    told = []
    for member in members:
        name = names[member.run_id]
        files = study.layout.run(name)
        path = _limit_file(member, files, is_bounded=member.run_id in reserved)
        if path is None or path.exists() or not files.root.is_dir() or is_foreign(files.root):
            continue
        if path == files.allowance:
            allow(study, {name: reserved[member.run_id]})
        else:
            make_private([path.parent])
            create_exclusive(path, "")
        told.append(f"{name}: {path} was gone, and is written again")
    return told


def _limit_file(member: Member, files: RunLayout, *, is_bounded: bool) -> Path | None:
    """Return the file that limits the workers of a submission: the revocation mark, or the allowance; None for none."""
    if member.state is MemberState.REVOKED:
        return files.revoked / member.token
    return files.allowance if is_bounded and member.state is MemberState.LIVE else None
