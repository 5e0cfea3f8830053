"""The faults that a rehearsal injects into a run's job, on this machine and on a private Slurm cluster."""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from lvjobs.cluster.local_files import jobs_in
from lvjobs.lab import Lab
from lvjobs.records.claim import Claim
from lvjobs.study.layout import StudyLayout

Fault: TypeAlias = Callable[[Claim], None]
"""A fault of the execution that made the claim, and that is training now."""


class Venue(Protocol):
    """The kind of cluster on which a rehearsal runs."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Return its faults, by their names in the report."""


@dataclass(frozen=True)
class LocalStage:
    """The local cluster, whose jobs are processes of this machine."""

    layout: StudyLayout

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Return signals, as a scheduler would send them, and the loss of the machine."""
        return {
            "asked to leave (SIGTERM)": lambda claim: _signal(claim.pid, signal.SIGTERM),
            "time limit near (SIGUSR2)": lambda claim: _signal(claim.pid, signal.SIGUSR2),
            "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
            "machine lost": self._lose_machine,
        }

    def _lose_machine(self, claim: Claim) -> None:
        """Kill the job's wrapper before the worker, so that no process is left to record how the job ended."""
        for job in jobs_in(self.layout.local_jobs):
            run = job.members()[0]
            worker, wrapper = run.process("worker"), run.process("wrapper")
            if worker is not None and wrapper is not None and worker.pid == claim.pid:
                _signal(wrapper.pid, signal.SIGKILL)
        _signal(claim.pid, signal.SIGKILL)


@dataclass(frozen=True)
class LabStage:
    """A private Slurm cluster."""

    lab: Lab

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Return what Slurm does to jobs, and faults of Slurm itself."""
        return {
            "preempted": self._preempt,
            "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
            "node lost": self._lose_node,
            "slurmctld restarted": lambda _claim: self._restart(),
        }

    def _preempt(self, claim: Claim) -> None:
        self.lab.preempt(claim.job_id)

    def _lose_node(self, claim: Claim) -> None:
        node = self.lab.run("squeue", "-h", "-r", "-j", claim.job_id, "-o", "%N").strip()
        if node:
            self.lab.fail(node)
            self.lab.restore(node)

    def _restart(self) -> None:
        self.lab.kill_controller()
        self.lab.start_controller()


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it ended in the meantime
        os.kill(pid, number)
