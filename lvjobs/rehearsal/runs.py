"""The runs of a rehearsal: each is shortened, and trains in a study of its own."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lvjobs.control.loop import open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.rehearsal.attempts import entries_of, generations_of
from lvjobs.rehearsal.faults import Shape
from lvjobs.rehearsal.processes import RunProcesses
from lvjobs.study.config import StudyConfig, StudyContext
from lvjobs.study.layout import RunLayout
from lvjobs.study.program.command import COMMAND_TASK, CommandConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.study.tables import Budget, Driver, Policy, Resources

NAME = "rehearsal"
CHECKPOINTS = 6
"""The number of checkpoints in a rehearsed run."""

_PASS_SECONDS = 1.0
_POLL_SECONDS = 0.02
_SHAPE_SECONDS = 0.5
"""Seconds between two counts of the processes of an undisturbed run."""

_ENOUGH = 10**6
LONGEST_SECONDS = Policy().hung_seconds
_SHORTEST_SECONDS = 120.0
"""Seconds without a journal line after which a run hangs: at most, and at least."""

_OVER = ("completed", "held", "cancelled", "paused")


def train_to_its_end(
    root: Path,
    config: RunConfig,
    resources: Resources,
    profile: str,
    between: Callable[[], None],
    patience: float = LONGEST_SECONDS,
) -> Mapping[str, Any]:
    """Train the run in a study of its own until it is over, and return its row; call `between` between passes.

    The study has no driver, an unlimited budget, short waits and unlimited retries, but for a run that hangs: one that
    is silent for `patience` seconds.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, mode=0o700)
    limits = {key for key in Policy.model_fields if key.endswith("_retries")} - {"out_of_memory_retries"}
    policy = Policy(
        **{**dict.fromkeys(limits, _ENOUGH), "hung_retries": 1},
        hung_seconds=patience,
        no_progress_deaths=_ENOUGH,
        no_progress_preemptions=_ENOUGH,
        backoff_seconds=1,
        unclear_seconds=3,
        lost_seconds=5,
    )
    budget = Budget(limit=10**30, gpu_hours=_ENOUGH if config.task == COMMAND_TASK else None)
    settings = StudyConfig(profile=profile, driver=Driver(job=False), budget=budget, policy=policy, stage=[])
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


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run: its files, its processes, and its row (docs/json.md)."""

    run: RunLayout
    shape: Shape
    row: Mapping[str, Any]

    @property
    def hung_seconds(self) -> float:
        """Return the seconds of silence after which a disturbed run hangs: ten times the longest one of this run."""
        times = sorted(entry.time for number in generations_of(self.run) for entry in entries_of(self.run, number))
        longest = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        return min(LONGEST_SECONDS, max(_SHORTEST_SECONDS, 10 * longest))


class ShapeCounter:
    """The counter of an undisturbed run's processes."""

    def __init__(self, run: RunLayout) -> None:
        self._run, self._processes = run, RunProcesses(run)
        self._counted = 0.0
        self.shape = Shape()

    def count(self) -> None:
        """Count, but not too often, and keep the most of each kind."""
        if time.monotonic() - self._counted < _SHAPE_SECONDS:
            return
        self._counted = time.monotonic()
        newest = max(generations_of(self._run), default=0)
        self.shape = Shape(
            max(self.shape.ranks, len(self._processes.ranks(newest))),
            max(self.shape.launchers, len(self._processes.launchers(newest))),
            max(self.shape.agents, len(self._processes.agents())),
        )


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """Return the run with `steps` steps at most, and with checkpoints and validations spread over them.

    A program whose command has no {steps}, or no {checkpoint_every}, keeps its own number.
    """
    used = {"steps", "checkpoint_every"}
    if config.task == COMMAND_TASK:
        used &= read_params(CommandConfig, config.params).used
    fewer = min(steps, config.steps) if "steps" in used else config.steps
    every = max(1, fewer // CHECKPOINTS) if "checkpoint_every" in used else config.checkpoint_every
    return RunConfig.model_validate(
        {**config.model_dump(mode="json"), "steps": fewer, "checkpoint_every": every, "validate_every": every}
    )


def where(profile: str, resources: Resources) -> str:
    """Return where a run trains, in words."""
    return f"on a private Slurm with {resources.nodes or 1} nodes" if profile == "lab" else "on this machine"
