"""A rehearsal of the run that study.toml, a task or a program declares, on this machine or on a private Slurm."""

import fcntl
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lvjobs.api.settings import Overrides, check_task, own_settings, pinned, settle
from lvjobs.cluster.backends import backend_of
from lvjobs.control.submission.declare import gpus_of
from lvjobs.errors import UsageError
from lvjobs.lab import Lab, LabConfig
from lvjobs.processes import interruptible
from lvjobs.rehearsal.conduct import Rehearsal, RehearsalReport
from lvjobs.rehearsal.faults import Fault, lab_faults, local_faults
from lvjobs.rehearsal.processes import end_all
from lvjobs.rehearsal.runs import CHECKPOINTS, shortened
from lvjobs.study.config import StudyContext
from lvjobs.study.layout import StudyLayout
from lvjobs.study.program.command import CommandConfig
from lvjobs.study.run import RunConfig, read_params
from lvjobs.study.settings import OwnSettings
from lvjobs.study.tables import Resources
from lvjobs.tasks.activation import check_activation, placed_activation
from lvjobs.tasks.registry import placed, task_of


def rehearse(
    study: StudyContext,
    given: Overrides,
    task: str | None = None,
    file: Path | None = None,
    *,
    minutes: float = 10.0,
    seed: int = 0,
    steps: int = 60,
    tolerance: float = 0.0,
    on_lab: bool | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> RehearsalReport:
    """Train a shortened run undisturbed and with faults, and compare both.

    Args:
        study: The study, which is not changed; the rehearsal's own studies are in its `.lvjobs/rehearsal`.
        given: Overrides of study.toml. A `command` among its settings is a program by itself.
        task: A task of the user's own, as `submit run` takes it.
        file: Its settings.
        minutes: The time for which faults are injected.
        seed: Seed of the faults and of their times.
        steps: The most steps of the run.
        tolerance: The relative distance of the last loss up to which the results count as near; 0: only equal ones.
        on_lab: Whether it runs on a private Slurm; None: as the study's profile does. Several nodes need one.
        say: Called with each event, in words.

    Raises:
        UsageError: there is nothing to rehearse, or a setting cannot be used.
        LvjobsError: the undisturbed run was not completed.
    """
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes}: write a number of minutes that is more than 0")
    is_own = task is not None or file is not None or "command" in given.settings
    if not is_own and not study.layout.config.exists():
        raise UsageError(
            f"there is no study.toml in {study.root}; write a program and its arguments at the end, after --, or name "
            "a function"
        )
    if is_own or isinstance(study.config.train, OwnSettings):
        settings, resources, profile = settle(study, given, own_settings(study, task, file, given))
        if not task_of(settings.run_config()).is_program:  # what a program's step costs does not matter here
            check_task(study, settings.run_config())
    else:
        settings, resources, profile = settle(study, given)
    config = shortened(placed(pinned(settings, study).run_config(), study.root), steps)
    if task_of(config).is_program and not read_params(CommandConfig, config.params).checkpoint:
        raise UsageError(
            "the program has no checkpoint, so nothing can resume; add --checkpoint '{out}/ckpt.pt', or checkpoint "
            "under [train]"
        )
    check_checkpoints(config)
    asked = _requested(config, resources, profile, study)
    nodes = asked.nodes or 1
    if on_lab is False and nodes > 1:
        raise UsageError(
            f"nodes = {nodes}: this machine is one node; rehearse with --lab, or with --set resources.nodes=1"
        )
    on_lab = nodes > 1 or (backend_of(profile).is_site if on_lab is None else on_lab)
    place, chance = study.layout.internal.resolve() / "rehearsal", random.Random(seed)
    rehearsal = Rehearsal(place, config, asked, tolerance, say)
    with interruptible(), only_one(place), _gpus(config, gpus_of(resources, profile)):
        first = None if nodes > 1 else rehearsal.train_undisturbed("local")
        with _cluster(chance, on_lab=on_lab, nodes=nodes) as (faults, cluster):
            alone = first or rehearsal.train_undisturbed(cluster)
            until = time.monotonic() + 60 * minutes
            return rehearsal.disturb(alone, cluster, faults, chance=chance, until=until)


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """End and delete what the rehearsal before left in its place; at the end, kill what works there.

    Raises:
        UsageError: another rehearsal works there.
    """
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (place / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another rehearsal works in {place}; type the command again once it has ended") from None
        end_all(place)
        for old in place.iterdir():
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
        try:
            yield
        finally:
            end_all(place)


def check_checkpoints(config: RunConfig) -> None:
    """Refuse a run that ends before its second checkpoint: no fault would come between the first one and its end."""
    every = config.checkpoint_every
    if config.steps < 2 * every:
        raise UsageError(
            f"checkpoint_every = {every}: the rehearsed run ends before its second checkpoint, at step {config.steps}; "
            f"add --rehearsed-steps={CHECKPOINTS * every}, or give the program's own number: --checkpoint-every"
        )


def _requested(config: RunConfig, resources: Resources, profile: str, study: StudyContext) -> Resources:
    """Return what the rehearsal's jobs request: nodes, processes and environment as those of the study, and no GPUs."""
    processes, task = resources.processes, task_of(config)
    if task.is_program:
        launch = task.launch(config.params, gpus_of(resources, profile), processes, resources.nodes or 1)
        processes = launch.get("processes")
    asked = Resources(nodes=resources.nodes, processes=processes, gpus=0)
    if not resources.activate:
        return asked
    check_activation(resources.activate, study.root)
    return asked.model_copy(update={"activate": placed_activation(resources.activate, study.root)})


@contextmanager
def _gpus(config: RunConfig, count: int) -> Iterator[None]:
    """Let {gpus} of a program be what it is in the study's jobs, where this machine has no GPUs."""
    is_used = task_of(config).is_program and "gpus" in read_params(CommandConfig, config.params).used
    with _environment({"SLURM_GPUS_ON_NODE": str(count)} if is_used and count else {}):
        yield


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _cluster(
    chance: random.Random, *, on_lab: bool, nodes: int
) -> Iterator[tuple[Callable[[StudyLayout], Mapping[str, Fault]], str]]:
    """Yield the faults that can be injected into the disturbed run, and the profile by which the run is submitted.

    With `on_lab`, start a private cluster, set the environment so that SLURM_CONF points at it, and remove it at the
    end.
    """
    if not on_lab:
        yield local_faults, "local"
        return
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    try:
        lab.up(LabConfig(nodes=nodes + 1, hold=7, grace=5, kill_wait=3, message_timeout=5))
        with _environment(lab.environment()):
            yield lambda _study: lab_faults(lab, chance), "lab"
    finally:
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)
