"""The decision how to stop: why the job was signalled, and whether it requeues itself (docs/slurm-behaviour.md).

    event                    job_state            preempt_time   restart count    decision
    preempted, in grace      RUNNING              set            mine             stop; Slurm requeues
      PreemptMode=CANCEL     RUNNING, PREEMPTED   set            mine             requeue itself
    preempted, GraceTime 0   PENDING, COMPLETING  set            mine + 1         stop; already requeued
    time limit               RUNNING, TIMEOUT     none           mine             requeue itself
    scancel                  CANCELLED, ...       none           mine             stop; a requeue would undo it
    node failure, orphan     PENDING, RUNNING     none           mine + 1         stop; it runs elsewhere
    scontrol gave no answer  unknown              unknown        unknown          stop; Slurm's final state decides

A requeue in grace, where Slurm requeues anyway, costs a needless execution. A requeue after scancel restarts a job that
the user ended. In doubt, nothing is requeued: the next reconcile pass finds `leave` in the journal and decides.
"""

from dataclasses import dataclass

from lvjobs.cluster import inside
from lvjobs.cluster.inside import JobView
from lvjobs.errors import LvjobsError
from lvjobs.study.words import LeaveCause
from lvjobs.worker import signals
from lvjobs.worker.environment import JobEnvironment

_LARGEST_SHARE = 0.1


@dataclass(frozen=True)
class Deadline:
    """The job's end (epoch seconds), its time limit and its lead (seconds): the run stops a lead before the end.

    This is for jobs that get no signal in time before their time limit.
    """

    end: float | None
    limit: float | None
    lead: float

    def has_come(self, now: float, needed: float) -> bool:
        """Return whether to stop at `now` (epoch seconds), with `needed` seconds for a step and a checkpoint kept free.

        The lead is at most a tenth of the limit, so that a short job still trains.
        """
        if self.end is None:
            return False
        lead = self.lead if self.limit is None else min(self.lead, self.limit * _LARGEST_SHARE)
        return now > self.end - max(lead, needed)


def deadline_of(environment: JobEnvironment, now: float) -> Deadline:
    """Return the deadline of a job whose attempt began `now` (epoch seconds), by its variables, or else by Slurm."""
    start, end = environment.start_time or now, environment.end_time
    if end is None and environment.on_slurm:
        with signals.shielded():
            job = inside.query_self(environment.job_id)
        if job is not None:
            start, end = job.start_time or start, job.end_time
    return Deadline(end=end, limit=None if end is None else end - start, lead=environment.lead_seconds)


DEADLINE = "deadline"
"""The signal that the worker raises itself: the time limit is near. It means the same as SIGUSR2."""

REVOKED = "revoked"
"""The submission may no longer train this run."""

STRANDED = "the move of its run directory"
"""The run directory is no longer at the path that the job was given."""

EXHAUSTED = "exhausted"
"""All steps that were reserved for the run are executed."""

OUT_OF_GPU_HOURS = "exhausted GPU-hours"
"""The GPU-hours that were reserved for the run are about to be used up."""

RUNG = "rung"
"""The run has come to the step at which its stage compares all runs."""

_TIME_LIMIT = frozenset({DEADLINE, "SIGUSR2"})
_ORDERED = frozenset({REVOKED, EXHAUSTED, OUT_OF_GPU_HOURS, RUNG})
"""Signals of the worker itself, for which Slurm has no explanation."""


@dataclass(frozen=True)
class Evidence:
    """The facts known when the run stops. `job` is None if the scheduler did not answer, or there is none."""

    signal: str
    on_slurm: bool = True
    restart_count: int = 0
    job: JobView | None = None
    preempt_mode: str | None = None
    superseded: bool = False
    cancel_requested: bool = False


@dataclass(frozen=True)
class EarlyExit:
    """The way the run stops: the journal's cause, whether it requeues itself, and the evidence in words."""

    cause: LeaveCause
    requeue: bool
    detail: str


def _cause_of_signal(signal: str) -> LeaveCause:
    return LeaveCause.TIMEOUT if signal in _TIME_LIMIT else LeaveCause.PREEMPTED


