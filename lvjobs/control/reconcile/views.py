"""The facts about one run on which a pass decides: the ledger's rows, Slurm's states, the worker's records. Frozen.

`with_packs` adds the facts about other runs that share its job. Pure.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lvjobs.cluster.protocol import Job
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord
from lvjobs.records.run_files import Done
from lvjobs.study.words import MemberState, RunState


@dataclass(frozen=True)
class MemberView:
    """A run's place in one submission, with Slurm's state of its job.

    `queue_known`: the scheduler answered, so a `job` of None means that the queue does not have it. `history` (oldest
    first) is empty if accounting has no row of the job; `history_known` is False if accounting exists and did not
    answer.

    The other fields are about a job that several runs share. `is_needed`: other runs still need the job, so lvjobs does
    not cancel it. Only somebody else cancels a shared job in which a run has a live place. `grown` is when the journal
    of any run in the job last grew, in seconds since the epoch. `trained` is, by restart count, how many runs the
    execution began to train. `left`: this run's worker is gone.
    """

    member: Member
    submission: SubmissionRecord
    job: Job | None
    history: Sequence[Job]
    queue_known: bool
    history_known: bool
    is_needed: bool = False
    grown: float = 0.0
    trained: Mapping[int, int] = field(default_factory=dict)
    left: bool = False

    @property
    def job_id(self) -> str:
        """Return the job id for scancel: as Slurm reports it, else from the ledger; empty if none is known."""
        if self.job is not None:
            return self.job.id
        return self.history[-1].id if self.history else self.submission.job_of(self.member.member) or ""

    def sharing(self, restart_count: int) -> int:
        """Return how many runs an execution began to train; always 1 if the run has its job for itself."""
        return self.trained.get(restart_count, 0) if self.submission.packed else 1

    def is_shared(self, job: Job) -> bool:
        """Return whether several runs share the job, and this execution has begun to train at least one of them."""
        return self.submission.packed and self.sharing(job.restart_count or 0) > 0

    @property
    def last_word(self) -> Job | None:
        """Return the job as the queue has it; if the queue no longer has it, accounting's last row, if that is an end.

        None if the queue did not answer: a job that was requeued and waits there is an ended one in accounting. None
        too if a controller that lost its state had accounting end all jobs (`flushed`): nobody knows how they ended.
        """
        if self.job is not None or not self.queue_known:
            return self.job
        last = self.history[-1] if self.history else None
        return last if last is not None and last.is_ended and not last.flushed else None

    def is_marked(self, now: float) -> bool:
        """Return whether an earlier pass found the job missing. A mark from a clock ahead of `now` does not count."""
        return self.member.missing_since is not None and self.member.missing_since <= now

    def is_gone(self, now: float, patience: float) -> bool:
        """Return whether the job is over, or has been missing for at least `patience` seconds."""
        if self.left:
            return True
        if self.last_word is not None:
            return self.last_word.is_ended
        since = self.member.missing_since
        return self.queue_known and since is not None and now - since >= patience


@dataclass(frozen=True)
class RunView:
    """One open run. `attempts` (oldest first) include what this pass read from the journals; new ones have id 0.

    `live` is its live submission, `others` its revoked ones whose jobs may still exist.
    """

    run: RunRecord
    attempts: Sequence[AttemptRecord]
    changed: frozenset[int | None]
    """Generations whose journals grew since the last pass."""
    live: MemberView | None
    others: Sequence[MemberView]
    done: Done | None
    after: RunRecord | None = None
    """The run that has to be completed before this one is submitted."""
    unseen_until: float | None = None
    """Its worker has ended. What it wrote last may not be seen here before this time (seconds since the epoch)."""
    news: Sequence[str] = ()
    """Lines on attempts that this pass saw run with other software than before."""

    @property
    def places(self) -> Sequence[MemberView]:
        """Return the live place and the revoked ones."""
        return self.others if self.live is None else [self.live, *self.others]

    @property
    def starting(self) -> list[AttemptRecord]:
        """Return the attempt that a running job will make, whose worker has not begun yet: it holds its GPUs already.

        Empty if there is no such job, or if several runs share it.
        """
        job = self.live.job if self.live is not None and not self.live.submission.packed else None
        if job is None or self.live is None or not job.is_running or job.start is None:
            return []
        token, restart = self.live.member.token, job.restart_count or 0
        if any(attempt.execution == (token, restart) for attempt in self.attempts):
            return []
        return [AttemptRecord(0, self.run.id, token, job.id, restart, started=job.start)]


def with_packs(
    views: Sequence[RunView], known: Iterable[AttemptRecord], unread: Collection[Member] = ()
) -> list[RunView]:
    """Return the views, with the facts about the others in each place that belongs to a shared job.

    Args:
        views: The runs that this pass could read.
        known: The ledger's attempts in shared jobs, also of runs that no longer have a view.
        unread: The places of unfinished runs whose directories this pass could not read. Their jobs are needed too.
    """
    places = [(view, place) for view in views for place in view.places if place.submission.packed]
    if not places:
        return list(views)
    waiting: dict[str, set[str]] = defaultdict(set)
    for view, place in places:
        if place.member.state is MemberState.LIVE and view.done is None and view.run.state is not RunState.COMPLETED:
            waiting[place.member.token].add(view.run.id)
    for member in unread:
        if member.state is MemberState.LIVE:
            waiting[member.token].add(member.run_id)
    attempts = {(each.run_id, each.token, each.generation, each.restart_count): each for each in known}
    for view in views:
        attempts |= {(view.run.id, each.token, each.generation, each.restart_count): each for each in view.attempts}
    by_token: dict[str, list[AttemptRecord]] = defaultdict(list)
    for attempt in attempts.values():
        by_token[attempt.token].append(attempt)
    return [_with_packs(view, waiting, by_token) for view in views]


def _with_packs(
    view: RunView, waiting: Mapping[str, set[str]], by_token: Mapping[str, Sequence[AttemptRecord]]
) -> RunView:
    def with_pack(place: MemberView) -> MemberView:
        if not place.submission.packed:
            return place
        token, run_id = place.member.token, view.run.id
        attempts = by_token.get(token, ())
        executions: dict[int, set[str]] = defaultdict(set)
        for attempt in attempts:
            if attempt.generation is not None:
                executions[attempt.restart_count].add(attempt.run_id)
        own = [attempt for attempt in view.attempts if attempt.token == token]
        return replace(
            place,
            is_needed=bool(waiting.get(token, set()) - {run_id}),
            grown=max((attempt.grown for attempt in attempts), default=0.0),
            trained={restart: len(runs) for restart, runs in executions.items()},
            # under a revoked token the worker is never started again, even if the job still runs
            left=place.member.state is MemberState.REVOKED and bool(own) and own[-1].is_over,
        )

    live = with_pack(view.live) if view.live else None
    return replace(view, live=live, others=[with_pack(place) for place in view.others])
