"""`lvjobs sweep STAGE`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, json_option, study_option
from lvjobs.cli.entering import Manner, enter_runs
from lvjobs.cli.settings import fit_options, pinned, profile_option, resource_options, stage_configs, train_options
from lvjobs.study.config import load_study
from lvjobs.study.run import RunConfig


@click.command()
@click.argument("stage")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--dry-run", is_flag=True, help="Print the exact batch script and the cost; submit nothing.")
@fit_options
@click.option("--wait", is_flag=True, help="Keep making passes until every run has ended or is held.")
@json_option
def sweep(
    stage: str,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    fit: bool,
    yes: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit every cell of STAGE (a [[stage]] of study.toml) as one array; cells that exist are not run again."""
    from lvjobs.control.declare import Wanted, default_name

    study = load_study(root)
    configs, resources, used_profile = stage_configs(
        study, study.config.stage_named(stage), options, pairs, profile, pinned
    )

    def name_of(config: RunConfig) -> str:
        return default_name(config, prefix=stage)

    wanted = Wanted(configs, [name_of(config) for config in configs], stage, used_profile, resources)
    enter_runs(study, wanted, name_of, Manner(dry_run, wait, as_json, fit, yes, WRITE_WAIT_SECONDS))
