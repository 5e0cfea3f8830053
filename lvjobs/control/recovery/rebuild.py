"""`lvjobs ledger rebuild`: runs.db made anew from its log, run directories, and the scheduler's records of their jobs.

The log has all that runs.db had. Run directories supply what is newer than the log, and what an older release, which
kept no log, has left. Nothing is submitted, revoked or cancelled here. The next pass follows the jobs that have not
ended, under the tokens with which they were submitted. If the scheduler does not know a job, that pass submits the run
again.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from lvjobs import remedies
from lvjobs.cluster.backends import BACKENDS, backend_of
from lvjobs.cluster.protocol import Snapshot
from lvjobs.cluster.sent import SentJob, sent_jobs
from lvjobs.cluster.templates import located_profile
from lvjobs.control.budget.limit import note_limit
from lvjobs.control.reconcile.observe import Known, take_snapshots
from lvjobs.control.recovery.audit import foreign
from lvjobs.control.recovery.place import restore_place
from lvjobs.control.recovery.recover import Recovered, read_on, recover
from lvjobs.control.session import ClusterFactory, held_study
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import fsync_directory, is_foreign
from lvjobs.ledger.copies import put_aside
from lvjobs.ledger.database import Ledger, open_ledger
from lvjobs.ledger.records import Event
from lvjobs.ledger.replay import Replayed, replay
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.submission import read_members
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.words import MemberState, RunState
from lvjobs.tasks.code_copies import find_tasks, snapshot_code


@dataclass(frozen=True)
class Rebuilt:
    """The result of a rebuild. `lost` are lines on what was not restored; `aside` are the paths of the old ledger."""

    runs: int = 0
    attempts: int = 0
    jobs: int = 0
    lost: Sequence[str] = ()
    notes: Sequence[str] = ()
    aside: Sequence[Path] = field(default=())

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form (docs/json.md)."""
        return {**asdict(self), "aside": [str(path) for path in self.aside]}


def rebuild(study: StudyContext, factory: ClusterFactory, *, wait: float, aside: bool, now: float) -> Rebuilt:
    """Make the ledger anew from the run directories. `aside`: rename an existing ledger first.

    `wait` is how many seconds to wait for the lease. `now` is in seconds since the epoch.

    Raises:
        UsageError: there is a ledger and `aside` is not set, or there is no run directory.
        LeaseTaken: another process holds the lease for longer than `wait` seconds.
    """
    path = study.layout.database
    with held_study(study, wait=wait) as lease:
        if path.exists() and path.stat().st_size and not aside:
            raise UsageError(
                f"{path} is there, and is left alone; see {remedies.LEDGER_CHECK(*study.where)}, or put it aside "
                f"and make another from the run directories: {remedies.LEDGER_REBUILD_ASIDE(*study.where)}"
            )
        new = path.with_name(f".{path.name}.rebuilt")
        _remove(new)
        try:
            replayed = replay(study.layout.ledger_log, new)
            with closing(open_ledger(new, lease.number, where=study.where)) as made:
                result = _restore(study, made, replayed, factory, now)
            word = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
            moved = put_aside(path, word)
            new.rename(path)
            fsync_directory(path.parent)
        finally:
            _remove(new)
        log = study.layout.ledger_log
        if replayed is not None and replayed.problem:
            moved.append(log.rename(log.with_name(f"{log.name}.{word}.aside")))
        with closing(open_ledger(path, lease.number, log, study.where)) as made:
            made.call(Transaction.runs)  # the first transaction writes the log anew
    return replace(result, aside=moved)


