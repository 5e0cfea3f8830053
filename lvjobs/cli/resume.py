"""`lvjobs resume`."""

from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.api.study import Study
from lvjobs.api.updates import resume as resume_runs
from lvjobs.cli.common import json_option, print_update, study_option
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.settings import carried_options, overrides, profile_option, resource_options


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@study_option
@profile_option
@carried_options
@resource_options
@json_option
def resume(
    root: Path, runs: tuple[str, ...], profile: str | None, pairs: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Make a pass and say what it did and why. Held RUNS that are named are resumed with the current code and settings.

    These are the profile and [resources], checkpoint_every and keep_last of study.toml, and what is typed here. What a
    run trains stays as it was declared.
    """
    study = Study.open(root)
    given = overrides(options, pairs, profile)
    status = resume_runs(study, runs, given)
    print_update(status, as_json=as_json)
    if as_json:
        return
    held = [run["name"] for run in status.summary["runs"] if run["state"] == "held"]
    if held:
        shown, command = remedies.STATUS(*study.where), remedies.RESUME_RUN(*study.where, run=held)
        click.echo(f"held, waiting for you: fix what {shown} shows, then: {command}")
    elif not status.changes:
        click.echo("nothing to do: every run is ended, or in the cluster's hands")
