"""The files that the control plane writes for workers, which never read runs.db: one for each submission.

A run directory that an older release made may be trained by code of that release, which reads run.json, allowance.json
and the marks in `revoked/` there. So these are kept up to date in such a directory too.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from lvjobs.control.budget.archive import sharing_of
from lvjobs.control.budget.gpu_hours import gpu_hours_of
from lvjobs.control.budget.limit import terms_of
from lvjobs.errors import UsageError
from lvjobs.files import (
    append_line,
    create_exclusive,
    is_foreign,
    json_text,
    make_directory,
    names_in,
    write_atomic,
    write_many,
)
from lvjobs.ledger.database import Ledger
from lvjobs.ledger.reading import by_run
from lvjobs.ledger.records import Member, RunRecord
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.run_files import Allowance, parse_generation
from lvjobs.records.submission import GpuAllowance, SubmittedRun, find_member, orders_text, read_orders, submission_text
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunFile
from lvjobs.study.words import MemberState

_OfToken = TypeVar("_OfToken")


def write_submission(
    study: StudyContext,
    token: str,
    runs: Sequence[RunRecord],
    allowances: Mapping[str, int | None],
    gpu_seconds: Mapping[str, GpuAllowance] | None = None,
    revoked: Sequence[str] = (),
) -> None:
    """Write the file of a submission: all that its workers need. It is on disk when this returns.

    Args:
        study: The study.
        token: The submission's token.
        runs: Its members.
        allowances: The training steps that a run may execute in all, by its id; a run without any has no limit.
        gpu_seconds: The GPU-seconds that a run may hold, by its id, see `gpu_allowances`.
        revoked: The names of members that the submission may no longer train.

    Raises:
        UsageError: A file cannot be written.
    """
    members = [SubmittedRun(run.name, run_file_of(run), allowances.get(run.id)) for run in runs]
    try:
        for directory in (study.layout.checkpoints, study.layout.internal, study.layout.submissions):
            make_directory(directory)
        rungs = {run.name: run.stop_at for run in runs if run.stop_at}
        orders = orders_text(revoked=revoked, gpu_seconds=_by_name(runs, gpu_seconds or {}), stop_at=rungs)
        write_atomic(study.layout.submission(token), submission_text(members) + orders)
        older = [run for run in with_directory(study, runs) if study.layout.run(run.name).is_older]
        write_again(study, older)
        bounded = {run.name: steps for run in older if (steps := allowances.get(run.id)) is not None}
        _allow_in_directories(study, bounded)
    except OSError as error:
        raise UsageError(
            f"{study.layout.submission(token)} cannot be written ({error.strerror}); nothing was submitted: free disk "
            f"space there, or choose another "
            "--study"
        ) from error


def gpu_allowances(
    transaction: Transaction,
    study: StudyContext,
    runs: Sequence[RunRecord],
    sharing: Mapping[str, int] | None = None,
) -> dict[str, GpuAllowance]:
    """Return the GPU-seconds that runs may hold by the ledger's reservations, by run id; no others are limited.

    `sharing` has the number of runs that will share the job of each; None: those that share its live job.
    """
    terms = terms_of(study.config.budget)
    if terms.gpu_seconds is None:
        return {}
    shared = sharing_of(transaction) if sharing is None else sharing
    known = gpu_hours_of(terms.gpu_seconds, study.layout, runs, {}, {}, 0.0, sharing=shared)
    attempts, reserved = by_run(transaction.attempts([run.id for run in runs])), transaction.reservations()
    found = {
        run.id: known.allowance(run, attempts[run.id], reserved[run.id].gpu_seconds)
        for run in runs
        if run.id in reserved
    }
    return {run_id: each for run_id, each in found.items() if each is not None}


def _by_name(runs: Iterable[RunRecord], by_id: Mapping[str, GpuAllowance]) -> dict[str, GpuAllowance]:
    return {run.name: by_id[run.id] for run in runs if run.id in by_id}


def run_file_of(run: RunRecord) -> dict[str, object]:
    """Return the content of the run's run.json.

    It has only the keys with which the run was declared, because the run's code snapshot does not know newer ones.
    """
    content = {key: getattr(run, key) for key in ("id", "name", "stage", "fingerprint")} | {"config": dict(run.config)}
    return content | ({"declared": dict(run.declared)} if run.declared else {})


def with_directory(study: StudyContext, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs that have a run directory."""
    there = names_in(study.layout.checkpoints)
    return [run for run in runs if run.name in there]


def revoke(study: StudyContext, revoked: Iterable[tuple[str, str]]) -> None:
    """Order that submissions may no longer train runs; pairs of a token and a run's name. On disk when this returns."""
    for token, names in _by_token(revoked).items():
        path = study.layout.submission(token)
        if path.exists():
            append_line(path, orders_text(revoked=names))
        for name in names:
            _mark_revoked(study.layout.run(name), token)


def _mark_revoked(files: RunLayout, token: str) -> None:
    if files.is_older and not (files.revoked / token).exists():
        files.revoked.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_exclusive(files.revoked / token, "")


