"""`lvjobs sweep STAGE`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, json_option, study_option
from lvjobs.cli.entering import enter_runs
from lvjobs.cli.settings import pinned, profile_option, resource_options, settle, train_options
from lvjobs.study.config import load_study


@click.command()
@click.argument("stage")
@study_option
@profile_option
@train_options
@resource_options
@click.option("--dry-run", is_flag=True, help="Print the exact batch script; submit nothing.")
@click.option("--wait", is_flag=True, help="Keep making passes until every run has ended or is held.")
@json_option
def sweep(
    stage: str,
    root: Path,
    profile: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit every cell of STAGE (a [[stage]] of study.toml) as one array; cells that exist are not run again."""
    from lvjobs.control.declare import Wanted, default_name
    from lvjobs.sweep.grid import cells

    study = load_study(root)
    configs = []
    for cell in cells(study.config.stage_named(stage)):
        settings, resources, used_profile = settle(study, dict(options), pairs, profile, dict(cell))
        configs.append(pinned(settings, study).run_config())
    names = [default_name(config, prefix=stage) for config in configs]
    wanted = Wanted(configs, names, stage, used_profile, resources)
    enter_runs(study, wanted, dry_run=dry_run, wait=wait, as_json=as_json, patience=WRITE_WAIT_SECONDS)
