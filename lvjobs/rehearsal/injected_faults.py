"""The faults that a rehearsal injects into a run's job, by their names in the report."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeAlias

from lvjobs.cluster.local_files import jobs_in
from lvjobs.lab import Lab
from lvjobs.records.run_files import Claim
from lvjobs.study.layout import StudyLayout

Fault: TypeAlias = Callable[[Claim], None]
"""A fault of the execution that made the claim, and that is training now."""


def local_faults(layout: StudyLayout) -> Mapping[str, Fault]:
    """Return those of local jobs: signals, as a scheduler would send them, and the loss of the machine."""

    def lose_machine(claim: Claim) -> None:
        """Kill the job's wrapper before the worker, so that no process is left to record how the job ended."""
        for job in jobs_in(layout.local_jobs):
            run = job.members()[0]
            worker, wrapper = run.process("worker"), run.process("wrapper")
            if worker is not None and wrapper is not None and worker.pid == claim.pid:
                _signal(wrapper.pid, signal.SIGKILL)
        _signal(claim.pid, signal.SIGKILL)

    return {
        "asked to leave (SIGTERM)": lambda claim: _signal(claim.pid, signal.SIGTERM),
        "time limit near (SIGUSR2)": lambda claim: _signal(claim.pid, signal.SIGUSR2),
        "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
        "machine lost": lose_machine,
    }


def lab_faults(lab: Lab) -> Mapping[str, Fault]:
    """Return those of a private Slurm cluster: what Slurm does to jobs, and faults of Slurm itself."""

    def preempt(claim: Claim) -> None:
        lab.preempt(claim.job_id)

    def lose_node(claim: Claim) -> None:
        node = lab.run("squeue", "-h", "-r", "-j", claim.job_id, "-o", "%N").strip()
        if node:
            lab.fail(node)
            lab.restore(node)

    def restart_controller(_claim: Claim) -> None:
        lab.kill_controller()
        lab.start_controller()

    return {
        "preempted": preempt,
        "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
        "node lost": lose_node,
        "slurmctld restarted": restart_controller,
    }


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it ended in the meantime
        os.kill(pid, number)
