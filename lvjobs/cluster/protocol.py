"""The cluster as the rest of lvjobs sees it: it accepts submissions, reports their states and obeys a few commands."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from lvjobs.cluster import states
from lvjobs.cluster.states import Ending, JobHold, QueuePosition
from lvjobs.errors import LvjobsError

DRIVER = "driver"
"""The name, before the token, of jobs that run reconcile passes and train nothing."""

TOKEN = re.compile(r"[0-9a-f]{12}\Z")


class ClusterError(LvjobsError):
    """A refusal: the cluster answered and said no. The text is the scheduler's own, in one line."""


class SubmitRefused(ClusterError):
    """A final refusal: no job exists, and the same submission will be refused again (unknown partition, QOS, ...)."""


class SubmitDeferred(ClusterError):
    """A refusal for now: no job exists, but a later one may. A limit is reached, or the controller was not reached."""


class SubmitLimited(SubmitDeferred):
    """A refusal for now: the site allows no more jobs in the queue. Fewer members may be accepted."""


class SubmitUnclear(ClusterError):
    """A submission with an unknown result: the reply was lost. Look up its token before anything is tried again."""


class ClusterSilent(ClusterError):
    """A scheduler that did not answer in time. That proves nothing about any job."""


@dataclass(frozen=True)
class JobRequest:
    """One submission: a job, or an array with a member per run directory.

    The job name carries the `token` (12 hex digits), as `<name>.<token>`: lvjobs finds a job whose sbatch reply was
    lost by its token. Member i of an array runs `run_directories[i]`. `resources` are the profile's variables
    (partition, account, time_limit_minutes, gpus, cpus, memory_mb, ...); the profile's defaults replace unset ones.
    """

    token: str
    name: str
    run_directories: Sequence[Path]
    log_directory: Path
    code_directory: Path
    python: str
    resources: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    max_parallel: int | None = None

    @property
    def job_name(self) -> str:
        """Return the job's name in the queue."""
        return f"{self.name}.{self.token}"


def token_of(job_name: str) -> str | None:
    """Return the token in a job's name, or None where the job is not one of lvjobs."""
    _, dot, token = job_name.rpartition(".")
    return token if dot and TOKEN.match(token) else None


@dataclass(frozen=True)
class Job:
    """The state of one job (or one array task) at one moment, as the scheduler reports it.

    `id` is the id for scancel: `123`, or `123_4` for array tasks. `member` is the task's index, 0 for a single job.
    `state` is Slurm's long word without decorations (`PENDING`, `RUNNING`, `COMPLETING`, `COMPLETED`, `FAILED`,
    `CANCELLED`, `TIMEOUT`, `PREEMPTED`, `NODE_FAIL`, `OUT_OF_MEMORY`, ...). Times are seconds since the epoch.
    `elapsed` is the seconds for which this execution held its allocation. `gpus` is the number of GPUs in the
    allocation, on all its nodes, as accounting reports them (0 also where a site does not account for GPUs). Both are
    None without accounting.

    `flushed`: accounting reports CANCELLED, and no user cancelled the job. A controller that starts without its state
    ends all jobs like that. How they ended, and whether they did, is unknown.

    `suspended` is the seconds for which a running job was suspended earlier in this execution, by the queue's numbers.
    """

    id: str
    token: str
    member: int
    state: str
    reason: str = ""
    start: float | None = None
    end: float | None = None
    restart_count: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    nodes: str = ""
    partition: str = ""
    elapsed: float | None = None
    gpus: int | None = None
    flushed: bool = False
    suspended: float = 0.0

    @property
    def is_pending(self) -> bool:
        """Return whether the job waits in the queue, also between two executions of a requeued job."""
        return self.state in states.PENDING_STATES

    @property
    def is_queued(self) -> bool:
        """Return whether the job waits in the queue and no earlier execution of it is still ending."""
        return self.state == "PENDING"

    @property
    def is_running(self) -> bool:
        """Return whether the job runs, and is neither suspended nor ending."""
        return self.state == "RUNNING"

    @property
    def is_active(self) -> bool:
        """Return whether the job is on a node, or is leaving it."""
        return self.state in states.ACTIVE_STATES

    @property
    def is_suspended(self) -> bool:
        """Return whether the job is on a node and Slurm has stopped its processes."""
        return self.state in states.SUSPENDED_STATES

    @property
    def is_ended(self) -> bool:
        """Return whether Slurm will not run the job again by itself; false for a state that lvjobs does not know."""
        return self.state in states.ENDED_STATES

    @property
    def has_run(self) -> bool:
        """Return whether this execution is over: the job has ended, or was put back in the queue."""
        return self.is_ended or self.ending is Ending.REQUEUED

    @property
    def ending(self) -> Ending:
        """Return how this execution ended, as far as the state proves it."""
        return states.ENDINGS.get(self.state, Ending.OTHER)

    @property
    def hold(self) -> JobHold:
        """Return why the job waits, where lvjobs acts on the reason."""
        return states.parse_hold(self.reason)

    def is_held_back(self, now: float) -> bool:
        """Return whether the job waits only for Slurm's hold after a requeue, and lifting the hold would help.

        It would not help when the hold ends soon. `now` is in seconds since the epoch.
        """
        is_late = self.start is not None and self.start > now + states.MARGIN_SECONDS
        return self.is_queued and self.hold is JobHold.BEGIN_TIME and is_late


