"""The faults of a cluster, on command: preemption, a failed node, an unresponsive controller."""

import re
import signal
import time
from dataclasses import dataclass

import psutil

from lvjobs import remedies
from lvjobs.errors import UsageError
from lvjobs.lab.daemons import controller_answers, start_controller, start_nodes
from lvjobs.lab.layout import ACCOUNT, PREEMPTIBLE, URGENT, LabHost, Layout
from lvjobs.lab.processes import daemon_process, is_alive, is_stopped, send, stop_daemons
from lvjobs.lab.tools import LabError, run_tool, wait_until

_LATE_ANSWER_SECONDS = 2.0
"""The controller handles answers once per second; a late one would put the node back in service."""

_FORMAT = "%i|%A|%j|%T|%P|%N"  # id as displayed, numeric id, name, state, partition, nodes


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    job_id: str
    raw_id: str
    name: str
    state: str
    partition: str
    nodes: str

    @property
    def first_node(self) -> str:
        """Return the first of its nodes, which Slurm lists as n[2-3,5], n1,n4 or n2."""
        match = re.match(r"([^\[,]+)(?:\[(\d+))?", self.nodes)
        return match[1] + (match[2] or "") if match else ""


@dataclass(frozen=True)
class Preemption:
    """The jobs and the node of a preemption."""

    job_id: str
    node: str
    urgent_job_id: str


def parse_queue(text: str) -> tuple[QueuedJob, ...]:
    """Parse squeue's output in the format of this module."""
    jobs = []
    for line in text.splitlines():
        job_id, raw_id, middle = line.split("|", 2)
        name, state, partition, nodes = middle.rsplit("|", 3)  # a name may hold the separator
        jobs.append(QueuedJob(job_id, raw_id, name, state, partition, nodes))
    return tuple(jobs)


def choose_victim(jobs: tuple[QueuedJob, ...], text: str) -> QueuedJob:
    """Return the running job that `text` names: by its id, its name, or the run that its name begins with.

    Raises:
        UsageError: There is none, it does not run, or it cannot be preempted.
    """
    meant = [job for job in jobs if text in (job.job_id, job.raw_id, job.name) or job.name.startswith(f"{text}.")]
    running = [job for job in meant if job.state == "RUNNING" and job.partition != URGENT]
    if running:
        return running[0]
    if not meant:
        raise UsageError(f"no job {text} in the lab's queue: give a job id or the name of a run that squeue shows")
    if meant[0].partition == URGENT:
        raise UsageError(f"job {meant[0].job_id} is urgent itself: name a job of partition {PREEMPTIBLE}")
    raise UsageError(f"job {meant[0].job_id} is {meant[0].state}, and only a running job can be preempted: wait for it")


class FaultCommands:
    """The faults that a lab injects into itself. `layout` has its paths."""

    layout: Layout

    def preempt(self, job: str | int, *, seconds: float = 3.0) -> Preemption:
        """Submit an urgent job that takes the whole node of `job` (an id, or the run in its name) for `seconds`.

        Raises:
            UsageError: The job does not exist, does not run, or cannot be preempted.
            LabError: A Slurm command failed.
        """
        layout, config = self.layout, self.host().config
        victim = choose_victim(parse_queue(run_tool(layout, "squeue", "-h", "-a", "-o", _FORMAT)), str(job))
        options = [f"--partition={URGENT}", f"--nodelist={victim.first_node}", "--exclusive", "--time=5"]
        if config.accounting:
            options.append(f"--account={ACCOUNT}")
        if config.preempt_by == "qos":
            options.append(f"--qos={URGENT}")
        options += ["--job-name=lab-urgent", "--no-requeue", "--output=/dev/null", f"--wrap=exec sleep {seconds:g}"]
        printed = run_tool(layout, "sbatch", "--parsable", *options, cwd=layout.scratch)
        return Preemption(victim.job_id, victim.first_node, printed.strip().split(";")[0])

    def fail(self, node: str) -> None:
        """Fail a node: its slurmd is killed, the controller sets it down, and the processes of its jobs run on."""
        self._check_node(node)
        stop_daemons(self.layout, [f"slurmd.{node}"], first=signal.SIGKILL)
        time.sleep(_LATE_ANSWER_SECONDS)
        run_tool(self.layout, "scontrol", "update", f"nodename={node}", "state=down", "reason=lab fail")

    def restore(self, node: str) -> None:
        """Bring a failed node back into service."""
        self._check_node(node)
        start_nodes(self.layout, [node])

    def freeze(self) -> None:
        """Make the controller unresponsive: it keeps its sockets and answers nobody."""
        process = self._controller("frozen")
        send([process], signal.SIGSTOP)
        wait_until(lambda: is_stopped(process), 5)

    def thaw(self) -> None:
        """Resume a frozen controller, and wait until it answers."""
        process = self._controller("thawed")
        send([process], signal.SIGCONT)
        wait_until(lambda: not is_stopped(process), 5)
        wait_until(lambda: controller_answers(self.layout), 20)

    def kill_controller(self) -> None:
        """Kill the controller with SIGKILL; jobs run on, and it loses up to five seconds of unsaved changes."""
        process = daemon_process(self.layout, "slurmctld")
        helpers = process.children() if process else []  # slurmscriptd, which ends by itself when its parent is gone
        stop_daemons(self.layout, ["slurmctld"], first=signal.SIGKILL)
        wait_until(lambda: not any(is_alive(helper) for helper in helpers), 10)

    def start_controller(self) -> None:
        """Start the controller again and wait until it answers."""
        self.host()
        start_controller(self.layout)

    def host(self) -> LabHost:
        """Return the choices of the last `up`. Raises UsageError if there was none."""
        host = self.layout.load()
        if host is None:
            command = remedies.LAB_UP(*self.layout.options)
            raise UsageError(f"there is no lab in {self.layout.directory}; type: {command}")
        return host

    def _check_node(self, node: str) -> None:
        names = self.host().config.node_names
        if node not in names:
            raise UsageError(f"no node {node} in this lab: choose from {names[0]} to {names[-1]}")

    def _controller(self, wanted: str) -> psutil.Process:
        process = daemon_process(self.layout, "slurmctld")
        if process is None:
            raise LabError(
                f"slurmctld does not run, so it cannot be {wanted}; type: {remedies.LAB_UP(*self.layout.options)}"
            )
        return process
