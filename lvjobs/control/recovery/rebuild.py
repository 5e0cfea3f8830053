"""`lvjobs ledger rebuild`: runs.db rebuilt from its log, run directories, and the scheduler's records of their jobs.

The log has all that runs.db had. Run directories supply what is newer than the log, and what an older release, which
kept no log, has left. Nothing is submitted, revoked or cancelled here. The next pass finds the jobs that have not
ended by the tokens with which they were submitted, and follows them. If the scheduler does not know a job, that pass
submits the run again.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
from lvjobs.control.budget.limit import note_limits
from lvjobs.control.reconcile.observe import Known, take_snapshots
from lvjobs.control.recovery.place import restore_place
from lvjobs.control.recovery.recover import BackupRecord, read_on, recover
from lvjobs.control.session import ClusterFactory, held_study
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.files import fsync_directory
from lvjobs.ledger.copies import put_aside
from lvjobs.ledger.database import Ledger, open_ledger
from lvjobs.ledger.records import Event
from lvjobs.ledger.replay import Replayed, replay
from lvjobs.ledger.transaction import Transaction
from lvjobs.records.submission import read_members
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.run import RunConfig
from lvjobs.tasks.code_copies import ProgramFiles, find_tasks, snapshot_code
from lvjobs.tasks.registry import program_files


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
    """Rebuild the ledger from the run directories. `aside`: rename an existing ledger first.

    `wait` is how many seconds to wait for the lease. `now` is in seconds since the epoch.

    Raises:
        UsageError: there is a ledger and `aside` is not set, or there is no run directory.
        LeaseTaken: another process holds the lease for longer than `wait` seconds.
    """
    path = study.layout.database
    with held_study(study, wait=wait) as lease:
        if path.exists() and path.stat().st_size and not aside:
            raise UsageError(
                f"{path} exists and was not changed; see {remedies.LEDGER_CHECK(*study.where)}, or rename it and "
                f"rebuild it from the run directories: "
                f"{remedies.LEDGER_REBUILD_ASIDE(*study.where)}"
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
    sent, filed = _sent(study, backend_of(config.profile).name, lost)
    with ledger.transaction() as transaction:
        found = _recover_all(study, config, transaction, filed, lost, now)
        if not found and replayed is None:
            reasons = f" ({'; '.join(lost)})" if lost else ""
            raise UsageError(
                f"{study.layout.checkpoints} has no run directories to rebuild runs.db from{reasons}; name the study "
                "with --study"
            )
        _fill(transaction, found, now)
        lost += read_on(transaction, study.layout, sent, now)
    snapshots, notes = _query(study, ledger, factory)
    with ledger.transaction() as transaction:
        note_limits(transaction, study.config.budget, now)
        restore_place(transaction, study.layout)
        transaction.add_event(Event(now, "rebuilt", "the ledger was rebuilt from its log and the run directories"))
        runs, attempts = len(transaction.runs()), len(transaction.attempts())
    jobs = sum(len(snapshot.queue or ()) for snapshot in snapshots.values())
    if replayed is None:
        lost += _of_the_study(study, found)
    return Rebuilt(runs, attempts, jobs, lost, notes)


def _remove(path: Path) -> None:
    for each in (path, path.with_name(path.name + "-journal")):
        each.unlink(missing_ok=True)


def _sent(
    study: StudyContext, backend: str, lost: list[str]
) -> tuple[Mapping[str, Sequence[SentJob]], Mapping[str, Mapping[str, Any]]]:
    """Return the submissions that have left files, and the content of run.json in these, both by the run's name.

    A submission whose script is gone was sent to `backend`, and its members are in the order of their names. Add lines
    on files that cannot be read to `lost`.
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
    return by_name, runs


