"""The end of a program that has to stop: at its next checkpoint, or by a signal, and at the last moment by force."""

import math
import os
import time

from lvjobs.cluster import inside
from lvjobs.worker import signals
from lvjobs.worker.attempt import Attempt
from lvjobs.worker.early_exit import DEADLINE, EXHAUSTED, OUT_OF_GPU_HOURS, REVOKED, RUNG
from lvjobs.worker.environment import read_environment
from lvjobs.worker.program.nodes import SpreadProgram
from lvjobs.worker.program.process import Program

_LEAST_SECONDS, _LARGEST_SHARE = 5.0, 0.1
"""The time before a job's end at which a program is killed at the latest, for its last checkpoint and the requeue:
seconds, and at most a share of the time that is left."""

_GRACE_SECONDS = 30.0
"""Seconds that a program has after a signal if nothing says when the job ends. Slurm's own KillWait is 30 s."""

_AT_ONCE = frozenset({REVOKED, EXHAUSTED, RUNG, "superseded"})
"""Reasons to stop for which no further checkpoint is wanted."""


class Stop:
    """The stop of one execution of a program."""

    def __init__(self, attempt: Attempt, signal: str) -> None:
        """`signal` is the one at which the program itself saves and ends; empty for none."""
        self._attempt, self._signal = attempt, signal
        self._stop_by: float | None = None

    def may_continue(self, program: Program | SpreadProgram, *, found: bool) -> bool:
        """Return whether the program may run on although it is asked to stop; `found`: it just wrote a checkpoint."""
        if self._attempt.reason in _AT_ONCE:
            return False
        if self._stop_by is None:
            self._stop_by = self._last_moment()
            if self._signal and time.time() < self._stop_by:
                program.signal(self._signal)
        elif found and not self._signal:
            return False
        return time.time() < self._stop_by

    def _last_moment(self) -> float:
        """Return when the program is killed at the latest, in seconds since the epoch."""
        job, now = read_environment(os.environ), time.time()
        end = self._attempt.deadline.end if self._attempt.reason in (DEADLINE, "SIGUSR2") else None
        if self._attempt.reason == OUT_OF_GPU_HOURS:
            end = self._attempt.gpu_seconds_end
        if job.cancel_file is not None and job.cancel_file.exists():
            return now
        if job.on_slurm:
            with signals.shielded():
                view = inside.query_self(job.job_id)
            if view is not None:
                if view.is_cancelled or view.is_requeued:
                    return now
                end = view.end_time or end  # a preemption sets it to the end of the grace period
        end = min(end or now + _GRACE_SECONDS, now + 24 * 3600, self._attempt.gpu_seconds_end or math.inf)
        return end - min(_LEAST_SECONDS, _LARGEST_SHARE * max(0.0, end - now))

    def saves_on(self, program: Program | SpreadProgram) -> bool:
        """Return whether a program that is asked to stop still runs, although the process that started it has ended.

        `accelerate launch` ends at SIGTERM at once, and leaves the training behind, which saves.
        """
        is_asked = bool(self._signal) and self._attempt.must_stop()
        return is_asked and program.has_left_processes and self.may_continue(program, found=False)
