"""A deterministic simulation of Slurm with its own clock and with scripted faults.

    clock = Clock()
    cluster = SimulatedCluster(clock, on_step)
    job_id = cluster.submit(request)
    cluster.advance(30)            # jobs start, and take a step a second
    cluster.preempt(job_id)
    cluster.advance(300)

`on_step(job)` is a job's worker. It is called for each step of each running job and returns an exit code to end, or
None to continue; `job.signals` are the signals that it got. It may write into `job.run_directory`; this module writes
no file.

It behaves as Slurm was observed to (docs/slurm-behaviour.md); each fault names the behaviour that it imitates.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from lvjobs.cluster.protocol import (
    Cap,
    ClusterError,
    ClusterSilent,
    Job,
    JobRequest,
    Limits,
    Load,
    Node,
    Site,
    Snapshot,
    SubmitDeferred,
    SubmitLimited,
    SubmitRefused,
    SubmitUnclear,
)
from lvjobs.cluster.states import SOON_SECONDS, QueuePosition
from lvjobs.errors import UsageError
from simulator.engine import KILL, NAMES, Clock, Engine, Manners, OnStep, SimulatedJob

SubmitFault: TypeAlias = Literal["lost", "vanished", "refused", "deferred"]
"""lost: the job is created, the reply is lost. vanished: neither arrives. refused, deferred: sbatch's own wording."""

Accounting: TypeAlias = Literal["on", "off", "dead"]


