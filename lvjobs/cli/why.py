"""`lvjobs why`."""

from pathlib import Path

import click

from lvjobs.api.study import Study
from lvjobs.cli.common import json_option, print_json, study_option, tell_problems
from lvjobs.cli.completion import complete_runs


@click.command()
@click.argument("run", shell_complete=complete_runs)
@study_option
@json_option
def why(root: Path, run: str, as_json: bool) -> None:
    """Say why RUN stands as it does: what happened, with the evidence; what follows; what you can type.

    Enough of its name will do, such as the four characters at its end. Of a run whose job waits Slurm is asked what
    would start sooner (as lvjobs queue does); nothing is submitted or changed.
    """
    explained = Study.open(root).why(run)
    if as_json:
        print_json(explained.to_dict())
    else:
        from lvjobs.report.terminal.history_lines import print_why

        tell_problems(explained.status)
        print_why(explained.to_dict())