def decide_early_exit(evidence: Evidence) -> EarlyExit:
    """Return the cause and whether to requeue. Pure."""
    signal = evidence.signal
    if evidence.superseded:
        return EarlyExit(LeaveCause.SUPERSEDED, requeue=False, detail="a newer generation has claimed the run")
    if evidence.cancel_requested:
        return EarlyExit(LeaveCause.CANCELLED, requeue=False, detail=f"{signal}; the job was cancelled")
    if signal == REVOKED:
        return EarlyExit(LeaveCause.STOPPED, requeue=False, detail="the submission may no longer train this run")
    if signal == RUNG:
        return EarlyExit(LeaveCause.RUNG, requeue=False, detail="its stage compares its runs at this step")
    if signal in (EXHAUSTED, OUT_OF_GPU_HOURS):
        what = "FLOPs" if signal == EXHAUSTED else "GPU-hours"
        detail = f"the {what} that were reserved for the run are used up"
        return EarlyExit(LeaveCause.EXHAUSTED, requeue=False, detail=detail)
    if not evidence.on_slurm:
        return EarlyExit(_cause_of_signal(signal), requeue=False, detail=f"{signal}; no Slurm here")
    if evidence.job is None:
        # SIGTERM means preemption or scancel. A guess here would later overrule Slurm's own record.
        return EarlyExit(
            LeaveCause.UNKNOWN, requeue=False, detail=f"{signal}; scontrol did not answer, so nothing was requeued"
        )
    return _decide_on_slurm(evidence, evidence.job)


def _decide_on_slurm(evidence: Evidence, job: JobView) -> EarlyExit:
    signal, mine = evidence.signal, evidence.restart_count
    seen = f"{signal}; Slurm says {'+'.join(job.state)}, restart {job.restart_count} (mine {mine})"
    if job.is_cancelled:
        return EarlyExit(LeaveCause.CANCELLED, requeue=False, detail=seen)
    if job.restart_count != mine:
        if job.preempt_time is not None and job.is_requeued:
            return EarlyExit(LeaveCause.PREEMPTED, requeue=False, detail=f"{seen}, preempted and already requeued")
        return EarlyExit(LeaveCause.SUPERSEDED, requeue=False, detail=f"{seen}: the job was started again elsewhere")
    if job.is_preempted:
        # A mode may be a list (`GANG,SUSPEND`).
        cancels = "cancel" in (evidence.preempt_mode or "").split(",")
        return EarlyExit(
            LeaveCause.PREEMPTED, requeue=cancels, detail=f"{seen}, preempted" + (", a CANCEL site" if cancels else "")
        )
    if job.is_timed_out or (job.is_running and signal in _TIME_LIMIT):
        return EarlyExit(LeaveCause.TIMEOUT, requeue=True, detail=f"{seen}, not preempted: the time limit")
    return EarlyExit(_cause_of_signal(signal), requeue=False, detail=f"{seen}, no reason given")


def gather_evidence(signal: str, environment: JobEnvironment, *, superseded: bool = False) -> Evidence:
    """Query Slurm, for a bounded time, and return the evidence. Deafen the process first."""
    job = mode = None
    if environment.on_slurm and not superseded and signal not in _ORDERED:
        job = inside.query_self(environment.job_id)
        if job is not None and job.preempt_time is not None:
            mode = environment.preempt_mode or inside.query_preempt_mode(job.partition)
    return Evidence(
        signal=signal,
        on_slurm=environment.on_slurm,
        restart_count=environment.restart_count,
        job=job,
        preempt_mode=mode,
        superseded=superseded,
        cancel_requested=environment.cancel_file is not None and environment.cancel_file.exists(),
    )


def carry_out(decision: EarlyExit, environment: JobEnvironment) -> tuple[str, str]:
    """Requeue if that was decided; return the journal's `action` and `detail`, as they turned out."""
    if not decision.requeue:
        return "none", decision.detail
    if environment.packed:  # other runs of the job have not stopped yet
        return "asked", decision.detail
    try:
        inside.requeue_self(environment.job_id)
    except LvjobsError as error:
        return "none", f"{decision.detail}; could not requeue: {error}"
    return "requeued", decision.detail