def _recover_all(
    study: StudyContext,
    config: StudyConfig,
    transaction: Transaction,
    filed: Mapping[str, Mapping[str, Any]],
    lost: list[str],
    now: float,
) -> list[BackupRecord]:
    """Return the runs that only run directories and submissions (`filed`) have, in the order of their declaration.

    Each run, and each attempt's id, is there once: both are keys of the ledger. Add lines on the directories that were
    skipped to `lost`.
    """
    layout, found = study.layout, []

    @cache
    def snapshot(task: str, program: ProgramFiles | None) -> str:
        find_tasks(study.root, [task])
        return snapshot_code(layout.code, task, program).name

    def code(config: RunConfig) -> str:
        return snapshot(config.task, program_files(config, study.root))

    known = {run.id: run.name for run in transaction.runs()}
    attempt_ids = {attempt.id for attempt in transaction.attempts()}
    names = {path.parent.name for path in layout.checkpoints.glob("*/run.json")} | filed.keys()
    for name in sorted(names - set(known.values())):
        try:
            each = recover(layout.run(name), filed.get(name), config, code, lost, now)
        except LvjobsError as error:
            lost.append(str(error))
            continue
        if each.run.id in known:
            lost.append(f"{name}: another directory holds the same run")
            continue
        known[each.run.id] = name
        attempts = [replace(one, id=0) if one.id in attempt_ids else one for one in each.attempts]
        attempt_ids.update(one.id for one in attempts)
        found.append(replace(each, attempts=attempts))
    return sorted(found, key=lambda each: (each.run.ordinal or 10**9, each.run.created))


def _query(study: StudyContext, ledger: Ledger, factory: ClusterFactory) -> tuple[Mapping[str, Snapshot], list[str]]:
    """Return the schedulers' records of jobs with this study's tokens, and lines on schedulers that do not answer."""
    submissions = {one.token: one for one in ledger.call(Transaction.submissions)}
    clusters = {
        backend: factory(study, BACKENDS[backend].watcher) for backend in {one.backend for one in submissions.values()}
    }
    snapshots = take_snapshots(Known((), {}, submissions, ()), clusters)
    problems = [snapshot.problem for snapshot in snapshots.values() if snapshot.problem]
    return snapshots, [f"{problem}; the next update looks again" for problem in problems]


def _fill(transaction: Transaction, found: Sequence[BackupRecord], now: float) -> None:
    """Write all rows of these runs."""
    transaction.add_runs([each.run for each in found])
    known = {one.token for one in transaction.submissions(unsettled=False)}
    submissions = {one.token: one for each in found for one in each.submissions if one.token not in known}
    for one in sorted(submissions.values(), key=lambda submission: submission.created):
        transaction.add_submission(one, ())
    transaction.add_members([member for each in found for member in each.members])
    transaction.reserve({each.run.id: each.reservation for each in found if each.reservation is not None})
    for stage in sorted({stage for each in found for stage in each.cells}):
        cells = sorted((each.cells[stage], each.run.id) for each in found if stage in each.cells)
        transaction.add_cells(stage, [run_id for _, run_id in cells])
    attempts = [attempt for each in found for attempt in each.attempts]
    transaction.save_attempts(sorted(attempts, key=lambda one: (not one.id, one.id)))
    transaction.add_events([Event(now, "rebuilt", "restored from its directory", each.run.id) for each in found])


def _of_the_study(study: StudyContext, found: Sequence[BackupRecord]) -> Iterator[str]:
    """Yield lines on what no run directory records, as far as this study had it."""
    stages = {stage for each in found for stage in each.cells} | {each.run.stage for each in found}
    for stage in study.config.stage:
        if stage.name in stages:
            yield (
                f"stage {stage.name}: its request and winner (a winner chosen by hand also lost its reason): "
                f"{remedies.SWEEP_STAGE(*study.where, stage=stage.name)} submits it again (existing runs are not "
                f"trained again)"
                f", then {remedies.SWEEP_WINNER(*study.where, stage=stage.name)}"
            )
            if stage.prune and stage.prune.rule != "halving":  # its runs are compared again, with the same result
                yield f"stage {stage.name}: when its runs reported; which of them were paused for it is known"
    yield "the history: events, earlier limits and why they were changed; the limit is study.toml's"
    yield f"whether the driver was stopped, or refused by the site; to stop it: {remedies.DRIVER_STOP(*study.where)}"