def _restore(
    study: StudyContext, ledger: Ledger, replayed: Replayed | None, factory: ClusterFactory, now: float
) -> Rebuilt:
    """Add to a replayed (or empty) ledger what run directories and schedulers have beyond it."""
    log, lost = study.layout.ledger_log, []
    if replayed is not None and replayed.problem:
        lost.append(f"{log} is damaged ({replayed.problem}): what the ledger had after its commit {replayed.commit}")
    config = study.config.model_copy(update={"profile": located_profile(study.config.profile, study.root)})
    sent = _sent(study, backend_of(config.profile).name, lost)
    with ledger.transaction() as transaction:
        known = transaction.runs()
        found = _recover_all(study, config, {run.name for run in known}, sent, lost, now)
        found = list(_once(found, transaction, lost))
        if not found and replayed is None:
            reasons = f" ({'; '.join(lost)})" if lost else ""
            raise UsageError(
                f"{study.layout.checkpoints} holds no run directory to make a ledger from{reasons}; name the study "
                "with --study"
            )
        _fill(transaction, found, now)
        lost += read_on(transaction, study.layout, sent.jobs, now)
    snapshots, notes = _query(study, ledger, factory)
    with ledger.transaction() as transaction:
        _name_jobs(transaction, snapshots)
        note_limit(transaction, study.config.budget.limit, now)
        restore_place(transaction, study.layout)
        transaction.add_event(Event(now, "rebuilt", "the ledger was made anew from its log and the run directories"))
        runs, attempts = len(transaction.runs()), len(transaction.attempts())
    jobs = sum(len(snapshot.queue or ()) for snapshot in snapshots.values())
    lost += [f"{each.run.name}: {what}" for each in found for what in each.lost]
    if replayed is None:
        lost += _of_the_study(study, found)
    return Rebuilt(runs, attempts, jobs, lost, notes)


def _remove(path: Path) -> None:
    for each in (path, path.with_name(path.name + "-journal")):
        each.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Sent:
    """All submissions that have left files: those that name a run, and its run.json's content, by the run's name."""

    jobs: Mapping[str, Sequence[SentJob]]
    runs: Mapping[str, Mapping[str, Any]]


def _sent(study: StudyContext, backend: str, lost: list[str]) -> _Sent:
    """Read submissions' files and the backends' own. Add lines on files that cannot be read to `lost`.

    A submission whose script is gone was sent to `backend`, and its members are in the order of their names.
    """
    layout = study.layout
    runs: dict[str, Mapping[str, Any]] = {}
    jobs = {job.token: job for job in sent_jobs(layout.local_jobs, layout.submissions)}
    for path in layout.submissions.glob("*.jsonl"):
        try:
            with path.open("rb") as stream:
                members = {member.name: member.run for member in read_members(stream)}
        except (OSError, ValueError, TypeError, KeyError) as error:
            lost.append(f"{path} cannot be read ({error})")
            continue
        runs |= members
        directories = tuple(layout.run(name).root for name in members)
        jobs.setdefault(path.stem, SentJob(path.stem, backend, directories, path.stat().st_mtime))
    by_name = defaultdict(list)
    for job in jobs.values():
        for directory in job.run_directories:
            by_name[directory.name].append(job)
    return _Sent(by_name, runs)


def _recover_all(
    study: StudyContext, config: StudyConfig, known: Collection[str], sent: _Sent, lost: list[str], now: float
) -> list[Recovered]:
    """Return the runs of unknown run directories and submissions in the order of their declaration.

    Add lines on the directories that were skipped to `lost`.
    """
    layout, found = study.layout, []

    @cache
    def code(task: str) -> str:
        find_tasks(study.root, [task])
        return snapshot_code(layout.code, task).name

    names = {path.parent.name for path in layout.checkpoints.glob("*/run.json")} | sent.runs.keys()
    for name in sorted(names - set(known)):
        files = layout.run(name)
        if is_foreign(files.root):
            lost.append(foreign(name, files.root).what)
            continue
        try:
            found.append(recover(files, sent.runs.get(name), config, sent.jobs.get(name, ()), code, now))
        except LvjobsError as error:
            lost.append(str(error))
    return sorted(found, key=lambda each: (each.run.ordinal or 10**9, each.run.created))


def _once(found: Sequence[Recovered], transaction: Transaction, lost: list[str]) -> Iterator[Recovered]:
    """Yield each run once, and no attempt's id twice: both are keys of the ledger. Add other directories to `lost`."""
    runs = {run.id for run in transaction.runs()}
    ids = {attempt.id for attempt in transaction.attempts()}
    for each in found:
        if each.run.id in runs:
            lost.append(f"{each.run.name}: another directory is of the same run")
            continue
        runs.add(each.run.id)
        attempts = [replace(one, id=0) if one.id in ids else one for one in each.memo.attempts]
        ids.update(one.id for one in attempts if one.id)
        yield replace(each, memo=replace(each.memo, attempts=attempts))


