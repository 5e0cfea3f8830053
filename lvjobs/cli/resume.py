"""`lvjobs resume`."""

from pathlib import Path
from typing import Any

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell
from lvjobs.cli.completion import complete_runs
from lvjobs.cli.settings import given_resources, resource_options
from lvjobs.study.config import validated
from lvjobs.study.tables import Resources


@click.command()
@click.argument("runs", nargs=-1, shell_complete=complete_runs)
@study_option
@resource_options
@json_option
def resume(root: Path, runs: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make a pass and say what it did and why. Held RUNS that are named are taken up, with the code as it is now."""
    from lvjobs.control.command import take_up
    from lvjobs.control.loop import open_session

    study = existing_study(root)
    resources = given_resources(options)
    validated(Resources, resources, "resources")
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        told = take_up(session, runs, resources) if runs else []
        summary = session.make_pass()
        summary["did"] = told + summary["did"]
    if as_json:
        print_json(summary)
        return
    tell(summary)
    held = [run["name"] for run in summary["runs"] if run["state"] == "held"]
    if held:
        click.echo(f"held, waiting for you: {', '.join(held)}; see lvjobs status, then: lvjobs resume RUN")
    elif not summary["did"]:
        click.echo("nothing to do: every run is ended, or in the cluster's hands")
