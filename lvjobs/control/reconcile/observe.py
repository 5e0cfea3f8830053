"""The observation of a pass: first Slurm's state of our jobs, then the new bytes of the workers' journals.

The order matters: a job that the snapshot shows as ended writes nothing more, so its journal is read to the end.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from lvjobs import remedies
from lvjobs.cluster.backends import BACKENDS
from lvjobs.cluster.out_of_memory import with_its_log
from lvjobs.cluster.protocol import Cluster, Job, Load, Snapshot
from lvjobs.control.reconcile.hang import grown_at
from lvjobs.control.reconcile.journal_fold import begin, fold
from lvjobs.control.reconcile.views import MemberView, RunView, with_packs
from lvjobs.files import is_foreign, names_in
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord
from lvjobs.ledger.storage import NETWORK_SECONDS, unseen_seconds
from lvjobs.records.journal import parse_entries
from lvjobs.records.run_files import Claim, Done, parse_generation
from lvjobs.records.software import drift_of, record_of
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.words import MemberState, RunState

_SACCT_MARGIN_SECONDS = 3600.0
"""The time before the oldest submission from which on sacct is queried, because the clocks of two hosts differ."""


@dataclass(frozen=True)
class Known:
    """The ledger's rows at the beginning of a pass: open runs, and runs with jobs that still have to end."""

    runs: Sequence[RunRecord]
    attempts: Mapping[str, Sequence[AttemptRecord]]
    submissions: Mapping[str, SubmissionRecord]
    members: Sequence[Member]
    before: Mapping[str, RunRecord] = field(default_factory=dict)
    """Runs that other runs wait for, by their ids."""
    packed: Sequence[AttemptRecord] = ()
    """Attempts in jobs that several runs share, while these jobs are still observed."""


@dataclass(frozen=True)
class Observed:
    """A view of each run that could be read, the problems in words, and the load of each backend's queue."""

    views: Sequence[RunView]
    problems: Sequence[str]
    loads: Mapping[str, Load | None] = field(default_factory=dict)
    drivers: Sequence[Job] | None = None
    """Jobs of the study's driver and its standby that run or wait; None if the queue was not read."""
    is_silent: bool = False
    """Whether a scheduler did not show its queue, so that the states of its jobs are those of an earlier update."""

    @property
    def waiting(self) -> dict[str, Job]:
        """Return the jobs that wait in the queue, by the id of their run."""
        live = {view.run.id: view.live.job for view in self.views if view.live is not None}
        return {run_id: job for run_id, job in live.items() if job is not None and job.is_pending}


def observe(
    known: Known,
    clusters: Mapping[str, Cluster],
    layout: StudyLayout,
    now: float,
    growing_from: float,
    driver: str = "",
    where: Sequence[str] = (),
) -> Observed:
    """Read the clusters' queues and accounting and the run directories, once.

    A run whose directory cannot be read has no view, but a problem.

    Args:
        known: The ledger's rows.
        clusters: One cluster for each backend that has a submission which is not settled.
        layout: The study's directories.
        now: The time of the pass, in seconds since the epoch.
        growing_from: Journals that have grown did so after this time.
        driver: The token of the study's driver; empty for none.
        where: `StudyContext.where`, for commands at the prompt.
    """
    snapshots = take_snapshots(known, clusters, driver)
    jobs = {name: (_by_member(each.queue), _by_member(each.history)) for name, each in snapshots.items()}
    places = defaultdict(list)
    for member in known.members:
        places[member.run_id].append(_member_view(member, known, snapshots, jobs, layout))
    views = []
    there = names_in(layout.checkpoints)
    problems = [snapshot.problem for snapshot in snapshots.values() if snapshot.problem]
    for run in known.runs:
        files = layout.run(run.name)
        try:
            if run.name in there and is_foreign(files.root):
                check = remedies.LEDGER_CHECK(*where)
                raise PermissionError(1, f"it belongs to another user, and so lvjobs does not use it; see: {check}")
            # A run directory is looked into only once it is listed (see `names_in`): its first worker makes it.
            names = names_in(files.root) if run.name in there else frozenset()
            files.note_names(names)
            views.append(_run_view(run, known, places[run.id], files, names, (growing_from, now)))
        except (OSError, ValueError, TypeError) as error:  # damage to one run must not stop the others
            problems.append(
                f"{run.name}: what its worker left in {files.root} cannot be read ({error}); the run was not changed"
            )
    unfinished = {run.id for run in known.runs if run.state is not RunState.COMPLETED} - {view.run.id for view in views}
    unread = [member for member in known.members if member.run_id in unfinished]
    views = with_packs(views, known.packed, unread)
    loads = {backend: snapshot.load for backend, snapshot in snapshots.items()}
    queues = [snapshot.queue for backend, snapshot in snapshots.items() if BACKENDS[backend].driver_profile]
    drivers = None
    if queues and None not in queues:
        drivers = [job for queue in queues for job in queue or () if job.token == driver]
    is_silent = any(snapshot.queue is None for snapshot in snapshots.values())
    return Observed(views, problems, loads, drivers, is_silent)


def take_snapshots(known: Known, clusters: Mapping[str, Cluster], driver: str = "") -> dict[str, Snapshot]:
    """Return a snapshot for each backend that the study has submissions on: of their jobs and of its driver."""
    snapshots, companions = {}, [driver] if driver else []
    for backend, cluster in clusters.items():
        sent = [submission for submission in known.submissions.values() if submission.backend == backend]
        if sent and not cluster.absent:
            since = min(submission.created for submission in sent) - _SACCT_MARGIN_SECONDS
            snapshots[backend] = cluster.observe([submission.token for submission in sent], since, companions)
    return snapshots


