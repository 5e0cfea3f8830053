"""`lvjobs ledger rebuild`: runs.db made anew from the run directories, and from the scheduler's records of their jobs.

Nothing is submitted, revoked or cancelled here. The next pass follows the jobs that have not ended, under the tokens
with which they were submitted. If the scheduler does not know a job, that pass submits the run again.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from lvjobs import remedies
from lvjobs.cluster.backends import BACKENDS
from lvjobs.cluster.protocol import Snapshot
from lvjobs.cluster.sent import SentJob, sent_jobs
from lvjobs.cluster.templates import located_profile
from lvjobs.control.budget.charges import charges_of
from lvjobs.control.budget.limit import note_limit
from lvjobs.control.reconcile.observe import Known, take_snapshots
from lvjobs.control.recovery.audit import foreign
from lvjobs.control.recovery.backup import BackupWriter
from lvjobs.control.recovery.place import restore_place
from lvjobs.control.recovery.recover import Recovered, recover
from lvjobs.control.session import ClusterFactory, held_study
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import fsync_directory, is_foreign
from lvjobs.ledger.copies import put_aside
from lvjobs.ledger.database import open_ledger
from lvjobs.ledger.records import Event
from lvjobs.ledger.transaction import Transaction
from lvjobs.study.config import StudyContext
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
        found, lost = _recover_all(study, now)
        if not found:
            reasons = f" ({'; '.join(lost)})" if lost else ""
            raise UsageError(
                f"{study.layout.checkpoints} holds no run directory to make a ledger from{reasons}; name the study "
                "with --study"
            )
        snapshots, notes = _query(study, found, factory)
        new = path.with_name(f".{path.name}.rebuilt")
        _remove(new)
        try:
            made = open_ledger(new, lease.number, BackupWriter(study.layout), study.where)
            with made.transaction() as transaction:
                attempts = _fill(transaction, found, snapshots, now)
                note_limit(transaction, study.config.budget.limit, now)
                restore_place(transaction, study.layout)
                transaction.add_event(Event(now, "rebuilt", "the ledger was made anew from the run directories"))
            made.close()
            word = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
            moved = put_aside(path, word)
            new.rename(path)
            fsync_directory(path.parent)
        finally:
            _remove(new)
    jobs = sum(len(snapshot.queue or ()) for snapshot in snapshots.values())
    lost += [f"{each.run.name}: {what}" for each in found for what in each.lost]
    return Rebuilt(len(found), attempts, jobs, [*lost, *_of_the_study(study, found)], notes, moved)


def _remove(path: Path) -> None:
    for each in (path, path.with_name(path.name + "-journal")):
        each.unlink(missing_ok=True)


def _recover_all(study: StudyContext, now: float) -> tuple[list[Recovered], list[str]]:
    """Return the runs in the order of their declaration, and lines on the directories that were skipped."""
    layout = study.layout
    config = study.config.model_copy(update={"profile": located_profile(study.config.profile, study.root)})
    sent: dict[str, list[SentJob]] = defaultdict(list)
    for job in sent_jobs(layout.local_jobs, layout.submissions):
        for directory in job.run_directories:
            sent[directory.name].append(job)
    found, lost = [], []

    @cache
    def code(task: str) -> str:
        find_tasks(study.root, [task])
        return snapshot_code(layout.code, task).name

    for root in sorted(path.parent for path in layout.checkpoints.glob("*/run.json")):
        files = layout.run(root.name)
        if is_foreign(root):
            lost.append(foreign(root.name, root).what)
            continue
        try:
            found.append(recover(files, config, sent[root.name], code, now))
        except LvjobsError as error:
            lost.append(str(error))
    found.sort(key=lambda each: (each.run.ordinal or 10**9, each.run.created))
    return list(_once(found, lost)), lost


def _once(found: Sequence[Recovered], lost: list[str]) -> Iterator[Recovered]:
    """Yield each run once, and no attempt's id twice: both are keys of the ledger. Add other directories to `lost`."""
    runs: set[str] = set()
    ids: set[int] = set()
    for each in found:
        if each.run.id in runs:
            lost.append(f"{each.run.name}: another directory is of the same run")
            continue
        runs.add(each.run.id)
        attempts = [replace(one, id=0) if one.id in ids else one for one in each.memo.attempts]
        ids.update(one.id for one in attempts if one.id)
        yield replace(each, memo=replace(each.memo, attempts=attempts))


def _query(
    study: StudyContext, found: Sequence[Recovered], factory: ClusterFactory
) -> tuple[Mapping[str, Snapshot], list[str]]:
    """Return the schedulers' records of jobs with this study's tokens, and lines on schedulers that do not answer."""
    members = [member for each in found for member in each.memo.members if member.state is not MemberState.SETTLED]
    tokens = {member.token for member in members}
    submissions = {one.token: one for each in found for one in each.memo.submissions if one.token in tokens}
    clusters = {
        backend: factory(study, BACKENDS[backend].watcher) for backend in {one.backend for one in submissions.values()}
    }
    snapshots = take_snapshots(Known((), {}, submissions, members), clusters)
    problems = [snapshot.problem for snapshot in snapshots.values() if snapshot.problem]
    return snapshots, [f"{problem}; the next pass that is answered looks again" for problem in problems]


def _fill(transaction: Transaction, found: Sequence[Recovered], snapshots: Mapping[str, Snapshot], now: float) -> int:
    """Write all rows, and return the number of attempts."""
    known = [job for each in snapshots.values() for job in (*(each.history or ()), *(each.queue or ()))]
    jobs = {job.token: job.id.partition("_")[0] for job in known}
    transaction.add_runs([each.run for each in found])
    submissions = {
        one.token: replace(one, job_id=one.job_id or jobs.get(one.token))
        for each in found
        for one in each.memo.submissions
    }
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
    for attempt in sorted(attempts, key=lambda one: (not one.id, one.id)):
        transaction.add_attempt(attempt)
    for each in found:
        own = transaction.attempts([each.run.id])
        transaction.replace_charges({each.run.id: charges_of(each.run, own)})
        live = [submissions[member.token] for member in each.memo.members if member.state is MemberState.LIVE]
        if each.run.state is RunState.SUBMITTING and any(one.job_id for one in live):
            transaction.update_run(each.run.id, state=RunState.INTERRUPTED if own else RunState.QUEUED)
        transaction.add_event(Event(now, "rebuilt", "restored from its directory", each.run.id))
    return len(attempts)


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