class SimulatedCluster(Engine):
    """The simulated cluster. Its faults are its public attributes and the methods under "what goes wrong"."""

    backend = "simulated"

    def __init__(self, clock: Clock, on_step: OnStep, manners: Manners | None = None) -> None:
        super().__init__(clock, on_step, manners)
        self.accounting: Accounting = "on"
        self.silent = False
        self.absent = ""  # why this host does not reach the cluster: then every call fails
        self.foreign_jobs = 0  # the same user's jobs that another program submitted
        self.submit_faults: deque[SubmitFault] = deque()
        self.calls: list[tuple[str, ...]] = []
        self.down: set[str] = set()
        """Nodes that the site reports as out of service; jobs start on them nevertheless."""

    # -- the protocol -------------------------------------------------------------------------------------------

    def script(self, request: JobRequest) -> str:
        """Return one line per member."""
        return "".join(f"{request.python} -m lvjobs.worker {path}\n" for path in request.run_directories)

    def check(self, request: JobRequest) -> None:
        """Refuse a time limit that is over the site's."""
        self._hear()
        minutes, most = request.resources.get("time_limit_minutes"), self.manners.max_minutes
        if minutes is not None and most is not None and minutes > most:
            raise UsageError(f"time_limit: {minutes} minutes is over the maximum; set at most {most:g} minutes")

    def submit(self, request: JobRequest) -> str:
        """Submit, unless a fault was scripted."""
        if self.absent:
            raise SubmitDeferred(self.absent)
        fault = self.submit_faults.popleft() if self.submit_faults else None
        if fault == "refused":
            raise SubmitRefused(
                "Batch job submission failed: Invalid account or account/partition combination specified"
            )
        if fault == "deferred":
            raise SubmitDeferred("Batch job submission failed: Unable to contact slurm controller (connect failure)")
        unclear = SubmitUnclear("Batch job submission failed: Socket timed out on send/recv operation")
        if fault == "vanished":
            raise unclear
        if not self.nodes_for(request):
            raise SubmitRefused("Batch job submission failed: Requested node configuration is not available")
        if self._is_too_much(request):
            raise SubmitLimited("Batch job submission failed: QOSMaxSubmitJobPerUserLimit")
        job_id = self.create(request)
        if fault == "lost" or self.silent:  # a frozen controller finds the message when it continues
            raise unclear
        return job_id

    def limits(self, request: JobRequest) -> Limits:
        """Return the site's limits, where it reports them."""
        self._hear("limits", request.token)
        most = self.manners.max_submit if self.manners.tells_limits else None
        caps = () if most is None else (Cap(("user", ""), most, f"QOS normal: MaxSubmitJobsPU={most}"),)
        longest = self.manners.max_minutes
        return Limits(caps, minutes=None if longest is None else int(longest))

    def load(self) -> Load:
        """Return how many jobs wait or run, including foreign ones."""
        self._hear("load", "")
        return self._load()

    def _load(self) -> Load:
        return {("user", ""): self.foreign_jobs + sum(job.end is None for job in self.jobs)}

    def _is_too_much(self, request: JobRequest) -> bool:
        most = self.manners.max_submit
        return most is not None and self._load()["user", ""] + len(request.run_directories) > most

    def observe(self, tokens: Sequence[str], since: float, companions: Sequence[str] = ()) -> Snapshot:
        """Return the states of the jobs with these tokens, as far as the scheduler and accounting answer."""
        wanted, now = frozenset(tokens), self.clock.now
        problems = []
        queue, load = None, None
        if self.absent:
            return Snapshot(now, None, None, self.absent)
        if self.silent:
            problems.append("squeue: Socket timed out on send/recv operation")
        else:
            fresh = [job for job in self.jobs if job.end is None or now - job.end <= self.manners.min_job_age]
            shown = wanted.union(companions)
            queue, load = [job.view() for job in fresh if job.request.token in shown], self._load()
        history = None
        if self.accounting == "on":
            history = [job for job in self._history() if job.token in wanted and (job.end is None or job.end >= since)]
        elif self.accounting == "dead":
            problems.append("sacct: Problem talking to the database: Connection refused")
        return Snapshot(now, queue, history, "; ".join(problems), self.accounting != "off", load)

    def _history(self) -> list[Job]:
        """Return the newest row of each execution that accounting knows by now."""
        newest: dict[tuple[str, str, int | None], Job] = {}
        for since, row in self.rows:
            if since <= self.clock.now - self.manners.accounting_lag:
                newest[row.id, row.token, row.restart_count] = row
        return list(newest.values())

    def cancel(self, job_id: str) -> None:
        """End the job for good."""
        self._hear("cancel", job_id)
        for job in self.find(job_id):
            if job.end is None:
                self.end_run(job, "CANCELLED")

    def release(self, job_id: str) -> None:
        """Release a held job."""
        self._hear("release", job_id)
        for job in self.find(job_id):
            if "held" in job.reason:
                job.reason = "Priority"

    def lift_hold(self, job_id: str) -> None:
        """Let a requeued job start in a few seconds."""
        self._hear("lift_hold", job_id)
        for job in self.find(job_id):
            if job.view().is_held_back(self.clock.now):
                job.eligible = self.clock.now + SOON_SECONDS

    def estimate_start(self, request: JobRequest) -> float:
        """Return now where a slot is free; else as many seconds later as the job requests minutes."""
        self._hear("estimate_start", request.token)
        if request.resources.get("partition") == "closed":
            raise ClusterError("Invalid account or account/partition combination specified")
        is_full = sum(job.state == "RUNNING" for job in self.jobs) >= self.manners.slots
        return self.clock.now + (float(request.resources.get("time_limit_minutes") or 60) if is_full else 0.0)

    def place(self, job_id: str) -> QueuePosition | None:
        """Return the position: jobs wait in the order in which they were submitted."""
        self._hear()
        waiting = [job.id for job in self.jobs if job.state == "PENDING"]
        return QueuePosition("simulated", None, waiting.index(job_id), len(waiting)) if job_id in waiting else None

    def extend(self, job_id: str, minutes: int) -> None:
        """Set a longer time limit, in minutes, for a job that waits."""
        self._hear("extend", job_id)
        for job in self.find(job_id):
            if job.state == "PENDING":
                job.request = replace(job.request, resources={**job.request.resources, "time_limit_minutes": minutes})

    def nodes(self, request: JobRequest) -> Sequence[Node]:
        """Return all nodes, whatever the job requests."""
        self._hear("nodes", request.token)
        return [Node(name, is_up=name not in self.down) for name in NAMES]

    def avoid(self, job_ids: Sequence[str], nodes: Sequence[str]) -> None:
        """Exclude these nodes, and only these, for jobs that wait."""
        self._hear()
        for job_id in job_ids:
            self.calls.append(("avoid", job_id))
            for job in self.find(job_id):
                if job.state != "PENDING":
                    raise ClusterError(f"Job is no longer pending execution for job {job_id}")
                resources = {**job.request.resources, "exclude_nodes": list(nodes)}
                job.request = replace(job.request, resources=resources)

    def probe(self) -> Site:
        """Return the site's behaviour on requeue and preemption."""
        self._hear()
        return Site(
            backend="simulated",
            preempt_mode=self.manners.preempt_mode,
            requeue_hold_seconds=self.manners.hold,
            min_job_age_seconds=self.manners.min_job_age,
            accounting=self.accounting != "off",
            partitions={"simulated": self.manners.max_minutes},
        )

    def _hear(self, *call: str) -> None:
        """Record a call as `(name, id or token)` where tests check it. Raises ClusterSilent where silent."""
        if self.absent:
            raise ClusterSilent(self.absent)
        if self.silent:
            raise ClusterSilent("Unable to contact slurm controller (connect failure)")
        if call:
            self.calls.append(call)

    # -- what goes wrong ----------------------------------------------------------------------------------------

    def suspend(self, job_id: str) -> None:
        """Stop the processes of a running job, as an operator or gang scheduling does; its slot is free meanwhile."""
        for job in self._running(job_id):
            job.state, job.suspended_since = "SUSPENDED", self.clock.now

    def resume(self, job_id: str) -> None:
        """Let a suspended job run again. The suspended time does not count towards its time limit."""
        for job in self.find(job_id):
            if job.state == "SUSPENDED" and job.suspended_since is not None:
                job.state = "RUNNING"
                job.suspended += self.clock.now - job.suspended_since

    def requeue(self, job_id: str) -> None:
        """Put the job back in the queue, held, as its worker or an operator does (`scontrol requeue`)."""
        self._hear("requeue", job_id)
        found = self.find(job_id)
        if not found:
            raise ClusterError(f"Invalid job id specified for job {job_id}")
        for job in found:
            if job.end is None and job.state in ("RUNNING", "SUSPENDED"):
                self.end_run(job, "REQUEUED")
            if job.state != "PENDING":
                self.put_back(job)

    def call(self, job_id: str, state: str) -> None:
        """Make the scheduler show a state of this name, which may be unknown to lvjobs; "" ends that."""
        for job in self.find(job_id):
            job.called = state

    def preempt(self, job_id: str) -> None:
        """Preempt the job: SIGTERM, grace, SIGKILL; then it is requeued, or ended on a CANCEL site.

        A job that stays until it is killed keeps the flag: its next execution, however it ends, is called PREEMPTED,
        and the job runs once more.
        """
        for job in self._running(job_id):
            job.preempted = self.clock.now
            job.signals.append("SIGTERM")
            if self.manners.grace <= 0:
                self.leave(job, None, KILL)

    def fail_node(self, job_id: str, orphan_steps: int = 0) -> None:
        """Fail the job's node. Its process may continue, unseen, for `orphan_steps` steps."""
        for job in self._running(job_id):
            if orphan_steps:
                self.orphans.append(replace(job, orphan_steps=orphan_steps, signals=list(job.signals)))
            self.end_run(job, "NODE_FAIL")
            self.put_back(job)

    def kill(self, job_id: str, signal: int = KILL) -> None:
        """Kill the worker; nobody requeues the job."""
        for job in self._running(job_id):
            self.end_run(job, "FAILED", 0, signal)

    def fail_launch(self, job_id: str) -> None:
        """End the job before its first line: "Job credential revoked", a prolog that fails."""
        for job in self.find(job_id):
            if job.state == "PENDING":
                job.start, job.node = self.clock.now, "n0"
                self.end_run(job, "FAILED", 1)

    def hold_launch(self, job_id: str, reason: str = "launch failed requeued held") -> None:
        """Put the job back in the queue because its node could not start it; Slurm holds it until it is released."""
        for job in self.find(job_id):
            if job.state in ("PENDING", "RUNNING"):
                if job.state == "RUNNING":
                    self.end_run(job, "NODE_FAIL")
                self.put_back(job)
                job.reason = reason

    def _running(self, job_id: str) -> list[SimulatedJob]:
        return [job for job in self.find(job_id) if job.state == "RUNNING"]
