"""An undisturbed run, and the same run with faults that are drawn from a seed and injected into its job."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lvjobs.cluster.local_files import jobs_in
from lvjobs.control.loop import open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.errors import LvjobsError, UsageError
from lvjobs.lab import Lab, LabError
from lvjobs.records.journal import parse_entries, steps_of
from lvjobs.records.run_files import Claim, parse_generation
from lvjobs.rehearsal.verdict import Difference, differences
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.layout import RunLayout, StudyLayout
from lvjobs.study.run import RunConfig
from lvjobs.study.tables import Budget, Driver, Policy, Resources

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


NAME = "rehearsal"
CHECKPOINTS = 6
"""The number of checkpoints in a rehearsed run."""

_PASS_SECONDS = 1.0
_POLL_SECONDS = 0.02
_ENOUGH = 10**6
_OVER = ("completed", "held", "cancelled", "paused")


@dataclass(frozen=True)
class RehearsalReport:
    """The result: the number of faults by kind, the disturbed run's row (docs/json.md), and the differences."""

    met: Mapping[str, int]
    run: Mapping[str, Any]
    differences: Sequence[Difference]

    @property
    def holds(self) -> bool:
        """Return whether the disturbed run was completed and equals the undisturbed one."""
        return self.run["state"] == "completed" and not self.differences


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the run with `steps` steps, and with checkpoints and validations spread over them."""
    every = max(1, steps // CHECKPOINTS)
    return RunConfig.model_validate(
        {**config.model_dump(mode="json"), "steps": steps, "checkpoint_every": every, "validate_every": every}
    )


def train_undisturbed(root: Path, config: RunConfig, resources: Resources, say: Callable[[str], None]) -> RunLayout:
    """Train the run on this machine without faults, with these resources, and return its files.

    Raises:
        LvjobsError: it was not completed; the text gives its state.
    """
    row = _train(root, "local", config, lambda: None, resources)
    if row["state"] != "completed":
        raise LvjobsError(
            f"left alone, the run is {row['state']} at step {row['step']}: {row['reason']}; there is nothing to "
            f"rehearse before that is fixed: see {root}"
        )
    say(f"left alone: {row['steps']} steps")
    return StudyLayout(root).run(NAME)


def disturb(
    alone: RunLayout,
    root: Path,
    profile: str,
    config: RunConfig,
    faults: Mapping[str, Fault],
    *,
    seed: int,
    until: float,
    resources: Resources,
    say: Callable[[str], None],
) -> RehearsalReport:
    """Train the run with faults, until its end, and compare it with the undisturbed run.

    Args:
        alone: The files of the undisturbed run.
        root: The directory for the disturbed run's study.
        profile: The cluster to train on.
        config: The run.
        faults: The faults to choose from.
        seed: Seed of the choices, and of the times between them.
        until: No fault is injected later (monotonic seconds).
        resources: What the jobs request.
        say: Called with each fault, in words.
    """
    disturbed = StudyLayout(root).run(NAME)
    injector = FaultInjector(disturbed, config.checkpoint_every, faults, random.Random(seed), until, say)
    row = _train(root, profile, config, injector.inject, resources)
    return RehearsalReport(injector.met, row, differences(alone, disturbed))


class FaultInjector:
    """The injector of faults: each comes after some steps of an execution, so that every execution trains."""

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
        self._files, self._interval, self._faults = files, interval, faults
        self._chance, self._until, self._say = chance, until, say
        self._bag: list[str] = []
        self._disturbed = 0
        self._after = 0
        self._draw()

    def _draw(self) -> None:
        """Draw the next fault, and after how many steps it comes: each kind once before any is repeated."""
        if not self._bag:
            self._bag = self._chance.sample(sorted(self._faults), len(self._faults))
        self._after = self._chance.randint(1, self._interval + self._interval // 2)

    def inject(self) -> None:
        """Inject the next fault if it is due."""
        paths = sorted(path for path in self._files.generations.glob("*") if parse_generation(path.name))
        if not paths or time.monotonic() > self._until:
            return
        claim = Claim.read(paths[-1])
        if claim.generation <= self._disturbed:
            return
        journal = self._files.journal(claim.generation)
        entries = parse_entries(journal.read_bytes())[0] if journal.exists() else []
        taken = sum(map(steps_of, entries))
        if taken < self._after or any(entry.kind in ("leave", "done", "error") for entry in entries):
            return
        what = self._bag.pop()
        with suppress(LabError, UsageError):  # the job ended in the meantime
            self._faults[what](claim)
            self.met[what] += 1
            self._say(f"{what}, {taken} steps after it began for the {claim.generation}. time")
        self._disturbed = claim.generation
        self._draw()


def _train(
    root: Path, profile: str, config: RunConfig, between: Callable[[], None], resources: Resources
) -> Mapping[str, Any]:
    """Train the run in a study of its own until it is over, and return its row; call `between` between passes.

    The study has no driver, an unlimited budget, short waits and unlimited retries.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, mode=0o700)
    limits = [key for key in Policy.model_fields if key.endswith("_retries") and key != "out_of_memory_retries"]
    policy = Policy(
        **dict.fromkeys(limits, _ENOUGH),
        no_progress_deaths=_ENOUGH,
        no_progress_preemptions=_ENOUGH,
        backoff_seconds=1,
        unclear_seconds=3,
        lost_seconds=5,
    )
    settings = StudyConfig(
        profile=profile, driver=Driver(job=False), budget=Budget(limit=10**30), policy=policy, stage=[]
    )
    study = StudyContext(root=root, config=settings)
    with open_session(study, wait=60) as session:
        enter(session, RunRequest([config], [NAME], NAME, profile, resources))
    while True:
        with open_session(study, wait=60) as session:
            (row,) = session.make_pass()["runs"]
        if row["state"] in _OVER:
            found: Mapping[str, Any] = row
            return found
        begun = time.monotonic()
        while time.monotonic() - begun < _PASS_SECONDS:
            between()
            time.sleep(_POLL_SECONDS)
