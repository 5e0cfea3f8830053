"""The runs of a rehearsal: each is shortened, and trains in a study of its own."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lvjobs.control.loop import open_session
from lvjobs.control.stages.submit_runs import enter
from lvjobs.control.submission.declare import RunRequest
from lvjobs.records.journal import Entry, parse_entries
from lvjobs.records.run_files import parse_generation
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
_OVER = ("completed", "held", "cancelled", "paused")


def train_to_its_end(
    root: Path, config: RunConfig, resources: Resources, profile: str, between: Callable[[], None]
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


def entries_of(run: RunLayout, generation: int) -> list[Entry]:
    """Return the lines of a generation's journal."""
    return parse_entries(run.journal(generation).read_bytes())[0]


def generations_of(run: RunLayout) -> list[int]:
    """Return the numbers of the run's generations, in their order."""
    return sorted(number for path in run.generations.glob("*") if (number := parse_generation(path.name)))


def where(profile: str, resources: Resources) -> str:
    """Return where a run trains, in words."""
    return f"on a private Slurm with {resources.nodes or 1} nodes" if profile == "lab" else "on this machine"


def checkpoints_of(run: RunLayout) -> list[int]:
    """Return the steps of the checkpoints that the run published."""
    entries = (entry for number in generations_of(run) for entry in entries_of(run, number))
    return [int(entry.fields["step"]) for entry in entries if entry.kind == "checkpoint"]


_SHOWN = 6
"""The most files that are named where none is a checkpoint."""

_NOT_TAKEN = "lvjobs worker: a checkpoint was not taken: "


def problem_of(run: RunLayout) -> str:
    """Return why no checkpoint was taken: by the run's log, else by the names of its files."""
    logs = sorted(run.study.log_directory(run.root.name).glob("*"))
    lines = [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    if found := [line.removeprefix(_NOT_TAKEN) for line in lines if line.startswith(_NOT_TAKEN)]:
        return f" ({found[-1]})"
    names = sorted(str(path.relative_to(run.final)) for path in run.final.rglob("*") if path.is_file())
    there = f"it left {', '.join(names[:_SHOWN])}" if names else "it left no files"
    return f": nothing matches `checkpoint` of [train] ({there})"
