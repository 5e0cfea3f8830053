"""What a cluster is to the loop: somewhere that takes submissions, says how they stand, and obeys a few commands."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from lvjobs.cluster import states
from lvjobs.cluster.reasons import QueuePosition
from lvjobs.cluster.states import Ending, JobHold
from lvjobs.errors import LvjobsError

DRIVER = "driver"
"""What jobs are called, before their token, that make passes and train nothing."""

TOKEN = re.compile(r"[0-9a-f]{12}\Z")


class ClusterError(LvjobsError):
    """The cluster answered, and the answer is no. The text is the scheduler's own, in one line."""


class SubmitRefused(ClusterError):
    """No job exists, and the same submission will be refused again: an unknown partition, account, QOS."""


class SubmitDeferred(ClusterError):
    """No job exists, and later one may: a submit limit is reached, or the controller could not be contacted at all."""


class SubmitLimited(SubmitDeferred):
    """No job exists: with these, more jobs would be in the queue than the site allows. Fewer may go at once."""


class SubmitUnclear(ClusterError):
    """Nobody knows whether a job exists (the reply was lost). Look its token up before anything is tried again."""


class ClusterSilent(ClusterError):
    """The scheduler did not answer in time. Nothing follows from that about any job."""


@dataclass(frozen=True)
class JobRequest:
    """One submission: a job, or an array with a member per run directory.

    `token` (12 hex digits) is carried in the job name, `<name>.<token>`: it is how a job whose sbatch reply was lost is
    found again. Member i of an array runs `run_directories[i]`. `resources` are the profile's variables (partition,
    account, time_limit_minutes, gpus, cpus, memory_mb, ...), unset ones left to the profile's defaults.
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
        """The job's name in the queue."""
        return f"{self.name}.{self.token}"


def token_of(job_name: str) -> str | None:
    """The token in a job's name, or None: not one of ours."""
    _, dot, token = job_name.rpartition(".")
    return token if dot and TOKEN.match(token) else None


@dataclass(frozen=True)
class Job:
    """What the scheduler says of one job (or one array task) at one moment.

    `id` is what scancel takes: `123`, or `123_4` for array tasks. `member` is the task's index, 0 for a single job.
    `state` is Slurm's long word without decorations (`PENDING`, `RUNNING`, `COMPLETING`, `COMPLETED`, `FAILED`,
    `CANCELLED`, `TIMEOUT`, `PREEMPTED`, `NODE_FAIL`, `OUT_OF_MEMORY`, ...). Times are seconds since the epoch.
    `elapsed` is for how many seconds this execution held its allocation, `gpus` how many GPUs were in that, on all its
    nodes: what accounting says (0 also where a site keeps no account of GPUs), None where nobody keeps accounts.
    `flushed`: CANCELLED, says accounting, and by nobody. A controller that starts without its state has all jobs ended
    like that: how they ended, and whether they did, nobody has seen.
    `suspended`: for how many seconds a job that runs was suspended before, in this execution; by the queue.
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
        """Waiting in the queue, also between two runs of a requeued job."""
        return self.state in states.PENDING_STATES

    @property
    def is_queued(self) -> bool:
        """Return whether the job waits in the queue, and no earlier execution of it is still ending."""
        return self.state == "PENDING"

    @property
    def is_running(self) -> bool:
        """Return whether the job runs, and is neither suspended nor ending."""
        return self.state == "RUNNING"

    @property
    def is_active(self) -> bool:
        """On a node, or leaving it."""
        return self.state in states.ACTIVE_STATES

    @property
    def is_suspended(self) -> bool:
        """On a node, with its processes stopped by Slurm."""
        return self.state in states.SUSPENDED_STATES

    @property
    def is_ended(self) -> bool:
        """Over: Slurm will not run it again by itself. A job in a state that lvjobs does not know is not."""
        return self.state in states.ENDED_STATES

    @property
    def has_run(self) -> bool:
        """Return whether this execution is over: the job has ended, or was put back in the queue."""
        return self.is_ended or self.ending is Ending.REQUEUED

    @property
    def ending(self) -> Ending:
        """Return how this execution ended, as far as the state proves something."""
        return states.ENDINGS.get(self.state, Ending.OTHER)

    @property
    def hold(self) -> JobHold:
        """Return why the job waits, as far as lvjobs does something about it."""
        return states.parse_hold(self.reason)

    def is_held_back(self, now: float) -> bool:
        """Return whether the job waits only for Slurm's hold after a requeue, and for long enough to lift that."""
        is_late = self.start is not None and self.start > now + states.MARGIN_SECONDS
        return self.is_queued and self.hold is JobHold.BEGIN_TIME and is_late


Load: TypeAlias = Mapping[tuple[str, str], int]
"""How many jobs of the user's, ours or not, wait or run, an array's tasks one by one: by ("qos", its name),
("account", its name), ("partition", its name), and all of them by ("user", ""). The drivers by ("driver", "").
"""