def allow(
    study: StudyContext,
    live: Iterable[tuple[str, str]],
    steps: Mapping[str, int],
    gpu_seconds: Mapping[str, GpuAllowance | None] | None = None,
) -> None:
    """Renew allowances: the training steps that each run may execute, and the GPU-seconds that it may hold, by name.

    `live` are pairs of a token and a run's name, of submissions that may train. A run without one gets its allowance
    with its next submission.
    """
    gpu = gpu_seconds or {}
    for token, names in _by_token(pair for pair in live if pair[1] in {**steps, **gpu}).items():
        allowed = {name: steps[name] for name in names if name in steps}
        path = study.layout.submission(token)
        if path.exists():
            held = {name: gpu[name] for name in names if name in gpu}
            append_line(path, orders_text(allowed=allowed, gpu_seconds=held))
        older = {name: number for name, number in allowed.items() if study.layout.run(name).is_older}
        _allow_in_directories(study, older)


def _allow_in_directories(study: StudyContext, steps: Mapping[str, int]) -> None:
    write_many({study.layout.run(name).allowance: Allowance(training=most).to_json() for name, most in steps.items()})


def orders_for(layout: StudyLayout, name: str, token: str) -> tuple[bool, int | None]:
    """Return what the workers of a submission see of a run: whether it is revoked, and its allowance (None: no limit).

    Raises:
        OSError: A file cannot be read. FileNotFoundError: there is none, so no worker would train the run.
        ValueError, TypeError, KeyError: A file has an invalid value.
    """
    files, path = layout.run(name), layout.submission(token)
    if files.is_older and not path.exists():
        is_revoked = (files.revoked / token).exists()
        return is_revoked, Allowance.from_json(files.allowance.read_text(encoding="utf-8")).training
    with path.open("rb") as stream:
        member = find_member(stream, name)
        stream.seek(0)
        orders, _ = read_orders(stream)
    if member is None:
        raise ValueError(f"{path} does not name {name}")
    return name in orders.revoked, orders.allowed.get(name, member.allowance)


def is_claimed(files: RunLayout) -> bool:
    """Return whether a worker has ever claimed the run directory."""
    return any(parse_generation(name) is not None for name in names_in(files.generations))


def write_again(study: StudyContext, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Write run.json again where it is lost, damaged or edited.

    Directories that are missing, or of another user or another run, stay unchanged. Return the runs whose run.json was
    written.
    """
    lost = [run for run in with_directory(study, runs) if _is_lost(study.layout.run(run.name), run)]
    write_run_files(study, lost)
    return lost


def write_run_files(study: StudyContext, runs: Iterable[RunRecord]) -> None:
    """Write run.json into the directories of runs."""
    write_many({study.layout.run(run.name).config: json_text(run_file_of(run)) for run in runs})


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


def put_back(ledger: Ledger, study: StudyContext) -> list[str]:
    """Write lost files of submissions whose jobs may still run, and lost orders that revoke one.

    Return what was done, one line for each file.
    """
    filed = names_in(study.layout.submissions)
    with ledger.transaction() as transaction:
        unsettled = transaction.members()
        tokens = {member.token for member in unsettled}
        lost = {token for token in tokens if study.layout.submission(token).name not in filed}
        members = [each for each in (transaction.members(unsettled=False) if lost else ()) if each.token in lost]
        revoked = [member for member in unsettled if member.state is MemberState.REVOKED]
        if not lost and not revoked:
            return []
        runs = {run.id: run for run in transaction.find_runs({member.run_id for member in (*members, *revoked)})}
        reserved = transaction.reservations()
        steps = {run_id: reserved[run_id].training for run_id in reserved if run_id in runs and runs[run_id].rates}
        gpu = gpu_allowances(transaction, study, list(runs.values()))
    told = []
    for token, own in _by_token((member.token, member) for member in members).items():
        if all(study.layout.run(runs[member.run_id].name).is_older for member in own):
            told += _put_back_marks(study, own, runs, steps)  # an older release submitted it, without a file
            continue
        gone = [runs[member.run_id].name for member in own if member.state is MemberState.REVOKED]
        write_submission(study, token, [runs[member.run_id] for member in own], steps, gpu, gone)
        told.append(f"{study.layout.submission(token)} was missing and was written again")
    for token, own in _by_token((member.token, member) for member in revoked).items():
        names = [runs[member.run_id].name for member in own]
        with suppress(FileNotFoundError), study.layout.submission(token).open("rb") as stream:
            known = read_orders(stream)[0].revoked
            revoke(study, [(token, name) for name in names if name not in known])
    return told


def _by_token(pairs: Iterable[tuple[str, _OfToken]]) -> Mapping[str, list[_OfToken]]:
    found: dict[str, list[_OfToken]] = defaultdict(list)
    for token, each in pairs:
        found[token].append(each)
    return found


def _put_back_marks(
    study: StudyContext, members: Iterable[Member], runs: Mapping[str, RunRecord], steps: Mapping[str, int]
) -> list[str]:
    told = []
    for member in members:
        name = runs[member.run_id].name
        files = study.layout.run(name)
        path = files.revoked / member.token if member.state is MemberState.REVOKED else files.allowance
        is_needed = member.state is MemberState.REVOKED or (member.state is MemberState.LIVE and member.run_id in steps)
        if not is_needed or path.exists() or is_foreign(files.root):
            continue
        if path == files.allowance:
            _allow_in_directories(study, {name: steps[member.run_id]})
        else:
            _mark_revoked(files, member.token)
        told.append(f"{name}: {path} was missing and was written again")
    return told
