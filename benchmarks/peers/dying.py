"""The peers of benchmarks/eligible.py: a job that works until it dies, and submitit's, which may requeue itself.

    python benchmarks/peers/dying.py work DIRECTORY
    python benchmarks/peers/dying.py submit DIRECTORY PARTITION MINUTES

Each execution writes a line to DIRECTORY/starts. `submit` is for the Python of an environment with submitit.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def work(root: str) -> None:
    """Say that it began, and go on for ever; take too much memory when it is told to."""
    hungry = Path(root) / "hungry"
    line = {"time": time.time(), "pid": os.getpid(), "job_id": os.environ["SLURM_JOB_ID"]}
    with (Path(root) / "starts").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    while True:
        time.sleep(0.2)
        if hungry.exists():
            hungry.unlink()
            much = b"x" * 2_000_000_000
            time.sleep(3600)
            del much


class Work:
    """The same as submitit's manual has it: with a method by which it requeues."""

    def __call__(self, root: str) -> None:
        """Work."""
        work(root)

    def checkpoint(self, root: str) -> Any:
        """What the next execution does."""
        import submitit

        return submitit.helpers.DelayedSubmission(Work(), root)


def submit(root: str, partition: str, minutes: str) -> str:
    """Send it; the job's id."""
    import submitit

    executor = submitit.AutoExecutor(folder=Path(root) / "submitit", cluster="slurm")
    executor.update_parameters(
        slurm_partition=partition,
        slurm_time=int(minutes),
        slurm_mem="800M",
        slurm_gres="gpu:1",
        cpus_per_task=1,
        slurm_signal_delay_s=6,
    )
    return str(executor.submit(Work(), root).job_id)


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        print(submit(*sys.argv[2:]))
    else:
        work(sys.argv[2])