@dataclass(frozen=True)
class Cap:
    """How many jobs may wait and run together of those that `place` (see `Load`) counts; `said` is how the site has it.

    `shared`: other users' jobs count too, so that there may be less room than our own leave.
    """

    place: tuple[str, str]
    most: int
    said: str
    shared: bool = False


@dataclass(frozen=True)
class Limits:
    """What a site allows of one kind of job, as far as it says: caps on the queue, members in one array, minutes."""

    caps: Sequence[Cap] = ()
    members: int | None = None
    minutes: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """What the scheduler says of our jobs at one moment.

    `queue` is None when the scheduler did not answer; `history` (accounting: ended jobs, and earlier runs of requeued
    ones, oldest first) is None when there is none or it did not answer: then nothing follows from a job's absence.
    `problem` says so in words.
    """

    time: float
    queue: Sequence[Job] | None
    history: Sequence[Job] | None
    problem: str = ""
    accounting: bool = True
    """Whether the site has accounting at all: without it, a `history` of None is not a missing answer."""
    load: Load | None = None  # of all the user's jobs, not of this study's alone; None where nobody said


@dataclass(frozen=True)
class Node:
    """A node that could run a job. `is_up`: it is in service now, however busy."""

    name: str
    is_up: bool = True


@dataclass(frozen=True)
class Site:
    """What requeue and preemption can promise here. None where the site did not say."""

    backend: str
    preempt_mode: str | None = None
    requeue_hold_seconds: float | None = None
    min_job_age_seconds: float | None = None
    accounting: bool = False
    partitions: Mapping[str, float | None] = field(default_factory=dict)  # longest time limits, minutes; None: none
    notes: Sequence[str] = ()
    ways: Sequence[str] = ()
    """Notes on how a study can be kept going: where jobs may be submitted from, and whether scrontab is offered."""
    scrontab: bool = False


class Cluster(Protocol):
    """A backend. Every call is bounded in time and raises `ClusterSilent` when the scheduler does not answer."""

    @property
    def backend(self) -> str:
        """`slurm`, `local` or `simulated`."""

    @property
    def absent(self) -> str:
        """Why this host does not reach the cluster at all, in one sentence; empty where it does.

        Then nothing is submitted, and nothing follows for any run: another host may reach it.
        """

    def script(self, request: JobRequest) -> str:
        """The exact batch script that `submit` would hand over."""

    def check(self, request: JobRequest) -> None:
        """Refuse what could never run here, before anything is made: an unknown partition, too long a time limit.

        Raises:
            UsageError: it names the key and what is possible.
            ClusterSilent: the scheduler did not answer; nothing follows from that.
        """

    def submit(self, request: JobRequest) -> str:
        """Submit and return the job id (an array's id without a task).

        Raises:
            SubmitRefused, SubmitDeferred, SubmitLimited, SubmitUnclear: see there.
        """

    def limits(self, request: JobRequest) -> Limits:
        """What the site allows of such jobs. Raises ClusterError where it cannot be asked."""

    def load(self) -> Load:
        """How many jobs of the user's wait or run. Raises ClusterError where it cannot be asked."""

    def observe(self, tokens: Sequence[str], since: float, companions: Sequence[str] = ()) -> Snapshot:
        """How the jobs with these tokens stand: one squeue, and one sacct from `since` on where there is accounting.

        Of jobs whose tokens are `companions` only the queue is asked. Where there is nothing else, that is all.
        Never raises for a silent scheduler: the snapshot says so.
        """

    def cancel(self, job_id: str) -> None:
        """End the job for good. A job that is no more is no error."""

    def release(self, job_id: str) -> None:
        """Release a job that Slurm holds ('launch failed requeued held')."""

    def lift_hold(self, job_id: str) -> None:
        """Let a requeued job that waits for its begin time (Reason=BeginTime) start in a few seconds."""

    def estimate_start(self, request: JobRequest) -> float:
        """When such a job would start if it were submitted now, in seconds since the epoch. Nothing is submitted.

        Raises:
            ClusterError: it would not start, or nobody can tell; the text says so.
            ClusterSilent: the scheduler did not answer.
        """

    def place(self, job_id: str) -> QueuePosition | None:
        """Where a job stands in the queue; None where it does not wait. Raises ClusterError where nobody can tell."""

    def extend(self, job_id: str, minutes: int) -> None:
        """Give a job that waits a longer time limit. Raises ClusterError where Slurm will not."""

    def nodes(self, request: JobRequest) -> Sequence[Node]:
        """The nodes that could run such a job; none where jobs have no choice. Raises ClusterError, ClusterSilent."""

    def avoid(self, job_ids: Sequence[str], nodes: Sequence[str]) -> None:
        """Keep jobs that wait off these nodes, and off no others. Raises ClusterError where Slurm will not."""

    def probe(self) -> Site:
        """Ask the site what it allows."""
