"""A generation's claim: the content of `generations/NNNNNN`, written once by the attempt that won it."""

from dataclasses import dataclass

from lvjobs.records.json_record import JsonRecord


@dataclass(frozen=True)
class Claim(JsonRecord):
    """The attempt that executes a run. `job_id` is Slurm's (`123` or `123_4`).

    `restart_count` is 0 in a job's first execution. `time` is in seconds since the epoch.
    """

    generation: int
    token: str
    job_id: str
    restart_count: int
    host: str
    pid: int
    time: float
