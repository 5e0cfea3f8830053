"""The simulated cluster's internals: jobs, nodes, and Slurm's reaction to each way in which a job can end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from lvjobs.cluster.protocol import Job, JobRequest

OnStep: TypeAlias = "Callable[[SimulatedJob], int | None]"
"""A job's worker: called for each step; returns an exit code to end, or None to continue."""

_START_OF_TIME = 1_700_000_000.0
KILL = 9
NAMES = ("n1", "n2", "n3", "n4")
"""The nodes, used in turn."""
BAD = "BadConstraints"
"""The waiting reason of a job that allows no node."""


@dataclass
class Clock:
    """A clock that shows seconds since the epoch. Call it for the time."""

    now: float = _START_OF_TIME

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class SimulatedJob:
    """One job, or one member of an array."""

    id: str
    member: int
    request: JobRequest
    eligible: float
    state: str = "PENDING"
    reason: str = "Priority"
    restart_count: int = 0
    step: int = 0
    """Steps taken in this execution of the job."""
    node: str = ""
    start: float | None = None
    end: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    signals: list[str] = field(default_factory=list)
    preempted: float | None = None
    phantom: bool = False
    orphan_steps: int | None = None
    suspended: float = 0.0
    """Seconds for which this execution was suspended, until it was last resumed."""
    suspended_since: float | None = None
    called: str = ""
    """A state that the scheduler shows in place of the job's own. A waiting job does not start meanwhile."""

    @property
    def run_directory(self) -> Path:
        """Return the directory of the run that the job trains."""
        return self.request.run_directories[self.member]

    def view(self) -> Job:
        """Return the job as the scheduler shows it."""
        return Job(
            id=self.id,
            token=self.request.token,
            member=self.member,
            state=self.called or self.state,
            reason=self.reason if self.state == "PENDING" else "",
            start=self.eligible if self.state == "PENDING" and self.reason == "BeginTime" else self.start,
            end=self.end,
            restart_count=self.restart_count,
            exit_code=self.exit_code,
            exit_signal=self.exit_signal,
            nodes=self.node,
            partition=str(self.request.resources.get("partition") or "simulated"),
            suspended=self.suspended if self.state == "RUNNING" else 0.0,
        )


@dataclass(frozen=True)
class Manners:
    """The behaviour of the simulated site. All times are in seconds, except `max_minutes`."""

    slots: int = 4
    step_seconds: float = 1.0
    hold: float = 121.0
    grace: float = 10.0
    preempt_mode: Literal["requeue", "cancel"] = "requeue"
    min_job_age: float = 300.0
    accounting_lag: float = 0.0
    max_minutes: float | None = None
    max_submit: int | None = None
    """The most jobs that a user may have in the queue. `tells_limits`: whether the site reports this limit."""
    max_requeues: int | None = None
    """Slurm's max_batch_requeue: a job that is requeued more often is held."""
    tells_limits: bool = True