def _query(study: StudyContext, ledger: Ledger, factory: ClusterFactory) -> tuple[Mapping[str, Snapshot], list[str]]:
    """Return the schedulers' records of jobs with this study's tokens, and lines on schedulers that do not answer."""
    with ledger.transaction() as transaction:
        members = transaction.members()
        submissions = {one.token: one for one in transaction.submissions()}
    clusters = {
        backend: factory(study, BACKENDS[backend].watcher) for backend in {one.backend for one in submissions.values()}
    }
    snapshots = take_snapshots(Known((), {}, submissions, members), clusters)
    problems = [snapshot.problem for snapshot in snapshots.values() if snapshot.problem]
    return snapshots, [f"{problem}; the next pass that is answered looks again" for problem in problems]


def _fill(transaction: Transaction, found: Sequence[Recovered], now: float) -> None:
    """Write all rows of these runs."""
    transaction.add_runs([each.run for each in found])
    known = {one.token for one in transaction.submissions(unsettled=False)}
    submissions = {one.token: one for each in found for one in each.memo.submissions if one.token not in known}
    for one in sorted(submissions.values(), key=lambda submission: submission.created):
        transaction.add_submission(one, ())
    stages = defaultdict(list)
    for each in found:
        transaction.add_members(each.memo.members)
        if each.memo.reservation is not None:
            transaction.reserve({each.run.id: each.memo.reservation})
        for stage, position in each.memo.cells.items():
            stages[stage].append((position, each.run.id))
    for stage, cells in stages.items():
        transaction.add_cells(stage, [run_id for _, run_id in sorted(cells)])
    attempts = [attempt for each in found for attempt in each.memo.attempts]
    transaction.save_attempts(sorted(attempts, key=lambda one: (not one.id, one.id)))
    for each in found:
        transaction.add_event(Event(now, "rebuilt", "restored from its directory", each.run.id))


def _name_jobs(transaction: Transaction, snapshots: Mapping[str, Snapshot]) -> None:
    """Note the jobs that schedulers have under the tokens of submissions without a job, and how their runs stand."""
    known = [job for each in snapshots.values() for job in (*(each.history or ()), *(each.queue or ()))]
    jobs = {job.token: job.id.partition("_")[0] for job in known}
    named = set()
    for submission in transaction.submissions():
        if submission.job_id is None and submission.token in jobs:
            transaction.update_submission(submission.token, job_id=jobs[submission.token])
        if submission.job_id or submission.token in jobs:
            named.add(submission.token)
    live = {
        member.run_id for member in transaction.members() if member.token in named and member.state is MemberState.LIVE
    }
    tried = {attempt.run_id for attempt in transaction.attempts(sorted(live))}
    for run in transaction.find_runs(live):
        if run.state is RunState.SUBMITTING:
            state = RunState.INTERRUPTED if run.id in tried else RunState.QUEUED
            transaction.update_run(run.id, state=state)


def _of_the_study(study: StudyContext, found: Sequence[Recovered]) -> Iterator[str]:
    """Yield lines on what no run directory records, as far as this study had it."""
    stages = {stage for each in found for stage in each.memo.cells} | {each.run.stage for each in found}
    for stage in study.config.stage:
        if stage.name in stages:
            yield (
                f"stage {stage.name}: that it was asked for, with what, and its winner; a winner that was chosen by "
                f"hand, with the reason: {remedies.SWEEP_STAGE(*study.where, stage=stage.name)} asks for it again "
                f"(what is there is not trained again), then {remedies.SWEEP_WINNER(*study.where, stage=stage.name)}"
            )
            if stage.prune:
                yield f"stage {stage.name}: when its runs reported; which of them were paused for it is known"
    yield "the history: events, earlier limits and why they were changed; the limit is study.toml's"
    yield f"whether the driver was stopped, or refused by the site; to stop it: {remedies.DRIVER_STOP(*study.where)}"