Load: TypeAlias = Mapping[tuple[str, str], int]
"""The number of the user's jobs that wait or run, those of other programs too. Each task of an array counts.

The keys are ("qos", name), ("account", name), ("partition", name), ("user", "") for all jobs, and ("driver", "") for
the drivers.
"""


@dataclass(frozen=True)
class Cap:
    """The most jobs counted under `place` (see `Load`) that may wait and run together; `said` is the site's wording.

    `shared`: other users' jobs count too, so there may be less room than the user's own jobs leave.
    """

    place: tuple[str, str]
    most: int
    said: str
    shared: bool = False


@dataclass(frozen=True)
class Limits:
    """The site's known limits for one kind of job: caps on the queue, members in one array, minutes."""

    caps: Sequence[Cap] = ()
    members: int | None = None
    minutes: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """The states of lvjobs' jobs at one moment, as the scheduler reports them.

    `queue` is None when the scheduler did not answer. `history` is accounting: ended jobs, and earlier executions of
    requeued ones, oldest first. It is None without accounting or when accounting did not answer; then a job's absence
    proves nothing. `problem` gives the reason in words.
    """

    time: float
    queue: Sequence[Job] | None
    history: Sequence[Job] | None
    problem: str = ""
    accounting: bool = True
    """Whether the site has accounting at all: without it, a `history` of None is not a missing answer."""
    load: Load | None = None  # of all the user's jobs, not of this study's alone; None where it is unknown


@dataclass(frozen=True)
class Node:
    """A node that could run a job. `is_up`: it is in service now, however busy."""

    name: str
    is_up: bool = True


@dataclass(frozen=True)
class Site:
    """The site's behaviour on requeue and preemption. None where the site did not report it."""

    backend: str
    preempt_mode: str | None = None
    requeue_hold_seconds: float | None = None
    min_job_age_seconds: float | None = None
    accounting: bool = False
    partitions: Mapping[str, float | None] = field(default_factory=dict)  # longest time limits, minutes; None: no limit
    notes: Sequence[str] = ()
    ways: Sequence[str] = ()
    """Notes on how a study can be kept going: which hosts may submit jobs, and whether the site offers scrontab."""
    scrontab: bool = False


class Cluster(Protocol):
    """A backend. Every call has a time limit and raises `ClusterSilent` when the scheduler does not answer.

    A backend that inherits from this class has no limits, holds no job, and gives jobs no choice of nodes, unless it
    says otherwise. `backend` is its name, such as `slurm`.
    """

    backend: str

    @property
    def absent(self) -> str:
        """Return why this host does not reach the cluster at all, in one sentence; empty where it does.

        Then nothing is submitted, and no run's state changes: another host may reach the cluster.
        """
        return ""

    def script(self, request: JobRequest) -> str:
        """Return the exact batch script that `submit` would send. Raises UsageError where no script can be made."""

    def check(self, request: JobRequest) -> None:
        """Refuse a job that could never run here, before anything is created.

        Examples are an unknown partition and too long a time limit.

        Raises:
            UsageError: the message names the key and the possible values.
            ClusterSilent: the scheduler did not answer; that proves nothing about the job.
        """
        return

    def submit(self, request: JobRequest) -> str:
        """Submit and return the job id (an array's id without a task).

        Raises:
            SubmitRefused, SubmitDeferred, SubmitLimited, SubmitUnclear: see their docstrings.
        """

    def limits(self, request: JobRequest) -> Limits:
        """Return the site's limits for such jobs. Raises ClusterError where the site cannot be asked."""
        return Limits()

    def load(self) -> Load:
        """Return how many of the user's jobs wait or run. Raises ClusterError where the site cannot be asked."""
        return {}

    def observe(self, tokens: Sequence[str], since: float, companions: Sequence[str] = ()) -> Snapshot:
        """Return the states of the jobs with these tokens: one squeue, and one sacct where there is accounting.

        Accounting is asked from `since` on (seconds since the epoch). For tokens in `companions` only the queue is
        asked; where there are no others, accounting is not asked. This never raises for a silent scheduler: the
        snapshot has its `problem`.
        """

    def cancel(self, job_id: str) -> None:
        """End the job for good. A job that no longer exists is no error."""

    def release(self, job_id: str) -> None:
        """Release a job that Slurm holds ('launch failed requeued held')."""
        return

    def lift_hold(self, job_id: str) -> None:
        """Let a requeued job that waits for its begin time (Reason=BeginTime) start in a few seconds."""
        return

    def estimate_start(self, request: JobRequest) -> float:
        """Return when such a job would start if it were submitted now, in seconds since the epoch. It submits nothing.

        Raises:
            ClusterError: the job would not start, or the start is unknown; the text gives the reason.
            ClusterSilent: the scheduler did not answer.
        """

    def place(self, job_id: str) -> QueuePosition | None:
        """Return the job's position in the queue; None where it does not wait. Raises ClusterError where unknown."""

    def extend(self, job_id: str, minutes: int) -> None:
        """Set a longer time limit, in minutes, for a job that waits. Raises ClusterError where Slurm refuses."""
        return

    def nodes(self, request: JobRequest) -> Sequence[Node]:
        """Return the nodes that could run such a job; empty where jobs have no choice.

        Raises:
            ClusterError: the site cannot be asked.
            ClusterSilent: the scheduler did not answer.
        """
        return ()

    def avoid(self, job_ids: Sequence[str], nodes: Sequence[str]) -> None:
        """Exclude these nodes, and only these, for jobs that wait. Raises ClusterError where Slurm refuses."""
        return

    def probe(self) -> Site:
        """Ask the site what it allows."""
