"""`lvjobs submit`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.api.submit import prepare_task, prepare_training
from lvjobs.cli.common import json_option, study_option
from lvjobs.cli.entering import SubmitOptions, enter_runs
from lvjobs.cli.settings import (
    fit_options,
    overrides,
    profile_option,
    resource_options,
    run_options,
    train_options,
)
from lvjobs.study.config import load_study


@click.group()
def submit() -> None:
    """Submit a run."""


@submit.command()
@study_option
@profile_option
@train_options
@resource_options
@click.option("--name", help="The run's name (default: made from its settings).")
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@fit_options
@click.option("--evaluate", is_flag=True, help="Forecast and score the held-out series by itself once it is trained.")
@click.option("--wait", is_flag=True, help="Keep making passes until the run has ended or is held.")
@json_option
def train(
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    fit: bool,
    yes: bool,
    evaluate: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit one training. The same settings again are the same run: it is not submitted twice."""
    prepared = prepare_training(load_study(root), overrides(options, pairs, profile), name, evaluate=evaluate)
    enter_runs(prepared, SubmitOptions(dry_run, wait, as_json, fit, yes))


@submit.command()
@click.argument("task", required=False)
@click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Its settings: a TOML file of keys."
)
@study_option
@profile_option
@run_options
@resource_options
@click.option("--name", help="The run's name (default: made from the task and its settings).")
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@fit_options
@click.option("--wait", is_flag=True, help="Keep making passes until the run has ended or is held.")
@json_option
def run(
    task: str | None,
    file: Path | None,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    name: str | None,
    dry_run: bool,
    fit: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit a run of a function of your own, TASK: package.module:function (default: [train] task in study.toml).

    It is marked with @lvjobs.task, which says what it costs, or has its first step made here to count that; see
    docs/tasks.md. The same settings again are the same run: it is not submitted twice.
    """
    prepared = prepare_task(load_study(root), overrides(options, pairs, profile), name, task, file)
    enter_runs(prepared, SubmitOptions(dry_run, wait, as_json, fit, yes))
