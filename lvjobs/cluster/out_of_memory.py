"""Jobs that used more memory than they had: the state may be FAILED while the log or accounting shows the cause."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lvjobs.cluster.protocol import Job
from lvjobs.cluster.states import Ending

# The line that the step's manager writes into a job's log: the kernel ended a process (cgroups), or Slurm itself ended
# the step (OverMemoryKill). The job's state may be FAILED for either.
_OUT_OF_MEMORY = re.compile(
    rb"^slurmstepd[^:]*: error: .*(?:oom[-_ ]kill|exceeded (?:job |step )?(?:virtual )?memory limit)",
    re.IGNORECASE | re.MULTILINE,
)

_LOG_END = 64 * 1024


def shows_out_of_memory(log: bytes) -> bool:
    """Return whether Slurm reports in a job's log, or in the end of it, that the job used more memory than it had."""
    return _OUT_OF_MEMORY.search(log) is not None


def with_its_log(job: Job, logs: Path) -> Job:
    """Return the job as OUT_OF_MEMORY where its state is FAILED and its log, in a directory of `logs`, shows that."""
    if job.state != "FAILED":
        return job
    for path in logs.glob(f"*/{job.id}.out"):
        with suppress(OSError), path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LOG_END))
            if shows_out_of_memory(stream.read()):
                return replace(job, state="OUT_OF_MEMORY")
    return job


def with_accounting(job: Job, history: Sequence[Job]) -> Job:
    """Return accounting's last row where a step ran out of memory and the job's own state hides that; else the job."""
    return history[-1] if history and history[-1].ending is Ending.OUT_OF_MEMORY else job