_ByMember: TypeAlias = Mapping[tuple[str, int], Sequence[Job]]
"""Jobs by their token and a member's index."""


def _by_member(jobs: Sequence[Job] | None) -> _ByMember:
    found: dict[tuple[str, int], list[Job]] = defaultdict(list)
    for job in jobs or ():
        found[job.token, job.member].append(job)
    return found


def _member_view(
    member: Member,
    known: Known,
    snapshots: Mapping[str, Snapshot],
    jobs: Mapping[str, tuple[_ByMember, _ByMember]],
    layout: StudyLayout,
) -> MemberView:
    submission = known.submissions[member.token]
    snapshot = snapshots.get(submission.backend)
    if snapshot is None:
        return MemberView(member, submission, None, (), queue_known=False, history_known=False)
    place = member.token, 0 if submission.packed else member.member
    queue, history = (each.get(place, ()) for each in jobs[submission.backend])
    job = next((job for job in queue if not job.is_ended), queue[-1] if queue else None)
    return MemberView(
        member=member,
        submission=submission,
        job=None if job is None else with_its_log(job, layout.logs),
        history=tuple(with_its_log(row, layout.logs) if row is history[-1] else row for row in history),
        queue_known=snapshot.queue is not None,
        history_known=snapshot.history is not None or not snapshot.accounting,
    )


def _run_view(
    run: RunRecord,
    known: Known,
    members: Sequence[MemberView],
    files: RunLayout,
    names: frozenset[str],
    growing: tuple[float, float],
) -> RunView:
    # The marker is read before the journals: then they hold all steps of a finished run, and all are charged
    # (on a network file system: once they are seen).
    done = read_done(files) if files.done.name in names else None
    if done is not None:
        names = names_in(files.root)  # an attempt may have claimed a generation, and finished, since the first listing
    before = known.attempts.get(run.id, ())
    news: list[str] = []
    attempts, changed = read_attempts(run.id, before, files, growing, names, news) if names else (before, frozenset())
    live = next((view for view in members if view.member.state is MemberState.LIVE), None)
    others = [view for view in members if view.member.state is MemberState.REVOKED]
    current = [attempt.token for attempt in attempts[-1:] if attempt.cause is None]
    place = live or next((view for view in others if view.member.token in current), None)
    unseen_until = _unseen_until(files, attempts, done, place, growing[1])
    return RunView(run, attempts, changed, live, others, done, known.before.get(run.after), unseen_until, news)


def _unseen_until(
    files: RunLayout, attempts: Sequence[AttemptRecord], done: Done | None, place: MemberView | None, now: float
) -> float | None:
    """Return `RunView.unseen_until`: None if the worker still runs, or its journal has its closing line."""
    word = None if place is None else place.last_word
    if done is not None:
        is_read = any(attempt.generation == done.generation and attempt.step >= done.step for attempt in attempts)
        ended: float | None = done.time
    elif place is not None and word is not None and word.is_ended:
        execution = place.member.token, word.restart_count or 0
        is_read = any(attempt.execution == execution and attempt.has_last_word for attempt in attempts)
        ended = word.end
    else:
        return None
    if is_read or ended is None or abs(now - ended) >= NETWORK_SECONDS:
        return None
    seconds = unseen_seconds(files.study.root)
    return ended + seconds if now < ended + seconds else None


def read_attempts(
    run_id: str,
    known: Sequence[AttemptRecord],
    files: RunLayout,
    growing: tuple[float, float],
    names: Collection[str] | None = None,
    news: list[str] | None = None,
) -> tuple[Sequence[AttemptRecord], frozenset[int | None]]:
    """Return the run's attempts, oldest first, after reading its journals, and the generations whose journals grew.

    The journals grew between the two times of `growing`. `names`: see `read_claims`. Lines on attempts that ran with
    other software than before are added to `news`.

    Raises:
        OSError: A file cannot be read.
        ValueError, TypeError: A claim or a journal entry has an invalid value.
    """
    by_generation = {attempt.generation: attempt for attempt in known if attempt.generation is not None}
    attempts = [attempt for attempt in known if attempt.generation is None]
    changed = set()
    for claim in read_claims(files, known=by_generation.keys(), names=names):
        by_generation[claim.generation] = begin(claim, run_id, grown_at(claim.time, *growing))
    for generation, attempt in by_generation.items():
        entries, consumed = parse_entries(read_from(files.journal(generation), attempt.journal_offset))
        if consumed:
            changed.add(generation)
        if news is not None and (record := record_of(entries)):
            news += drift_of(generation, record)
        said = entries[-1].time if entries else attempt.grown
        attempts.append(fold(attempt, entries, consumed, grown_at(said, *growing)))
    # the ledger's rows in their order, then the new ones (id 0), by generation
    attempts.sort(key=lambda attempt: (attempt.id == 0, attempt.id, attempt.generation or 0))
    return attempts, frozenset(changed)


def read_claims(files: RunLayout, *, known: Collection[int], names: Collection[str] | None = None) -> list[Claim]:
    """Return the claims of the generations that are not `known`, in order.

    `names` are those in the run directory; None if it was not listed.
    """
    if names is None or files.is_older:
        names = names_in(files.generations)
    numbers = {parse_generation(name) for name in names} - {None, *known}
    return [Claim.read(files.generation(number)) for number in sorted(number for number in numbers if number)]


def read_done(files: RunLayout) -> Done | None:
    """Return the run's done marker; None if the run is not finished."""
    try:
        return Done.from_json(files.done.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def read_from(path: Path, offset: int = 0) -> bytes:
    """Return the bytes of a file from `offset` on; none if the file is missing."""
    try:
        if path.stat().st_size <= offset:
            return b""
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read()
    except FileNotFoundError:
        return b""
