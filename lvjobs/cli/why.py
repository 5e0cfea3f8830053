"""`lvjobs why`."""

from pathlib import Path

import click

from lvjobs.cli.common import WRITE_WAIT_SECONDS, existing_study, json_option, print_json, study_option, tell_problems
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
    from lvjobs.control.inspect.why import why as explain
    from lvjobs.control.loop import open_session
    from lvjobs.control.summary import find_row

    study = existing_study(root)
    with open_session(study, wait=WRITE_WAIT_SECONDS) as session:
        summary = session.make_pass()
        row = find_row(summary, run, study.where)
        told = {"schema": 1, "run": row, **explain(session, row).to_dict()}
    if as_json:
        print_json(told)
        return
    from lvjobs.report.story import print_why

    tell_problems(summary)
    print_why(told)
