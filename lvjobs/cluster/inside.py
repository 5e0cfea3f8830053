"""A job's own view of Slurm: what the controller reports about this process's job, and what the job may ask it to do.

The worker is the only package beside `control` that talks to a cluster, and it may use only this module. Nothing here
loads submitit on a compute node. Every call has a time limit.

Call it under `lvjobs.worker.signals.deafen()` (or `shielded()`): with GraceTime=0 Slurm sends SIGTERM twice, to all
processes of the step, and the second one would kill the scontrol that asks for the reason of the first.
"""

import contextlib
import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lvjobs.cluster.commands import answered, run
from lvjobs.cluster.parse import parse_time
from lvjobs.cluster.protocol import ClusterError, Job
from lvjobs.cluster.sites import parse_partitions
from lvjobs.cluster.states import SOON_SECONDS

TIMEOUT = 4.0
"""Seconds that one scontrol may take: it usually takes 10-30 ms, and a grace period may be as short as 10 s."""

WAKE_SIGNAL = signal.SIGURG
"""The signal that notifies a running driver that a worker has ended. Its default action is to do nothing."""

_FAR_TOO_LONG_SECONDS = 300
_PROBES, _LOOK_AGAIN_SECONDS = 4, 1.5

_SUBMISSION_SECONDS = 15.0

TRIES = 3
_PAUSE = 0.3


@dataclass(frozen=True)
class JobView:
    """The state of the job at one moment, as slurmctld reports it.

    `state` holds the words as Slurm lists them (`("CANCELLED", "COMPLETING")`). Times are seconds since the epoch, None
    where Slurm has none. `preempt_time` is set from the start of a preemption until the job is back in the queue.
    """

    job_id: str
    state: tuple[str, ...]
    restart_count: int
    preempt_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    partition: str = ""

    @property
    def is_cancelled(self) -> bool:
        """Return whether the job was cancelled for good."""
        return "CANCELLED" in self.state

    @property
    def is_requeued(self) -> bool:
        """Return whether the job is back in the queue, also while its last execution is ending."""
        return "PENDING" in self.state

    @property
    def is_preempted(self) -> bool:
        """Return whether another job preempts this one."""
        return self.preempt_time is not None or "PREEMPTED" in self.state

    @property
    def is_timed_out(self) -> bool:
        """Return whether the job has reached its time limit."""
        return "TIMEOUT" in self.state

    @property
    def is_running(self) -> bool:
        """Return whether Slurm reports the job as running."""
        return "RUNNING" in self.state


def _number(value: Any) -> int | None:
    """Return the number in Slurm's {set, infinite, number}, or the plain number of releases before 23.02.

    In times, 0 means "none".
    """
    if isinstance(value, Mapping):
        return int(value["number"]) if value.get("set") and not value.get("infinite") else None
    return int(value) if isinstance(value, int) else None


def _is_job(job: Mapping[str, Any], job_id: str) -> bool:
    array, underscore, task = job_id.partition("_")
    if underscore:
        return (_number(job.get("array_job_id")), _number(job.get("array_task_id"))) == (int(array), int(task))
    return _number(job.get("job_id")) == int(array)


