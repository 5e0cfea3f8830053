"""What a pass knows of one run when it decides: the ledger's rows, Slurm's word, the worker's records. Frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvjobs.cluster.protocol import Job
from lvjobs.ledger.records import AttemptRecord, Member, RunRecord, SubmissionRecord
from lvjobs.records.done import Done


@dataclass(frozen=True)
class PackView:
    """What a run that shares its job has to know of the others.

    `needed`: other runs still count on the job, so that lvjobs does not cancel it. Only somebody else cancels a shared
    job in which a run has a live place. `grown` is when any run's journal of it last grew. `sharing` is how many runs
    an execution (a restart count) was of, as far as it came to them. `left`: this run's worker is gone.
    """

    needed: bool
    grown: float
    sharing: Mapping[int, int]
    left: bool = False


@dataclass(frozen=True)
class MemberView:
    """A run's place in one submission, with what Slurm says of its job.

    `queue_known`: the scheduler answered, so a `job` of None means that the queue does not have it. `history` (oldest
    first) is empty where accounting knows nothing of it; `history_known` is False where accounting exists and did not
    answer. `pack` is None for a run that has its job for itself.
    """

    member: Member
    submission: SubmissionRecord
    job: Job | None
    history: Sequence[Job]
    queue_known: bool
    history_known: bool
    pack: PackView | None = None

    @property
    def job_id(self) -> str:
        """What scancel takes: from Slurm's own mouth where it spoke, else from the ledger."""
        if self.job is not None:
            return self.job.id
        return self.history[-1].id if self.history else self.submission.job_of(self.member.member) or ""

    @property
    def is_needed(self) -> bool:
        """Whether other runs still count on the job."""
        return self.pack is not None and self.pack.needed

    def sharing(self, restart_count: int) -> int:
        """How many runs an execution was of: 1 where the run has its job for itself, 0 where it came to none."""
        return 1 if self.pack is None else self.pack.sharing.get(restart_count, 0)

    def is_shared(self, job: Job) -> bool:
        """Return whether this execution of the job is a pack's, and has begun to train at least one of its runs."""
        return self.pack is not None and self.sharing(job.restart_count or 0) > 0

    @property
    def last_word(self) -> Job | None:
        """The queue's word, or, where the queue has forgotten the job, accounting's last.

        None where the queue did not answer: accounting calls a job ended that waits there to go on. Nor is it a word
        that a controller which lost its state had accounting end all jobs: they are as if nobody knew them.
        """
        if self.job is not None or not self.queue_known:
            return self.job
        last = self.history[-1] if self.history else None
        return last if last is not None and last.is_ended and not last.flushed else None

    def is_marked(self, now: float) -> bool:
        """Whether an earlier pass found its job nowhere. One of a clock that was ahead of this one is not believed."""
        return self.member.missing_since is not None and self.member.missing_since <= now

    def is_gone(self, now: float, patience: float) -> bool:
        """Whether the job is over, or has been nowhere for longer than `patience`."""
        if self.pack is not None and self.pack.left:
            return True
        if self.last_word is not None:
            return self.last_word.is_ended
        since = self.member.missing_since
        return self.queue_known and since is not None and now - since >= patience


@dataclass(frozen=True)
class RunView:
    """One open run. `attempts` (oldest first) hold what was read from the journals just now; new ones have id 0.

    `live` is its live submission, `others` those revoked ones whose jobs may still be somewhere.
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
