"""The faults that are injected into a rehearsed run, and the injector that draws them from a seed."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from lvjobs.cluster.local_files import jobs_in
from lvjobs.errors import UsageError
from lvjobs.lab import Lab, LabError
from lvjobs.records.journal import Entry, steps_of
from lvjobs.records.run_files import Claim, parse_generation
from lvjobs.rehearsal.attempts import entries_of
from lvjobs.rehearsal.processes import RunProcesses, kill, kill_one
from lvjobs.rehearsal.saves import SavePlace
from lvjobs.study.layout import RunLayout, StudyLayout

Fault: TypeAlias = Callable[[Claim], bool]
"""A fault of the execution that made the claim, and that is training now. It returns whether it met the run."""

INSIDE_A_SAVE = "killed inside a save (SIGKILL)"

_SAVE_SECONDS = 60.0
"""Seconds for which a save is waited for."""

_UNSAVED_SECONDS = 6.0
"""Seconds in which slurmctld saves a change, and one more. What is younger is lost when it is killed."""

_MISSES = 2
"""Misses after which a kind of fault is not tried again."""

_ENDS = frozenset({"leave", "done", "error"})
"""The kinds of lines after which an attempt trains no more."""


def local_faults(layout: StudyLayout) -> dict[str, Fault]:
    """Return those of local jobs: signals, as a scheduler would send them, and the loss of the machine."""

    def lose_machine(claim: Claim) -> bool:
        """Kill the job's wrapper before the worker, so that no process is left to record how the job ended."""
        for job in jobs_in(layout.local_jobs):
            run = job.members()[0]
            worker, wrapper = run.process("worker"), run.process("wrapper")
            if worker is not None and wrapper is not None and worker.pid == claim.pid:
                _signal(wrapper.pid, signal.SIGKILL)
        return _signal(claim.pid, signal.SIGKILL)

    return {
        "asked to stop (SIGTERM)": lambda claim: _signal(claim.pid, signal.SIGTERM),
        "time limit near (SIGUSR2)": lambda claim: _signal(claim.pid, signal.SIGUSR2),
        "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
        "machine lost": lose_machine,
    }


def lab_faults(lab: Lab, chance: random.Random) -> dict[str, Fault]:
    """Return those of a private Slurm cluster: what Slurm does to jobs, and faults of Slurm itself."""

    def preempt(claim: Claim) -> bool:
        lab.preempt(claim.job_id)
        return True

    def lose_node(claim: Claim) -> bool:
        nodes = lab.run("squeue", "-h", "-r", "-j", claim.job_id, "-o", "%N").strip()
        if not nodes:
            return False
        node = chance.choice(lab.run("scontrol", "show", "hostnames", nodes).split())
        lab.fail(node)
        lab.restore(node)
        return True

    def restart_controller(claim: Claim) -> bool:
        """Kill slurmctld once it has saved that the job runs: else it starts the job twice, and drains the node."""
        time.sleep(max(0.0, claim.time + _UNSAVED_SECONDS - time.time()))
        if not lab.run("squeue", "-h", "-t", "running", "-o", "%i").strip():
            return False
        lab.kill_controller()
        lab.start_controller()
        return True

    return {
        "preempted": preempt,
        "killed (SIGKILL)": lambda claim: _signal(claim.pid, signal.SIGKILL),
        "node lost": lose_node,
        "slurmctld restarted": restart_controller,
    }


@dataclass(frozen=True)
class Shape:
    """The shape of a run, as seen while it trained undisturbed: what there is to kill."""

    ranks: int = 0
    launchers: int = 0
    agents: int = 0


def process_faults(run: RunLayout, shape: Shape, chance: random.Random, *, is_program: bool) -> dict[str, Fault]:
    """Return the kills of single processes of a run that trains in several of them.

    The first rank of a function is the worker, which is not among the ranks here.
    """
    there, found = RunProcesses(run), {}
    if shape.ranks > int(is_program):
        found["rank killed (SIGKILL)"] = lambda claim: kill_one(there.ranks(claim.generation), chance)
    if shape.launchers:
        found["launcher killed (SIGKILL)"] = lambda claim: kill_one(there.launchers(claim.generation), chance)
    if shape.agents:
        found["agent killed (SIGKILL)"] = lambda _claim: kill_one(there.agents(), chance)
    return found