def parse_job_json(text: str, job_id: str) -> JobView | None:
    """Return the view of `job_id` in the output of `scontrol show job ID --json`; None where the job is not in it.

    `job_id` is `123`, or an array task's `123_4`. The answer has to be searched: for one task, scontrol lists every
    task of the array. For an unknown id it prints an empty list and exits with 0.

    Raises:
        ValueError: the text is not such an answer.
    """
    try:
        jobs = json.loads(text)["jobs"]
        job = next((job for job in jobs if _is_job(job, job_id)), None)
        if job is None:
            return None
        state = job["job_state"]
        return JobView(
            job_id=job_id,
            state=(state,) if isinstance(state, str) else tuple(state),
            restart_count=_number(job.get("restart_cnt")) or 0,
            preempt_time=_number(job.get("preempt_time")) or None,
            start_time=_number(job.get("start_time")) or None,
            end_time=_number(job.get("end_time")) or None,
            partition=str(job.get("partition") or ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not what scontrol show job --json prints: {error!r}") from None


def parse_preempt_mode(text: str) -> str | None:
    """Return the PreemptMode, in lower case, in the output of `scontrol -o show partition NAME`; None without one."""
    partitions = parse_partitions(text).values()
    return next((fields["PreemptMode"].lower() for fields in partitions if "PreemptMode" in fields), None)


def _hear(*words: str) -> str:
    return answered(run(words, TIMEOUT)).stdout


def query_self(job_id: str) -> JobView | None:
    """Ask slurmctld about the job, up to three times; return None when it does not answer or does not know the job."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(_PAUSE)
        with contextlib.suppress(ClusterError, ValueError):
            view = parse_job_json(_hear("scontrol", "show", "job", job_id, "--json"), job_id)
            if view is not None:
                return view
    return None


def query_preempt_mode(partition: str) -> str | None:
    """Return Slurm's action on a preempted job in `partition`, such as `requeue`; None when Slurm does not answer."""
    if not partition:
        return None
    with contextlib.suppress(ClusterError):
        return parse_preempt_mode(_hear("scontrol", "-o", "show", "partition", partition))
    return None


def requeue_self(job_id: str) -> None:
    """Put the job back in the queue. Name an array's task as `A_i`: the raw id of the last task is the whole array's.

    Raises:
        ClusterError: Slurm refused, or did not answer.
    """
    _hear("scontrol", "requeue", job_id)


def forbid_requeue(job_id: str) -> bool:
    """Ask Slurm not to run the job again, after it succeeded or failed with an error; return whether Slurm agreed."""
    try:
        _hear("scontrol", "update", f"jobid={job_id}", "requeue=0")
    except ClusterError:
        return False
    return True


def would_refuse(script: Path) -> str:
    """Return why Slurm would refuse this batch script from here; empty where it would accept it. It submits nothing."""
    try:
        answered(run(("sbatch", "--test-only", str(script)), _SUBMISSION_SECONDS))
    except ClusterError as error:
        return str(error)
    return ""


def wake(name: str) -> bool:
    """Start the user's held job of this name in two seconds, or notify it if it runs; return whether there was one.

    This is best effort. Slurm holds the job until its begin time. A job that would start as soon anyway is left alone:
    if each ending worker postponed it, it would never start. A job that Slurm holds because its node could not start it
    is released.

    A job that runs gets `WAKE_SIGNAL`: it may be waiting, or may have made its probe already. It is then looked up
    again, because it may have been about to exit and have ignored the signal. A job that has run for much longer than
    its few minutes of work is requeued: a controller that failed just when the job was put back believes that the job
    still runs, and notices after a quarter of an hour (observed).
    """
    told = False
    for look in range(_PROBES):
        if look:
            time.sleep(_LOOK_AGAIN_SECONDS)  # a driver that is exiting may have made its last probe before this one
        try:
            rows = _hear(
                "squeue", "-h", "-a", "--me", f"--name={name}", "-t", "PENDING,RUNNING,COMPLETING", "-o", "%i|%r|%S|%T"
            )
            fields = [[*row.split("|"), "", "", "", ""][:4] for row in rows.splitlines()]
            jobs = [Job(each, "", 0, state, reason, parse_time(start)) for each, reason, start, state in fields]
            runs = any(job.is_running for job in jobs)
            if told and runs:
                return True
            if any(_wake(job) for job in jobs):
                if not runs:
                    return True
                told = True
        except ClusterError:
            break
        # Slurm has not judged yet why a job waits that came back within this second
        is_back = any(job.is_pending and job.reason in ("", "None") for job in jobs)
        if not told and not is_back and not any(job.state == "COMPLETING" for job in jobs):
            return False
    return told


def _wake(job: Job) -> bool:
    """Trigger one job of that name; return whether it runs now or will start soon because of this call."""
    if job.is_running:
        with contextlib.suppress(ClusterError):  # the job has ended since: the next probe finds that
            if job.start is not None and job.start < time.time() - _FAR_TOO_LONG_SECONDS:
                _hear("scontrol", "requeue", job.id)
            else:
                _hear("scancel", f"--signal={WAKE_SIGNAL.name.removeprefix('SIG')}", "--full", job.id)
        return True
    if job.hold.needs_release:
        _hear("scontrol", "release", job.id)
        return True
    if job.is_held_back(time.time()):
        _hear("scontrol", "update", f"jobid={job.id}", f"starttime=now+{SOON_SECONDS}")
        return True
    return False
