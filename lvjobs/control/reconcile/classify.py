"""The cause of an attempt's end, and the evidence for it. Pure.

The journal is the record of what ran; Slurm's states are hints. A job whose grace once ran out keeps its flag, and its
next execution is reported as PREEMPTED however it ended. So PREEMPTED alone proves nothing. If the worker could not
ask Slurm why it was signalled, its journal says `unknown`, and Slurm's state of that execution decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lvjobs.cluster.protocol import Job
from lvjobs.cluster.states import Ending
from lvjobs.ledger.records import AttemptRecord
from lvjobs.records.failure import RULES
from lvjobs.study.words import Cause, LeaveCause

_SLURM_CAUSES = {
    Ending.CANCELLED: Cause.CANCELLED,
    Ending.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    Ending.NODE_FAILED: Cause.NODE_FAIL,
    Ending.TIMED_OUT: Cause.TIMEOUT,
}
_LEAVE_CAUSES = {
    LeaveCause.PREEMPTED: Cause.PREEMPTED,
    LeaveCause.TIMEOUT: Cause.TIMEOUT,
    LeaveCause.CANCELLED: Cause.CANCELLED,
    LeaveCause.STOPPED: Cause.PREEMPTED,
}

_TIME_LIMIT = ("SIGUSR2", "deadline", "")
"""Signals that announce the time limit; a worker's own deadline is `deadline`."""


@dataclass(frozen=True)
class Failure:
    """The cause of an attempt's end, and the evidence in words."""

    cause: Cause
    evidence: str

    @property
    def words(self) -> str:
        """Return the cause and the evidence, as one text."""
        return f"{self.cause.value}: {self.evidence}"


def execution(history: Sequence[Job], restart_count: int) -> Job | None:
    """Return accounting's row of a job's execution number `restart_count`; `history` has its rows, oldest first.

    None if accounting has no such row, or is late and shows the execution as running.
    """
    row = history[restart_count] if restart_count < len(history) else None
    return row if row is not None and row.has_run else None


def classify(attempt: AttemptRecord, job: Job | None, *, flag_is_stale: bool = False) -> Failure:
    """Return why an attempt that claimed a generation ended.

    Args:
        attempt: The attempt, as its journal shows it.
        job: Slurm's record of that execution; None if there is none, or if Slurm only shows the job back in the queue.
        flag_is_stale: An earlier execution of the same job was killed at the end of its grace.
    """
    if attempt.finished:
        return Failure(Cause.COMPLETED, "the journal says done")
    if attempt.error and not attempt.died:
        return Failure(Cause.CODE_ERROR, attempt.error)
    if attempt.leave_cause is LeaveCause.EXHAUSTED:
        return Failure(Cause.CANCELLED, f"stopped at step {attempt.step}: its reservation is used up")
    if attempt.leave_cause is LeaveCause.RUNG:
        return Failure(Cause.COMPLETED, f"stopped at step {attempt.step}, where its stage compares its runs")
    if attempt.leave_cause in _LEAVE_CAUSES:
        detail = _left(attempt)
        if attempt.leave_action == "requeued":
            detail += " and put itself back in the queue"
        return Failure(_LEAVE_CAUSES[attempt.leave_cause], detail)
    if attempt.died:
        return _broke_down(attempt)
    if attempt.leave_cause is LeaveCause.SUPERSEDED:
        return Failure(Cause.NODE_FAIL, "stopped, because a newer attempt is running")
    if job is None:
        if attempt.leave_cause is LeaveCause.UNKNOWN:
            return Failure(Cause.PREEMPTED, f"{_left(attempt)}, and Slurm shows no end of it")
        if attempt.signal:
            return Failure(Cause.PREEMPTED, f"got {attempt.signal} and was requeued by Slurm before it could stop")
        return Failure(Cause.NODE_FAIL, "was requeued by Slurm without a signal")
    return _by_slurm(attempt, job, flag_is_stale=flag_is_stale)


def classify_unclaimed(job: Job) -> Failure:
    """Return why an execution ended whose worker had claimed no generation."""
    causes = {**_SLURM_CAUSES, Ending.PREEMPTED: Cause.PREEMPTED}
    evidence = f"{describe(job)} before the worker started"
    if job.ending in causes:
        return Failure(causes[job.ending], evidence)
    return Failure(Cause.LAUNCH_FAILED, f"{evidence}; its log may show the cause")


def _by_slurm(attempt: AttemptRecord, job: Job, *, flag_is_stale: bool) -> Failure:
    said = describe(job)
    if job.ending in _SLURM_CAUSES:
        return Failure(_SLURM_CAUSES[job.ending], f"{said}; last step {attempt.step}")
    if attempt.leave_cause is LeaveCause.UNKNOWN:
        cause = Cause.TIMEOUT if attempt.signal in _TIME_LIMIT else Cause.PREEMPTED
        is_shown = job.ending in (Ending.PREEMPTED, Ending.REQUEUED)
        return Failure(
            Cause.PREEMPTED if is_shown else cause, f"{said}; {_left(attempt)}, and could not ask Slurm for the reason"
        )
    if job.ending in (Ending.PREEMPTED, Ending.REQUEUED) and (attempt.signal or not flag_is_stale):
        return Failure(Cause.PREEMPTED, f"{said} {'after ' + attempt.signal if attempt.signal else 'without a signal'}")
    return Failure(Cause.KILLED, f"{said}, and the journal stops at step {attempt.step}")


def _broke_down(attempt: AttemptRecord) -> Failure:
    rule = RULES.get(attempt.died)
    if rule is None:
        cause, what = Cause.KILLED, f"its process ended ({attempt.exit_status}) in a job that other runs share"
    else:
        cause, what = rule.cause, rule.words + (f" on node {attempt.failed_node}" if attempt.failed_node else "")
    said = "".join(f": {line}" for line in attempt.error.splitlines()[:1])
    return Failure(cause, f"{what}{said}; last step {attempt.step}")


def _left(attempt: AttemptRecord) -> str:
    return f"stopped at step {attempt.step} after {attempt.signal or 'its own deadline'}"


def describe(job: Job) -> str:
    """Return Slurm's state, exit code and nodes of a job, as one text."""
    code = f", exit {job.exit_code}:{job.exit_signal or 0}" if job.exit_code is not None else ""
    where = f" on {job.nodes}" if job.nodes and job.nodes != "(null)" else ""
    return f"job {job.state}{code}{where}"
