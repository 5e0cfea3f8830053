"""`lvjobs cancel`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_update, study_option
from lvjobs.cli.completion import complete_runs


@click.command()
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_runs)
@study_option
@json_option
def cancel(root: Path, runs: tuple[str, ...], as_json: bool) -> None:
    """End RUNS for good. Their checkpoints stay."""
    print_update(Study.open(root).cancel(*runs), as_json=as_json)
