"""`lvjobs rehearse`."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lvjobs.api.settings import check_task, own_settings, pinned, settle
from lvjobs.cli.common import json_option, print_found, study_option
from lvjobs.cli.settings import overrides
from lvjobs.cluster.backends import backend_of
from lvjobs.lab import Lab, LabConfig
from lvjobs.rehearsal.conduct import (
    RehearsalReport,
    disturb,
    lab_faults,
    local_faults,
    shortened,
    train_undisturbed,
)
from lvjobs.study.config import load_study
from lvjobs.study.layout import StudyLayout
from lvjobs.study.settings import OwnSettings
from lvjobs.study.tables import Resources
from lvjobs.tasks.activation import check_activation, placed_activation
from lvjobs.tasks.registry import placed

PARTED = 1
"""The exit code if the disturbed run differs from the undisturbed one, or did not complete."""


@click.command()
@click.argument("task", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings of TASK, as TOML.")
@study_option
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any key of study.toml's [train].")
@click.option(
    "--minutes", default=10.0, show_default=True, help="For so long, faults are injected; the run ends later."
)
@click.option("--seed", "chance", default=0, show_default=True, help="Seed of what happens, and when.")
@click.option("--rehearsed-steps", default=60, show_default=True, type=click.IntRange(min=6), help="Steps of the run.")
@click.option("--lab/--local", "on_lab", default=None, help="On a private Slurm, or without.  [default: as the study]")
@json_option
def rehearse(
    task: str | None,
    file: Path | None,
    root: Path,
    pairs: tuple[str, ...],
    minutes: float,
    chance: int,
    rehearsed_steps: int,
    on_lab: bool | None,
    as_json: bool,
) -> None:
    """Try a shortened run here, with everything that a cluster does to jobs, before the real ones are queued.

    What runs is [train] of study.toml, or TASK (package.module:function), a function of your own (docs/tasks.md).

    It is trained twice: left alone; and preempted, killed and robbed of its machine, again and again. The verdict
    says whether both are the same, bit for bit, or where they part (then the exit code is 1). Nothing of it counts
    against the budget, and the study's runs are not touched.
    """
    study, given = load_study(root), overrides({}, pairs, None)
    if task is not None or file is not None or isinstance(study.config.train, OwnSettings):
        settings, resources, profile = settle(study, given, own_settings(study, task, file))
        check_task(study, settings.run_config())
    else:
        settings, resources, profile = settle(study, given)
    config = shortened(placed(pinned(settings, study).run_config(), study.root), rehearsed_steps)
    asked = Resources()
    if resources.activate:
        check_activation(resources.activate, study.root)
        asked = Resources(activate=placed_activation(resources.activate, study.root))
    place = study.layout.internal / "rehearsal"
    on_lab = backend_of(profile).is_site if on_lab is None else on_lab

    def say(text: str) -> None:
        if not as_json:
            click.echo(text)

    alone = train_undisturbed(place / "alone", config, asked, say)
    with _cluster(place / "disturbed", on_lab=on_lab) as (faults, name):
        until = time.monotonic() + 60 * minutes
        verdict = disturb(
            alone, place / "disturbed", name, config, faults, seed=chance, until=until, resources=asked, say=say
        )
    print_found(_as_dict(verdict), _verdict_lines(verdict, place), as_json=as_json)
    sys.exit(0 if verdict.holds else PARTED)


@contextmanager
def _cluster(root: Path, *, on_lab: bool) -> Iterator[tuple[Any, str]]:
    """Yield the faults that can be injected into the disturbed run, and the profile by which the run is submitted.

    With `on_lab`, start a private cluster, set the environment so that SLURM_CONF points at it, and remove it at the
    end.
    """
    if not on_lab:
        yield local_faults(StudyLayout(root)), "local"
        return
    lab = Lab(tempfile.mkdtemp(prefix="lvlab"))
    before = dict(os.environ)
    try:
        lab.up(LabConfig(nodes=2, hold=7, grace=5, kill_wait=3, message_timeout=5))
        os.environ.update(lab.environment())
        yield lab_faults(lab), "lab"
    finally:
        os.environ.clear()
        os.environ.update(before)
        lab.down(purge=True)
        shutil.rmtree(lab.directory, ignore_errors=True)


def _verdict_lines(verdict: RehearsalReport, place: Path) -> Iterator[str]:
    run = verdict.run
    met = ", ".join(f"{what} {count}" for what, count in sorted(verdict.met.items())) or "nothing"
    yield f"it met: {met}; {run['attempts']} attempts, {run['replayed_steps']} steps done again"
    if verdict.holds:
        yield f"verdict: resumed bit for bit: {run['steps']} steps and the final weights are those of the run alone"
        return
    if run["state"] != "completed":
        yield f"verdict: it did not end: {run['state']} at step {run['step']}: {run['reason']}"
    for difference in verdict.differences:
        yield f"verdict: not the same: {difference}"
    yield f"the two runs are in {place}: compare their journals, and see docs/rehearsal.md for what loses state"


def _as_dict(verdict: RehearsalReport) -> dict[str, Any]:
    return {
        "schema": 1,
        "holds": verdict.holds,
        "met": dict(verdict.met),
        "attempts": verdict.run["attempts"],
        "state": verdict.run["state"],
        "steps": verdict.run["steps"],
        "replayed_steps": verdict.run["replayed_steps"],
        "differences": [asdict(each) for each in verdict.differences],
    }
