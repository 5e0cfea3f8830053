"""`lvjobs submit`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import WRITE_WAIT_SECONDS, json_option, study_option
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.own import check_task, own_settings
from lvjobs.cli.settings import (
    fit_options,
    pinned,
    profile_option,
    resource_options,
    run_options,
    settle,
    settle_own,
    train_options,
)
from lvjobs.errors import UsageError
from lvjobs.study.config import load_study
from lvjobs.study.run import RunConfig
from lvjobs.study.settings import OwnSettings


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
    from lvjobs.cli.evaluate import evaluation_to_come
    from lvjobs.control.submission.declare import Wanted, default_name

    study = load_study(root)
    if isinstance(study.config.train, OwnSettings):
        command = remedies.SUBMIT_TASK(*study.where)
        raise UsageError(f"[train] in study.toml has a task of its own; type: {command}")
    settings, resources, used_profile = settle(study, options, pairs, profile)
    config = pinned(settings, study).run_config()

    def name_of(config: RunConfig) -> str:
        return name or default_name(config)

    wanted = Wanted([config], [name_of(config)], "train", used_profile, resources, is_named=bool(name))
    manner = Manner(dry_run, wait, as_json, fit, yes, WRITE_WAIT_SECONDS)
    enter_runs(study, wanted, name_of, manner, partial(evaluation_to_come, study) if evaluate else None)


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
    from lvjobs.control.submission.declare import Wanted, default_name

    study = load_study(root)
    base = own_settings(study, task, file)
    settings, resources, used_profile = settle_own(study, base, options, pairs, profile)
    config = settings.run_config()
    check_task(study, config)

    def name_of(config: RunConfig) -> str:
        return name or default_name(config)

    wanted = Wanted([config], [name_of(config)], "run", used_profile, resources, is_named=bool(name))
    manner = Manner(dry_run, wait, as_json, fit, yes, WRITE_WAIT_SECONDS)
    enter_runs(study, wanted, name_of, manner)
