"""`lvjobs resume`."""

from pathlib import Path
from typing import Any

import click

from lvjobs import remedies
from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.settings import carried_options, carried_settings, profile_option, resource_options
from lvjobs.errors import UsageError


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@study_option
@profile_option
@carried_options
@resource_options
@json_option
def resume(root: Path, runs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make a pass and say what it did and why. Held RUNS that are named are resumed with the current code and settings.

    These are the profile and [resources], checkpoint_every and keep_last of study.toml, and what is typed here. What a
    run trains stays as it was declared.
    """
    from lvjobs.control.loop import open_session
    from lvjobs.control.reconcile.run_commands import take_up

    study = existing_study(root)
    typed = carried_settings(study, options)
    if typed and not runs:
        example = remedies.RESUME_SETTINGS(*study.where)
        raise UsageError(f"settings are for runs that are resumed: name them, as in {example}")
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        told = take_up(session, runs, typed, study.where) if runs else []
        summary = session.make_pass()
        summary["did"] = told + summary["did"]
    if as_json:
        print_json(summary)
        return
    tell(summary)
    held = [run["name"] for run in summary["runs"] if run["state"] == "held"]
    if held:
        status, command = remedies.STATUS(*study.where), remedies.RESUME_RUN(*study.where, run=held)
        click.echo(f"held, waiting for you: fix what {status} shows, then: {command}")
    elif not summary["did"]:
        click.echo("nothing to do: every run is ended, or in the cluster's hands")