class Engine:
    """The jobs, and the time that passes for them."""

    def __init__(self, clock: Clock, on_step: OnStep, manners: Manners | None = None) -> None:
        self.clock = clock
        self.manners = manners or Manners()
        self.jobs: list[SimulatedJob] = []
        self.orphans: list[SimulatedJob] = []
        self.rows: list[tuple[float, Job]] = []
        """Accounting's rows, each with the time at which it became true."""
        self._on_step = on_step
        self._next_id = 1
        self._next_node = 0

    def create(self, request: JobRequest) -> str:
        """Put a job, or an array, in the queue; return its id."""
        job_id = str(self._next_id)
        members = len(request.run_directories)
        for member in range(members):
            name = job_id if members == 1 else f"{job_id}_{member}"
            job = SimulatedJob(name, member, request, eligible=self.clock.now)
            self.jobs.append(job)
            self._account(job)
        self._next_id += members  # each task of an array also has an id of its own
        return job_id

    def find(self, job_id: str) -> list[SimulatedJob]:
        """Return the newest job of that id, and the tasks of an array of that id."""
        found = {job.id: job for job in self.jobs if job.id == job_id or job.id.partition("_")[0] == job_id}
        return list(found.values())

    def forget(self) -> None:
        """Lose the scheduler's state, so that ids begin again: another job will get an id that lvjobs remembers."""
        self.jobs.clear()
        self._next_id = 1

    # -- the passing of time ------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let `seconds` of time pass, a step at a time."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + self.manners.step_seconds)
            self._tick()

    def run_until_quiet(self, most: float = 1e6) -> None:
        """Let time pass until no job waits or runs, for at most `most` seconds."""
        end = self.clock.now + most
        while self.clock.now < end and any(job.end is None for job in self.jobs):
            self.advance(self.manners.step_seconds)

    def _tick(self) -> None:
        for orphan in self.orphans:
            orphan.orphan_steps = (orphan.orphan_steps or 0) - 1
            orphan.step += 1
            if self._on_step(orphan) is not None:
                orphan.orphan_steps = 0
        self.orphans = [orphan for orphan in self.orphans if orphan.orphan_steps]
        for job in [job for job in self.jobs if job.state == "RUNNING"]:
            self._step(job)
        for job in self._startable():
            self._start(job)

    @staticmethod
    def nodes_for(request: JobRequest) -> list[str]:
        """Return the nodes that the job allows. Slurm refuses a job that allows none; a waiting job keeps waiting."""
        avoided = request.resources.get("exclude_nodes") or ()
        return [name for name in NAMES if name not in avoided]

    def _startable(self) -> Iterator[SimulatedJob]:
        free = self.manners.slots - sum(job.state == "RUNNING" for job in self.jobs)
        for job in self.jobs:
            if job.state == "PENDING" and job.reason in ("Priority", BAD):
                job.reason = "Priority" if self.nodes_for(job.request) else BAD
            if job.state != "PENDING" or job.eligible > self.clock.now or job.called:
                continue
            if "held" in job.reason or not self.nodes_for(job.request):
                continue
            if free > 0 and self._has_turn(job):
                free -= 1
                yield job

    def _has_turn(self, job: SimulatedJob) -> bool:
        """Return whether few enough members of the job's array run."""
        most = job.request.max_parallel
        if most is None:
            return True
        return sum(other.request is job.request and other.state == "RUNNING" for other in self.jobs) < most

    def _start(self, job: SimulatedJob) -> None:
        job.state, job.reason, job.start, job.end = "RUNNING", "", self.clock.now, None
        job.exit_code = job.exit_signal = job.preempted = None
        allowed = self.nodes_for(job.request)
        while NAMES[self._next_node] not in allowed:
            self._next_node = (self._next_node + 1) % len(NAMES)
        job.step, job.signals, job.node, job.suspended = 0, [], NAMES[self._next_node], 0.0
        self._next_node = (self._next_node + 1) % len(NAMES)
        self._account(job)

    def _step(self, job: SimulatedJob) -> None:
        now = self.clock.now
        minutes = job.request.resources.get("time_limit_minutes")
        if minutes is not None and job.start is not None:
            limit = job.start + job.suspended + minutes * 60
            lead = min(float(job.request.resources.get("signal_lead_seconds") or 90), minutes * 6)
            if now >= limit:
                self.end_run(job, "TIMEOUT", 0, 15)
                return
            if now >= limit - lead and "SIGUSR2" not in job.signals:
                job.signals.append("SIGUSR2")
        if job.preempted is not None and now - job.preempted > self.manners.grace:
            job.phantom = self.manners.preempt_mode == "requeue"
            self.leave(job, None, KILL)
            return
        job.step += 1
        code = self._on_step(job)
        if code is not None and job.state == "RUNNING":  # the step may have requeued or cancelled the job
            self.leave(job, code, None)

    def leave(self, job: SimulatedJob, code: int | None, signal: int | None) -> None:
        """Apply Slurm's reaction to the end of a worker, with its exit code or signal."""
        if job.preempted is not None:
            self.end_run(job, "PREEMPTED", code, signal)
            if self.manners.preempt_mode == "requeue":
                self.put_back(job)
        elif job.phantom:
            job.phantom = False
            self.end_run(job, "PREEMPTED", code, signal)
            self.put_back(job)
        else:
            self.end_run(job, "COMPLETED" if code == 0 else "FAILED", code, signal)

    def end_run(self, job: SimulatedJob, state: str, code: int | None = 0, signal: int | None = None) -> None:
        """End this execution of the job in `state`."""
        job.state, job.end = state, self.clock.now
        job.exit_code, job.exit_signal = code or 0, signal
        self._account(job)

    def put_back(self, job: SimulatedJob) -> None:
        """Put the job back in the queue, held there for a while."""
        job.state, job.reason, job.eligible = "PENDING", "BeginTime", self.clock.now + self.manners.hold
        job.restart_count += 1
        most = self.manners.max_requeues
        if most is not None and job.restart_count > most:
            job.reason = "launch failure limit exceeded requeued held"
        job.start = job.end = job.exit_code = job.exit_signal = job.preempted = None
        job.node = ""
        self._account(job)

    def _account(self, job: SimulatedJob) -> None:
        # Accounting's row has what an execution held; the queue does not show it.
        row = replace(job.view(), elapsed=0.0)
        if job.start is not None:
            held = None if job.end is None else job.end - job.start
            row = replace(row, elapsed=held, gpus=int(job.request.resources.get("gpus") or 0))
        self.rows.append((self.clock.now, row))