def program_faults(run: RunLayout, saves: SavePlace | None) -> dict[str, Fault]:
    """Return those of a program: it is killed as a whole, at any moment and inside a save. The worker continues."""
    there = RunProcesses(run)

    def kill_inside_a_save(claim: Claim) -> bool:
        end = time.monotonic() + _SAVE_SECONDS
        assert saves is not None
        return saves.kill_inside_a_save(
            claim.generation, lambda: time.monotonic() > end or _has_ended(entries_of(run, claim.generation))
        )

    found: dict[str, Fault] = {"program killed (SIGKILL)": lambda claim: kill(there.of_program(claim.generation))}
    return {**found, INSIDE_A_SAVE: kill_inside_a_save} if saves is not None else found


class FaultInjector:
    """The injector of faults: each comes after some steps of an execution, so that every execution trains.

    `met` counts the faults that met the run, by kind. `dropped` has the kinds that found nothing to act on, twice.
    """

    def __init__(
        self,
        files: RunLayout,
        interval: int,
        faults: Mapping[str, Fault],
        chance: random.Random,
        until: float,
        say: Callable[[str], None],
    ) -> None:
        self.met: Counter[str] = Counter()
        self._files, self._interval, self._faults = files, interval, dict(faults)
        self._chance, self._until, self._say = chance, until, say
        self._bag: list[str] = []
        self._misses: Counter[str] = Counter()
        self._disturbed = 0
        self._after = 0
        self._draw()

    @property
    def dropped(self) -> list[str]:
        """Return the kinds that found nothing to act on."""
        return sorted(self._misses.keys() - self._faults.keys())

    @property
    def untested(self) -> list[str]:
        """Return the kinds that did not meet the run yet, and still may."""
        return sorted(self._faults.keys() - self.met.keys())

    def begin_again(self, files: RunLayout, faults: Mapping[str, Fault]) -> None:
        """Begin with the first generation of another run, to which these faults are bound."""
        self._files = files
        self._faults = {kind: fault for kind, fault in faults.items() if kind in self._faults}
        self._disturbed = 0
        self._draw()

    def _draw(self, later_than: int = 0) -> None:
        """Draw the next fault, and after how many steps it comes: each kind once before any is repeated."""
        if not self._bag:
            self._bag = self._chance.sample(sorted(self._faults), len(self._faults))
        self._after = later_than + self._chance.randint(1, self._interval + self._interval // 2)

    def inject(self) -> None:
        """Inject the next fault if it is due."""
        paths = sorted(path for path in self._files.generations.glob("*") if parse_generation(path.name))
        if not paths or not self._faults or time.monotonic() > self._until:
            return
        claim = Claim.read(paths[-1])
        if claim.generation <= self._disturbed:
            return
        entries = entries_of(self._files, claim.generation)
        taken = sum(map(steps_of, entries))
        if taken < self._after or _has_ended(entries):
            return
        self._inject(self._bag.pop(), claim, taken)

    def _inject(self, what: str, claim: Claim, taken: int) -> None:
        has_met = False
        with suppress(LabError, UsageError):  # the job ended in the meantime
            has_met = self._faults[what](claim)
        entries = entries_of(self._files, claim.generation)
        if has_met and any(entry.kind == "done" for entry in entries):  # it came too late, and may come again
            self._disturbed = claim.generation
        elif has_met:
            self.met[what] += 1
            self._disturbed = claim.generation
            steps = sum(map(steps_of, entries))
            self._say(f"{what}: attempt {claim.generation}, after {steps} {'step' if steps == 1 else 'steps'}")
        else:
            self._misses[what] += 1
            if self._misses[what] >= _MISSES and not self.met[what]:
                del self._faults[what]
        if self._faults:
            self._draw(0 if has_met else taken)


def _has_ended(entries: list[Entry]) -> bool:
    return any(entry.kind in _ENDS for entry in entries)


def _signal(pid: int, number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False  # it ended in the meantime
